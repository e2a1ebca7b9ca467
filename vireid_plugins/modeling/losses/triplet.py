"""Batch-hard triplet loss (Hermans et al., 2017, arXiv 1703.07737).

Shapes: B rows, D feature size.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ...keys import Key, at_least, declare
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision
from .pairs import hardest_rows, hardest_triplets, pair_masks, pairwise_distances, zero_of

MOST_ROWS = 2048  # above it, no matrix of all pairs is made

declare(
    "MODEL.LOSSES.BATCH_HARD",
    Key("MARGIN", 0.3, at_least(0), "margin, a Euclidean distance (rho)"),
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class BatchHardTripletLoss(Loss):
    """Mean over anchors of ``[margin + max_p d(a, p) - min_n d(a, n)]_+``.

    Positives and negatives come from both modalities. An anchor without another row of its
    identity, or without a row of another identity, is left out of the mean.

    Args:
        margin: Euclidean distance.
    """

    log_name = "loss_batch_hard"
    config_node = "BATCH_HARD"

    def __init__(self, margin: float = 0.3) -> None:
        super().__init__()
        self.margin = margin

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,), a scalar."""
        if len(x) > MOST_ROWS:
            return self._of_many(x, targets)
        terms = hardest_triplets(pairwise_distances(x), *pair_masks(targets), self.margin)
        return terms.mean() if len(terms) else zero_of(x)

    def _of_many(self, x: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of many rows without a matrix of all pairs."""
        anchors, positive, negative = hardest_rows(x, targets)
        if len(anchors) == 0:
            return zero_of(x)
        far, near = (
            torch.linalg.vector_norm(x[anchors] - x[rows], dim=1) for rows in (positive, negative)
        )
        return F.relu(self.margin + far - near).mean()
