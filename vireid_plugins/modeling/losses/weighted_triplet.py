"""Triplet losses that weight all pairs of an anchor, with one core and three reductions.

They are AGW's weighted regularized triplet (Ye et al., PAMI 2022, arXiv 2001.04193), its hinge
form, the adaptive-weight triplet, and the signed-square form of channel-augmented joint learning
(Ye et al., ICCV 2021).

Shapes: B rows, A anchors, D feature size.
"""

from typing import Callable, Dict, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ...keys import SWITCH, Key, above, at_least, declare, one_of
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision
from .pairs import anchor_rows, pair_masks, pairwise_distances, zero_of

# The public code clips here, where exp() of a float32 is about to overflow.
_SQUARE_LIMIT = 88.0
# What the public code adds to the sum of the weights, and its lower bound of a distance.
_LEGACY_SUM = 1e-6
_LEGACY_DISTANCE = 1e-6


def _softplus(difference: Tensor, gamma: float, margin: float) -> Tensor:
    return F.softplus(gamma * difference)


def _hinge(difference: Tensor, gamma: float, margin: float) -> Tensor:
    return F.relu(gamma * difference + margin)


def _signed_square(difference: Tensor, gamma: float, margin: float) -> Tensor:
    square = gamma * difference * difference.abs()
    return F.softplus(square.clamp(-_SQUARE_LIMIT, _SQUARE_LIMIT))


_REDUCTIONS: Dict[str, Callable[[Tensor, float, float], Tensor]] = {
    "softplus": _softplus,
    "hinge": _hinge,
    "signed_square": _signed_square,
}


declare(
    "MODEL.LOSSES.WEIGHTED_TRIPLET",
    Key("REDUCTION", "softplus", one_of(*_REDUCTIONS), "softplus: AGW; signed_square: CAJ"),
    Key("MARGIN", 1.0, at_least(0), "Euclidean distance, for hinge only (alpha of its Eq. 15)"),
    Key("ALPHA", 1.0, at_least(0), "temperature of the weights"),
    Key("GAMMA", 1.0, above(0), "factor on the difference mu of an anchor, or on its square"),
    Key("LEGACY_WEIGHTS", False, SWITCH, "weights of the public code, which can vanish"),
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class WeightedTripletLoss(Loss):
    """Mean over anchors of a reduction of ``mu = sum_p w_p d(a, p) - sum_n w_n d(a, n)``.

    ``w_p`` is the softmax of ``alpha * d`` over the anchor's positives, ``w_n`` that of
    ``-alpha * d`` over its negatives: far positives and near negatives weigh most. Gradients
    flow through the weights too, as in the public code. An anchor without a positive or without
    a negative is left out of the mean.

    Args:
        reduction: ``"softplus"``: log(1 + exp(gamma mu)) (AGW); ``"hinge"``:
            [gamma mu + margin]_+ (adaptive-weight triplet); ``"signed_square"``:
            log(1 + exp(sign(mu) min(gamma mu^2, 88))) (CAJ), which has no gradient beyond 88.
        margin: Euclidean distance, used by ``"hinge"`` only.
        alpha: temperature of the weights.
        gamma: factor on the difference mu, or on its square.
        legacy_weights: use the weights of the common public code and of FastReID's
            ``triplet_loss(hard_mining=False)``: each anchor is a positive of itself, and the
            negative weights vanish where distances are far above 14, because 1e-6 is added to
            a sum that is not scaled. Use them only to reproduce published numbers.

    Raises:
        UserError: ``reduction`` is unknown.
    """

    log_name = "loss_weighted_triplet"
    config_node = "WEIGHTED_TRIPLET"

    def __init__(
        self,
        reduction: str = "softplus",
        margin: float = 1.0,
        alpha: float = 1.0,
        gamma: float = 1.0,
        legacy_weights: bool = False,
    ) -> None:
        super().__init__()
        self.check(reduction=reduction)
        self.reduction = reduction
        self.margin = margin
        self.alpha = alpha
        self.gamma = gamma
        self.legacy_weights = legacy_weights

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,), a scalar."""
        positives, negatives = pair_masks(targets)
        if self.legacy_weights:
            positives = ~negatives
        anchors = anchor_rows(positives, negatives)
        if len(anchors) == 0:
            return zero_of(x)
        distances = pairwise_distances(x)
        weigh = masked_softmax
        if self.legacy_weights:
            distances, weigh = distances.clamp_min(_LEGACY_DISTANCE), legacy_softmax
        distances, positives, negatives = (
            rows[anchors] for rows in (distances, positives, negatives)
        )
        positive_weights = weigh(self.alpha * distances, positives)
        negative_weights = weigh(-self.alpha * distances, negatives)
        difference = ((positive_weights - negative_weights) * distances).sum(dim=1)
        reduce = _REDUCTIONS[self.reduction]
        return reduce(difference, self.gamma, self.margin).mean()


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Apply softmax to the entries of each row of ``scores`` (A, B) in ``mask``; others are zero.

    Every row of ``mask`` (A, B) must have a True.
    """
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=1)


def legacy_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Compute the weights as the public code does, instead of :func:`masked_softmax`.

    That code subtracts the row's maximum of ``scores * mask``, which for scores that are all
    negative is a masked-out zero, and adds 1e-6 to the sum; the rows then sum to less than one.
    """
    masked = scores.masked_fill(~mask, 0.0)
    powers = torch.exp(masked - masked.amax(dim=1, keepdim=True)).masked_fill(~mask, 0.0)
    return powers / (powers.sum(dim=1, keepdim=True) + _LEGACY_SUM)
