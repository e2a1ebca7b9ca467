"""CMTR's modality-aware losses (Liang et al., arXiv 2110.08994): a center loss and an ID loss.

In CMTR they see features from which the modality is removed (``meta_arch/cmtr.py``); in any other
method they see ``features`` as they are.

Shapes: B rows, D feature size, N identities.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import CfgNode

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, declare, one_of
from ...modality import group_means
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision, require_modalities

_LEAST = 1e-12  # squared distances are at least this large, so that the root has a gradient
_STD = 0.01  # of the initial weights of FC_id, as of the head's classifier

declare(
    "MODEL.LOSSES.MODALITY_AWARE_CENTER",
    Key(
        "CENTER",
        "both",
        one_of("both", "per_modality"),
        "images that a center averages: of the identity in both modalities, or in one",
    ),
    Key("SCALE", 1.0, at_least(0), "weight of L_MAC in the sum of losses"),
)
declare(
    "MODEL.LOSSES.MODALITY_AWARE_ID",
    Key("SHARED", False, SWITCH, "use the head's classifier; False: FC_id has weights of its own"),
    Key("SMOOTHING", 0.0, at_least(0, below=1), "probability spread over all identities"),
    Key("SCALE", 1.0, at_least(0), "weight of L_MAID in the sum of losses"),
)


@LOSS_REGISTRY.register()
class ModalityAwareCenterLoss(Loss):
    """L_MAC: the mean over rows of ``log(1 + exp d(g, c))``, with c the center of g's identity.

    d is the Euclidean distance. A row at its center has the loss log 2, which is the least: the
    term never comes to 0. The slope is 1/2 there and goes to 1, so far rows are pulled with
    nearly equal force.

    The paper prints a sum over rows; here it is a mean, so that its weight does not depend on the
    size of the batch.

    Args:
        center: ``"both"``: a center is the mean of all rows of an identity. ``"per_modality"``: of
            those in one modality, as the superscript m in the paper says. Then no term couples the
            modalities, and whatever is the same in all rows of a modality cancels in g - c.

    Raises:
        UserError: ``center`` is unknown.
    """

    inputs: Tuple[str, ...] = ("features", "targets")
    log_name = "loss_modality_aware_center"
    config_node = "MODALITY_AWARE_CENTER"
    only_pulls = True

    def __init__(self, center: str = "both") -> None:
        super().__init__()
        self.check(center=center)
        self.per_modality = center == "per_modality"
        if self.per_modality:
            self.inputs = (*type(self).inputs, "modalities")

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,), a scalar.

        Raises:
            UserError: centers are per modality, but ``modalities`` (B,) are missing or unknown.
        """
        if self.per_modality:
            known = require_modalities(type(self).__name__, modalities, len(x))
            centers = group_means(x, targets, known)
        else:
            centers = group_means(x, targets)  # f_c of an identity
        squares = (x - centers.features[centers.group_of]).square().sum(dim=1)
        distances = squares.clamp(min=_LEAST).sqrt()  # D(., .)
        return F.softplus(distances).mean()  # L_MAC: log(1 + exp D)


@LOSS_REGISTRY.register()
class ModalityAwareIdentityLoss(Loss):
    """L_MAID: the mean cross-entropy of a bias-free linear classifier on the features.

    Args:
        num_classes: N.
        feat_dim: D.
        shared: take the logits of the head's classifier; then the loss has no weights.
        smoothing: probability spread evenly over all N identities, 0 to below 1; printed: 0.

    Attributes:
        weight: (N, D), the classifier FC_id; None if ``shared``.

    Raises:
        UserError: a number is out of its range.
    """

    inputs: Tuple[str, ...] = ("features", "targets")
    log_name = "loss_modality_aware_id"
    keeps_classes = True
    config_node = "MODALITY_AWARE_ID"

    def __init__(
        self, num_classes: int, feat_dim: int, shared: bool = False, smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.check(smoothing=smoothing)
        if num_classes < 1 or feat_dim < 1:
            raise UserError(
                f"{type(self).__name__} needs at least one identity (MODEL.HEADS.NUM_CLASSES) and "
                "one feature (MODEL.HEADS.EMBEDDING_DIM, or MODEL.BACKBONE.FEAT_DIM); got "
                f"num_classes={num_classes}, feat_dim={feat_dim}."
            )
        self.smoothing = smoothing
        self.weight: Optional[nn.Parameter] = None
        if shared:
            self.inputs = ("logits", "targets")
        else:
            self.weight = nn.Parameter(torch.empty(num_classes, feat_dim))
            nn.init.normal_(self.weight, std=_STD)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ModalityAwareIdentityLoss":
        """Read ``MODEL.LOSSES.MODALITY_AWARE_ID`` and the sizes of ``MODEL.HEADS``."""
        node = cls.node(cfg)
        return cls(
            num_classes=cfg.MODEL.HEADS.NUM_CLASSES,
            feat_dim=cfg.MODEL.HEADS.EMBEDDING_DIM or cfg.MODEL.BACKBONE.FEAT_DIM,
            shared=node.SHARED,
            smoothing=node.SMOOTHING,
        )

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D), or logits (B, N) if ``shared``, a scalar.

        Raises:
            UserError: the features are not of the size D.
        """
        if self.weight is None:
            return F.cross_entropy(x, targets, label_smoothing=self.smoothing)
        if x.shape[1:] != self.weight.shape[1:]:
            raise UserError(
                f"{type(self).__name__} classifies features of {self.weight.shape[1]} numbers "
                f"(MODEL.HEADS.EMBEDDING_DIM, or the width of the backbone); this head gives "
                f"{list(x.shape[1:])}. Set MODEL.HEADS.NAME BNNeckHead."
            )
        logits = F.linear(x, self.weight)  # FC_id
        return F.cross_entropy(logits, targets, label_smoothing=self.smoothing)  # L_MAID
