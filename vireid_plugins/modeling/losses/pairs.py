"""Distances and masks between the rows of a batch.

Shapes: B rows, A anchors (the rows that a loss can use), D feature size.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances between all rows of ``features`` (B, D): (B, B), zero diagonal.

    Differences are squared one by one. The usual ``x^2 + y^2 - 2xy`` is faster but cancels:
    in float32 it puts a row at a distance from itself, and under TF32 all distances become
    coarse. Where two rows are equal the distance is exactly 0 and its gradient is 0.
    """
    return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")


def unit(features: Tensor) -> Tensor:
    """Features (..., D) at length 1; shorter ones than 1e-6 are divided by that.

    PyTorch's own limit, 1e-12, would give a feature of length 0 a gradient of 1e12.
    """
    return F.normalize(features, dim=-1, eps=1e-6)


def pair_masks(targets: Tensor) -> Tuple[Tensor, Tensor]:
    """Which pairs of rows share an identity and which do not.

    Args:
        targets: (B,).

    Returns:
        ``positives`` (B, B) bool, without the diagonal, and ``negatives`` (B, B) bool.
    """
    same = targets.unsqueeze(0) == targets.unsqueeze(1)
    own = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    return same & ~own, ~same


def anchor_rows(positives: Tensor, negatives: Tensor) -> Tensor:
    """Numbers (A,) of the rows of both masks (B, B) that have a positive and a negative.

    A GPU is waited for once, for A; indexing by a mask would wait each time.
    """
    return torch.nonzero(positives.any(dim=1) & negatives.any(dim=1))[:, 0]


def farthest(distances: Tensor, mask: Tensor) -> Tensor:
    """Largest distance of each row within ``mask``: (A, B), (A, B) -> (A,).

    Every row of ``mask`` has an entry. Equal extremes share the gradient, so that it does not
    depend on which of them stands first.
    """
    return distances.masked_fill(~mask, -torch.inf).amax(dim=1)


def nearest(distances: Tensor, mask: Tensor) -> Tensor:
    """Smallest distance of each row within ``mask``, as :func:`farthest`."""
    return distances.masked_fill(~mask, torch.inf).amin(dim=1)


def zero_of(inputs: Tensor) -> Tensor:
    """A scalar zero whose gradient with respect to ``inputs`` is zero, even where they are inf."""
    return inputs[:0].sum()
