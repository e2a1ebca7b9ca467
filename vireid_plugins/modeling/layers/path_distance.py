"""The shortest-path distance between two images that are cut into horizontal stripes.

Stripe distance and recurrence of CM-LSP-GE (``meta_arch/cm_lsp_ge.py``, whose symbols are used
here); the dynamic program is that of AlignedReID (Zhang et al., 2017, arXiv 1711.08184). Python
loops run over the cells of the R x T grid, never over pairs of images.

The ends of the path are fixed, and each step goes one stripe down in one of the two images: a path
has R + T - 1 cells. There is no diagonal step, so an image is *not* at distance 0 from itself. The
distance is symmetric, to the last bit.

A, B, N images or pairs, Q queries, G gallery images, K candidates of each query; R and T stripes
(mostly the same number), S features of a stripe.
"""

from itertools import accumulate

import torch
from torch import Tensor

from ...errors import UserError
from ..precision import at_least_float32, without_autocast

REDUCTIONS = ("mean", "sum")
# Numbers held at once: distances of stripes, or gathered features of candidates.
_BLOCK_ELEMENTS = 1 << 22


def normalized_stripes(stripes: Tensor, eps: float = 1e-6) -> Tensor:
    """Compute ``(f - mean f) / (max f - min f + eps)`` over the channels of each stripe.

    Args:
        stripes: (..., S).
        eps: makes a stripe whose channels are all equal zero; the paper has no such term.

    Returns:
        (..., S), values within -1..1; at least float32.
    """
    stripes = at_least_float32(stripes)
    # Subtracting the minimum first changes neither value nor gradient of the formula. Without it,
    # the rounding error of the mean of equal channels would be divided by eps.
    shifted = stripes - stripes.detach().amin(dim=-1, keepdim=True)
    spread = shifted.amax(dim=-1, keepdim=True) - shifted.amin(dim=-1, keepdim=True)
    return (shifted - shifted.mean(dim=-1, keepdim=True)) / (spread + eps)


def stripe_distances(first: Tensor, second: Tensor, reduction: str = "mean") -> Tensor:
    """Compute d_ij, the L1 distances between all stripes of two images, for many pairs of images.

    Args:
        first: (..., R, S) stripe features.
        second: (..., T, S).
        reduction: ``"sum"`` over the channels, as printed, or their ``"mean"``, at most 1.

    Returns:
        (..., R, T).
    """
    return _distances(normalized_stripes(first), normalized_stripes(second), reduction)


def shortest_path(distances: Tensor) -> Tensor:
    """Compute S_RT, the smallest sum of distances on a path from the first cell to the last.

    ``S_ij = min(S_{i-1,j}, S_{i,j-1}) + d_ij``. Two paths of equal length share the gradient.

    Args:
        distances: (..., R, T), R and T at least 1.

    Returns:
        (...).
    """
    rows = distances.movedim((-2, -1), (0, 1)).contiguous()  # each cell of all pairs side by side
    best = list(accumulate(rows[0]))  # S_1j = S_{1,j-1} + d_1j
    for row in rows[1:]:
        best[0] = best[0] + row[0]  # S_i1 = S_{i-1,1} + d_i1
        for column in range(1, len(best)):
            best[column] = torch.minimum(best[column - 1], best[column]) + row[column]
    return best[-1]


def aligned_path_distances(first: Tensor, second: Tensor, reduction: str = "mean") -> Tensor:
    """Compute the path distances of N pairs of images: (N, R, S), (N, T, S) to (N,)."""
    return shortest_path(stripe_distances(first, second, reduction))


def path_distances(first: Tensor, second: Tensor, reduction: str = "mean") -> Tensor:
    """Compute the path distances between all images of two sets.

    Images of ``first`` are taken in blocks whose distances of all stripes fit into 16 MiB (float32;
    twice that while computing). On a CPU the differences of channels are not kept in memory; on a
    GPU PyTorch's ``cdist`` keeps those of a block for its backward pass.

    Args:
        first: (A, R, S).
        second: (B, T, S).
        reduction: see :func:`stripe_distances`.

    Returns:
        (A, B).
    """
    first, second = normalized_stripes(first), normalized_stripes(second)
    num_stripes, (num_second, num_other, channels) = first.shape[1], second.shape
    columns = second.reshape(-1, channels)
    parts = []
    for block in first.split(_rows_at_once(num_stripes * len(columns))):
        distances = _distances(block.reshape(-1, channels), columns, reduction)
        grid = distances.view(len(block), num_stripes, num_second, num_other)
        parts.append(shortest_path(grid.transpose(1, 2)))
    return torch.cat(parts)


def candidate_path_distances(
    query: Tensor, gallery: Tensor, candidates: Tensor, reduction: str = "mean"
) -> Tensor:
    """Compute the path distances of each query to its own candidates of the gallery.

    Queries are taken in blocks, of at least one query, whose candidates' features fit into 16 MiB
    (float32). A normalized copy of the gallery is needed in addition.

    Args:
        query: (Q, R, S).
        gallery: (G, T, S).
        candidates: (Q, K) int64, numbers of gallery images.
        reduction: see :func:`stripe_distances`.

    Returns:
        (Q, K).
    """
    query, gallery = normalized_stripes(query), normalized_stripes(gallery)
    (_, num_other, channels), num_candidates = gallery.shape, candidates.shape[1]
    step = _rows_at_once(num_candidates * num_other * channels)
    parts = []
    for block, chosen in zip(query.split(step), candidates.split(step)):
        columns = gallery[chosen].flatten(1, 2)  # (q, K * T, S)
        distances = _distances(block, columns, reduction)
        grid = distances.view(*block.shape[:2], num_candidates, num_other)
        parts.append(shortest_path(grid.transpose(1, 2)))
    return torch.cat(parts)


def _distances(first: Tensor, second: Tensor, reduction: str) -> Tensor:
    """Compute L1 distances of normalized stripes: (..., R, S), (..., T, S) to (..., R, T)."""
    if reduction not in REDUCTIONS:
        raise UserError(
            f"Stripe distances: reduction must be one of {', '.join(map(repr, REDUCTIONS))}; "
            f"got {reduction!r}."
        )
    with without_autocast(first):
        distances = torch.cdist(first, second, p=1.0)
    return distances / first.shape[-1] if reduction == "mean" else distances


def _rows_at_once(elements_per_row: int) -> int:
    return max(1, _BLOCK_ELEMENTS // max(1, elements_per_row))
