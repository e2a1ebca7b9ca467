"""Distances and masks between the rows of a batch.

Shapes: B rows, A anchors (the rows that a loss can use), D feature size.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK_ROWS = 512


def pairwise_distances(features: Tensor) -> Tensor:
    """Return the Euclidean distances between all rows of ``features`` (B, D): (B, B).

    Differences are squared one by one. The usual ``x^2 + y^2 - 2xy`` is faster but loses digits:
    in float32 a row then has a distance to itself, and under TF32 all distances are coarse. Here
    the distance of equal rows is exactly 0, and so is its gradient.
    """
    return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")


def unit(features: Tensor) -> Tensor:
    """Scale features (..., D) to length 1; features shorter than 1e-6 are divided by 1e-6.

    PyTorch's own limit, 1e-12, would give a feature of length 0 a gradient of 1e12.
    """
    return F.normalize(features, dim=-1, eps=1e-6)


def pair_masks(targets: Tensor) -> Tuple[Tensor, Tensor]:
    """Find the pairs of rows that share an identity, and those that do not.

    Args:
        targets: (B,).

    Returns:
        ``positives`` (B, B) bool, without the diagonal, and ``negatives`` (B, B) bool.
    """
    same = targets.unsqueeze(0) == targets.unsqueeze(1)
    own = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    return same & ~own, ~same


def anchor_rows(positives: Tensor, negatives: Tensor) -> Tensor:
    """Return the numbers (A,) of the rows of both masks (B, B) with a positive and a negative.

    This waits for a GPU once, to learn A; indexing by a mask would wait every time.
    """
    return torch.nonzero(positives.any(dim=1) & negatives.any(dim=1))[:, 0]


def farthest(distances: Tensor, mask: Tensor) -> Tensor:
    """Return the largest distance of each row within ``mask``: (A, B), (A, B) -> (A,).

    Every row of ``mask`` must have a True. Equal extremes share the gradient, so it does not depend
    on their order.
    """
    return distances.masked_fill(~mask, -torch.inf).amax(dim=1)


def nearest(distances: Tensor, mask: Tensor) -> Tensor:
    """Return the smallest distance of each row within ``mask``, as :func:`farthest` does."""
    return distances.masked_fill(~mask, torch.inf).amin(dim=1)


def hardest_triplets(
    distances: Tensor, positives: Tensor, negatives: Tensor, margin: float
) -> Tensor:
    """Return ``[margin + max_p d(a, p) - min_n d(a, n)]_+`` of each anchor a: (A,).

    A row without a positive or without a negative is no anchor.

    Args:
        distances: (R, B), those of R rows to B rows.
        positives, negatives: (R, B) bool.
        margin: a distance.
    """
    anchors = anchor_rows(positives, negatives)
    if len(anchors) == 0:
        return distances.new_zeros(0)
    distances = distances[anchors]
    hardest_positive = farthest(distances, positives[anchors])
    hardest_negative = nearest(distances, negatives[anchors])
    return F.relu(margin + hardest_positive - hardest_negative)


def mean_within(distances: Tensor, mask: Tensor) -> Tensor:
    """Return the mean distance of each row within ``mask``: (A, B), (A, B) -> (A,).

    A row of ``mask`` without a True gives 0.
    """
    return (distances * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


@torch.no_grad()
def hardest_rows(features: Tensor, targets: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Return anchors, and for each its farthest positive and its nearest negative: (A,) numbers.

    Distances are compared in blocks of rows, as products, so that memory grows with B alone: for
    thousands of rows. Of two that differ by less than the rounding of float32, either is taken.

    Args:
        features: (B, D).
        targets: (B,).
    """
    squares, found = features.square().sum(1), []
    for rows in torch.arange(len(features), device=features.device).split(_BLOCK_ROWS):
        squared = squares - 2 * features[rows] @ features.T  # + |f|^2 of the row, which is constant
        same = targets[rows, None] == targets
        negatives = squared.masked_fill(same, torch.inf)
        same.scatter_(1, rows[:, None], False)
        positives = squared.masked_fill_(~same, -torch.inf)
        (far, positive), (near, negative) = positives.max(1), negatives.min(1)
        usable = (far > -torch.inf) & (near < torch.inf)
        found.append(torch.stack([rows, positive, negative])[:, usable])
    anchors, positive, negative = torch.cat(found, dim=1)
    return anchors, positive, negative


def zero_of(inputs: Tensor) -> Tensor:
    """Return a zero whose gradient with respect to ``inputs`` is 0, even where they are inf."""
    return inputs[:0].sum()
