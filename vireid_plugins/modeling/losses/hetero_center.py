"""Hetero-center triplet loss (Liu et al., IEEE TMM 2021, arXiv 2008.06223).

Shapes: B rows, D feature size, M centers, P identities.
"""

from typing import Optional

from torch import Tensor

from ...keys import Key, at_least, declare, one_of
from ...modality import identity_centers
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision, require_modalities
from .pairs import hardest_triplets, pair_masks, pairwise_distances, zero_of

declare(
    "MODEL.LOSSES.HETERO_CENTER",
    Key("MARGIN", 0.3, at_least(0), "margin, a Euclidean distance (rho)"),
    Key("REDUCTION", "mean", one_of("mean", "sum"), "over the 2 P centers; in the paper: sum"),
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class HeteroCenterTripletLoss(Loss):
    """Compute triplets of the 2P centers c: ``[margin + d(c, c') - min_n d(c, c_n)]_+``.

    A center is the mean feature of an identity's images in one modality; c' is the same
    identity's center in the other modality, c_n runs over the other identities' centers in both.
    The public code takes identity and modality from the position of a row; here they come from
    ``targets`` and ``modalities``, with the same value on an ordered batch. An identity with images
    of only one modality gives no triplet, but its center is still a negative of the others.

    Features are not normalized. An active triplet pulls and pushes its centers with gradients of
    length 1 whatever the features' length is, and ``margin`` is in their unit. In the first
    iterations of a short training this can be nine tenths of the whole gradient
    (``configs/mrda/README.md``); ``MODEL.LOSSES.HETERO_CENTER.SCALE`` weighs it.

    Args:
        margin: Euclidean distance (rho).
        reduction: ``"mean"`` over the centers (the public code) or ``"sum"`` (the paper).

    Raises:
        UserError: ``reduction`` is unknown.
    """

    inputs = ("features", "targets", "modalities")
    log_name = "loss_hetero_center"
    config_node = "HETERO_CENTER"

    def __init__(self, margin: float = 0.3, reduction: str = "mean") -> None:
        super().__init__()
        self.check(reduction=reduction)
        self.margin, self.reduction = margin, reduction

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D), with (B,) labels each; a scalar.

        Raises:
            UserError: ``modalities`` is missing, has another length or holds unknown numbers.
        """
        modalities = require_modalities("HeteroCenterTripletLoss", modalities, len(x))
        centers = identity_centers(x, targets, modalities)  # Eq. (19) of MRDA
        masks = pair_masks(centers.targets)  # the one positive is the other center
        distances = pairwise_distances(centers.features)
        terms = hardest_triplets(distances, *masks, self.margin)  # Eq. (20) of MRDA
        if len(terms) == 0:
            return zero_of(x)
        return terms.sum() if self.reduction == "sum" else terms.mean()
