"""MSCLNet's losses on pairs of a visible and an infrared image, and on their synergy features.

The equations are numbered as in MSCLNet (Zhang et al., ECCV 2022). The losses compare tensors that
only that method has, so ``MODEL.LOSSES.NAME`` cannot list them.

Shapes: n pairs (or synergy features, one of each pair), R parts, D feature size, N identities.
"""

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, check_values, declare, one_of
from ...modality import group_means
from ..precision import at_least_float32, without_autocast
from .pairs import unit, zero_of

_EPSILON = 1e-6


declare(
    "MODEL.LOSSES.DIVERSITY",
    Key("OF", "classes", one_of("classes", "channels"), "what L_div compares: logits, or features"),
    Key("CLAMP", 5.0, at_least(0), "largest divergence of a pair that counts, nats; 0: no bound"),
    Key("START_EPOCH", 10, at_least(0), "first epoch, from 0, with L_div"),
    Key("SCALE", 0.5, at_least(0), "weight of L_div (lambda_div); 0: off"),
)
declare(
    "MODEL.LOSSES.LOCAL_COMPLEMENT",
    Key("LITERAL", False, SWITCH, "use the printed sign of the cosine, which pushes parts away"),
    Key("SCALE", 0.8, at_least(0), "weight of L_local (lambda_local); 0: off"),
)
declare(
    "MODEL.LOSSES.GLOBAL_COMPLEMENT",
    Key("NORMALISE", True, SWITCH, "compare centers of features of length 1; False: as printed"),
    Key("SCALE", 1.5, at_least(0), "weight of L_global (lambda_global); 0: off"),
)


class DiversityLoss(nn.Module):
    """L_div (Eq. 3): minus the mean over pairs of ``KL(p_visible || p_infrared)``.

    The paper prints the divergence of raw features, which are not distributions; its text speaks of
    their "logistic distribution", which is read here as the softmax of the given scores.

    Args:
        clamp: largest divergence of a pair that counts, in nats; above it there is no gradient.
            0: no bound, as printed; the loss then has no lower bound.

    Raises:
        UserError: ``clamp`` is negative.
    """

    log_name = "loss_diversity"

    def __init__(self, clamp: float = 5.0) -> None:
        super().__init__()
        check_values("MODEL.LOSSES.DIVERSITY", "DiversityLoss", CLAMP=clamp)
        self.clamp = clamp

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Compute the loss of the scores (n, N), before softmax, of both images of each pair."""
        _require_alike("DiversityLoss", visible, infrared)
        visible, infrared = at_least_float32(visible), at_least_float32(infrared)
        if len(visible) == 0:
            return zero_of(visible) + zero_of(infrared)
        with without_autocast(visible):
            log_visible, log_infrared = visible.log_softmax(1), infrared.log_softmax(1)
            divergence = (log_visible.exp() * (log_visible - log_infrared)).sum(dim=1)
            if self.clamp > 0:
                divergence = divergence.clamp(max=self.clamp)
            return -divergence.mean()


class LocalComplementLoss(nn.Module):
    """L_local (Eq. 6) draws the parts of synergy features to the same parts of visible images.

    It is the mean over pairs of the sum over parts of ``c + sqrt(2 - 2 cos)``, where c is ``1 -
    cos``, or ``cos`` in the printed form. The printed form has its maximum, 1.5, at cos = 1/2, and
    is 1 at both cos = 1 and cos = -1: below 1/2 it drives the parts apart.

    With unit vectors a, b, ``2 - 2 cos = |a - b|^2``, which rounding never takes below 0. The
    gradient of the root is finite at cos = 1: a small number is added under the root or, in the
    literal form, it is the gradient of a norm.

    Args:
        literal: use the printed sign of cos.
    """

    log_name = "loss_local"

    def __init__(self, literal: bool = False) -> None:
        super().__init__()
        self.literal = literal

    def forward(self, visible_parts: Tensor, synergy_parts: Tensor) -> Tensor:
        """Compute the loss of b^v and b^s, (n, R, D) each, a scalar."""
        _require_alike("LocalComplementLoss", visible_parts, synergy_parts)
        visible_parts, synergy_parts = (
            at_least_float32(visible_parts),
            at_least_float32(synergy_parts),
        )
        if len(synergy_parts) == 0:
            return zero_of(visible_parts) + zero_of(synergy_parts)
        with without_autocast(synergy_parts):
            apart = unit(visible_parts) - unit(synergy_parts)
            squares = apart.square().sum(dim=2)  # 2 - 2 cos
            if self.literal:
                terms = 1 - squares / 2 + torch.linalg.vector_norm(apart, dim=2)
            else:
                terms = squares / 2 + (squares + _EPSILON).sqrt()
            return terms.sum(dim=1).mean()


class GlobalComplementLoss(nn.Module):
    """L_global (Eq. 7): mean over synergy features of ``|C^s_y - C^r_y|^2``.

    C^s and C^r are the means of an identity's synergy features and of its infrared images'.

    Args:
        normalise: compare centers of L2-normalized features; False: as printed. The state of an
            LSTM is in (-1, 1), which features of a network need not be.
    """

    log_name = "loss_global"

    def __init__(self, normalise: bool = True) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(
        self,
        synergy: Tensor,
        synergy_targets: Tensor,
        infrared: Tensor,
        infrared_targets: Tensor,
    ) -> Tensor:
        """Compute the loss of synergy features (n, D) and infrared features (m, D).

        Raises:
            UserError: sizes D differ, or a synergy feature's identity has no infrared row.
        """
        if synergy.shape[1:] != infrared.shape[1:]:
            raise UserError(
                "GlobalComplementLoss compares features of one size; got synergy features "
                f"{tuple(synergy.shape)} and infrared ones {tuple(infrared.shape)}. MSCLNet needs "
                "a head whose features are the pooled map: BNNeckHead, EMBEDDING_DIM 0."
            )
        synergy, infrared = at_least_float32(synergy), at_least_float32(infrared)
        if len(synergy) == 0:
            return zero_of(synergy) + zero_of(infrared)
        if not bool(torch.isin(synergy_targets, infrared_targets).all()):
            raise UserError(
                "GlobalComplementLoss: each identity of synergy_targets must be one of "
                f"infrared_targets; got {synergy_targets.unique().tolist()} and "
                f"{infrared_targets.unique().tolist()}."
            )
        with without_autocast(synergy):
            if self.normalise:
                synergy, infrared = unit(synergy), unit(infrared)
            of_synergy = group_means(synergy, synergy_targets)
            of_infrared = group_means(infrared, infrared_targets)
            same = torch.searchsorted(
                of_infrared.labels[:, 0].contiguous(), of_synergy.labels[:, 0].contiguous()
            )
            apart = of_synergy.features - of_infrared.features[same]
            return apart.square().sum(dim=1)[of_synergy.group_of].mean()


def _require_alike(owner: str, visible: Tensor, other: Tensor) -> None:
    if visible.shape != other.shape:
        raise UserError(
            f"{owner} compares tensors of one shape, pair by pair; got {tuple(visible.shape)} and "
            f"{tuple(other.shape)}."
        )
