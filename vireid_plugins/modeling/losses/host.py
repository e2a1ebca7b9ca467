"""FastReID's losses under their own names: they call its functions and read its own keys.

The values are FastReID's, even where an anchor has no positive or no negative; only the precision
differs (see ``base.full_precision``).

Shapes: B rows, D feature size, N identities.
"""

from typing import Optional

from torch import Tensor

from fastreid.modeling.losses import (
    cross_entropy_loss,
    focal_loss,
    pairwise_circleloss,
    pairwise_cosface,
    triplet_loss,
)

from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision


@LOSS_REGISTRY.register()
class CrossEntropyLoss(Loss):
    """FastReID's cross-entropy.

    Args:
        epsilon: smoothing, spread over the N - 1 other identities; -1: adaptive smoothing.
        alpha: factor on the label's probability in adaptive smoothing.
    """

    inputs = ("logits", "targets")
    log_name = "loss_cls"
    config_node = "CE"

    def __init__(self, epsilon: float = 0.0, alpha: float = 0.2) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.alpha = alpha

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of logits ``x`` (B, N) for ``targets`` (B,), a scalar."""
        return cross_entropy_loss(x, targets, self.epsilon, self.alpha)


@LOSS_REGISTRY.register()
class FocalLoss(Loss):
    """FastReID's focal loss, computed in float64.

    The host multiplies the logarithm of a softmax by zeros; in float32 that is NaN as soon as
    two logits of a row are about 100 apart, in float64 only at 700.

    Args:
        alpha: factor on the loss.
        gamma: focusing exponent.
    """

    inputs = ("logits", "targets")
    log_name = "loss_focal"
    config_node = "FL"

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        self.alpha = alpha
        self.gamma = gamma

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of logits ``x`` (B, N) for ``targets`` (B,), a scalar."""
        return focal_loss(x.double(), targets, self.alpha, self.gamma).to(x.dtype)


@LOSS_REGISTRY.register()
class TripletLoss(Loss):
    """FastReID's triplet loss: batch-hard or weighted, hinge (margin > 0) or soft margin.

    Each anchor counts as a positive of itself. :class:`WeightedTripletLoss` and
    :class:`BatchHardTripletLoss` do not count it, and stay exact at large distances.

    Args:
        margin: Euclidean distance; 0: soft margin.
        norm_feat: use squared distances of features of length 1.
        hard_mining: use the hardest pairs instead of weighted ones.
    """

    log_name = "loss_triplet"
    config_node = "TRI"

    def __init__(
        self, margin: float = 0.3, norm_feat: bool = False, hard_mining: bool = False
    ) -> None:
        super().__init__()
        self.margin = margin
        self.norm_feat = norm_feat
        self.hard_mining = hard_mining

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,), a scalar."""
        return triplet_loss(x, targets, self.margin, self.norm_feat, self.hard_mining)


class _PairLoss(Loss):
    """A pairwise loss of the host on unit-length features, with a margin and a scale gamma."""

    def __init__(self, margin: float = 0.25, gamma: float = 128.0) -> None:
        super().__init__()
        self.margin = margin
        self.gamma = gamma


@LOSS_REGISTRY.register()
class CircleLoss(_PairLoss):
    """FastReID's pairwise circle loss.

    Args:
        margin: relaxation of the similarities, 0..1.
        gamma: scale of the similarities.
    """

    log_name = "loss_circle"
    config_node = "CIRCLE"

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,), a scalar."""
        return pairwise_circleloss(x, targets, self.margin, self.gamma)


@LOSS_REGISTRY.register()
class Cosface(_PairLoss):
    """FastReID's pairwise CosFace loss.

    Args:
        margin: added to the similarity of each negative, 0..1.
        gamma: scale of the similarities.
    """

    log_name = "loss_cosface"
    config_node = "COSFACE"

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,), a scalar."""
        return pairwise_cosface(x, targets, self.margin, self.gamma)
