"""Jaccard distances between k-reciprocal encodings, without a dense matrix of all pairs.

Zhong et al., *Re-ranking Person Re-identification with k-reciprocal Encoding*, CVPR 2017. Shapes:
N items, D features, R rows of a block.

Two definitions are in use:

- ``"original"`` (the authors' code, MMT): the item is not one of its k1 neighbors, so lists hold
  k1 + 1 items; weights are exp(-d), where d is the squared Euclidean distance divided by the
  greatest one of the item's row.
- ``"softmax"`` (OpenUnReID, FastReID): the item is one of the k1 neighbors; weights are a softmax
  of -d, where d is the squared Euclidean distance itself.

Both round half of k1 to even, average the encodings of the k2 nearest items, the item itself
included (local query expansion), and order equal distances by index; an item comes first in its own
list. Memory grows with the neighbors and with the pairs nearer than 1, not with N squared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..arguments import device_named, real_number, whole_number, word
from ..late_sparse import sparse
from ..neighbors.lists import nearest_items, pair_distances
from ..ranking.arguments import integers
from ..similarity import Array, as_features
from .minimum_sums import minimum_sums

DEFINITIONS = ("original", "softmax")
ORDERS = ("turns", "similarity")
_LARGE = 1e16  # squares of larger values, or of smaller ones than 1 / _LARGE, exceed float32


def jaccard_distance(
    features: Array,
    k1: int = 20,
    k2: int = 6,
    *,
    definition: str = "original",
    groups: Optional[Array] = None,
    group_order: str = "turns",
    max_distance: float = 1.0,
    device: Union[str, torch.device] = "cpu",
) -> sparse.csr_matrix:
    """Return Jaccard distances between the k-reciprocal encodings of all items.

    Args:
        features: (N, D); normalize them for distances by angle.
        k1: neighbors that make an item's k-reciprocal set.
        k2: neighbors averaged by the local query expansion; 1: none.
        definition: ``"original"`` or ``"softmax"``, see above.
        groups: (N,) integers, the modality (or camera) of each item: neighbors are then taken
            alternately from the other groups and from the item's own group, the nearest first, so
            that every list holds both; None: neighbors are the nearest of all items.
        group_order: with ``groups``, the order of such a list. ``"turns"``: as it was taken, so
            that half of it holds both, too, and k2 items are averaged. ``"similarity"``, as in the
            public code of BMIL (``faiss_rerank_xmodal.py``): the nearest first, and k2 items of
            each side are averaged.
        max_distance: only pairs nearer than this are stored; at most 1.
        device: where to search for neighbors.

    Returns:
        (N, N) sparse float32. **Only pairs nearer than ``max_distance`` are stored**, among them
        the diagonal and other zeros. The distance of a pair that is not stored is at least
        ``max_distance``; if that is 1, it is exactly 1.

    Raises:
        UserError: k1 or k2 is below 1, a word is unknown, ``max_distance`` is not in 0..1,
            ``groups`` has another length, or features are not finite.
    """
    if not 0 < real_number(max_distance, "max_distance", -math.inf) <= 1:
        raise UserError(f"max_distance must lie above 0 and at most at 1; got {max_distance!r}.")
    rows, members = as_features(features, "features", device_named(device)), None
    if groups is not None:
        members = torch.from_numpy(integers(groups, "groups")).to(rows.device)
        if members.shape != (len(rows),):
            raise UserError(
                f"groups has {members.numel()} entries for {len(rows)} features; expected shape "
                f"({len(rows)},), got {tuple(members.shape)}."
            )
    encoding = k_reciprocal_encoding(
        rows, k1, k2, definition=definition, groups=members, group_order=group_order
    )
    distances = jaccard_rows(encoding.rows, max_distance=max_distance)
    distances.setdiag(0.0)
    return distances


@dataclass(frozen=True)
class Encoding:
    """The k-reciprocal encodings of N items, and the scale of their distances."""

    rows: sparse.csr_matrix  # (N, N) float32, each row sums to 1, or to 0: it has no neighbor
    greatest: np.ndarray  # (N,) greatest squared distance of each row, 1 where all are 0


def k_reciprocal_encoding(
    features: Tensor,
    k1: int,
    k2: int,
    *,
    definition: str = "original",
    groups: Optional[Tensor] = None,
    group_order: str = "turns",
    allowed: Optional[Tensor] = None,
) -> Encoding:
    """Return the k-reciprocal encodings of all items, as the module describes them.

    Args:
        features: (N, D) finite, from ``as_features``.
        k1: as in :func:`jaccard_distance`, as are the other arguments.
        k2: see there.
        definition: see there.
        groups: see there.
        group_order: see there.
        allowed: (N,) bool, the items that can be neighbors, at least one; not with ``groups``. An
            item that is not allowed is nobody's neighbor, not even its own, so that its encoding
            is the mean of those of its k2 nearest items (and empty if k2 is 1). None: all items.

    Raises:
        UserError: k1 or k2 is below 1, or a word is unknown.
    """
    k1, k2 = checked_neighbors(k1, k2)
    word(definition, "definition", DEFINITIONS)
    by_similarity = word(group_order, "group_order", ORDERS) == "similarity" and groups is not None
    num = len(features)
    if num == 0:
        return Encoding(sparse.csr_matrix((0, 0), dtype=np.float32), np.zeros(0))
    if not 1 / _LARGE < max(abs(float(value)) for value in features.aminmax()) < _LARGE:
        features = features.double()
    length = k1 + 1 if definition == "original" else k1
    most = num if allowed is None else int(allowed.sum())
    averaged = 2 * k2 if by_similarity and k2 > 1 else k2
    neighbors, greatest = nearest_items(features, min(max(length, averaged), most), groups, allowed)
    listed = neighbors[:, :length]
    if by_similarity:
        listed = _by_similarity(features, listed)
    whole = _reciprocal(listed)
    half = _reciprocal(listed[:, : min(int(np.around(k1 / 2.0)) + 1, length)])
    # The half-size set of a member joins if more than two thirds of it are members already.
    shared = whole.dot(half.T).multiply(whole).tocoo()
    sizes = np.diff(half.indptr)
    joins = shared.data > 2.0 / 3.0 * sizes[shared.col]
    joining = sparse.csr_matrix(
        (np.ones(int(joins.sum()), np.float32), (shared.row[joins], shared.col[joins])),
        shape=(num, num),
    )
    expanded = (whole + joining.dot(half)).tocsr()
    scale = greatest if definition == "original" else None
    encodings = _weighted(features, expanded, scale)
    if k2 > 1:
        mean = mean_of_rows(neighbors[:, :averaged], num)
        encodings = mean.dot(encodings).tocsr()
    return Encoding(encodings, greatest)


def _by_similarity(features: Tensor, neighbors: np.ndarray) -> np.ndarray:
    """Return lists of neighbors (N, k), each with the item itself first and then the nearest."""
    num, width = neighbors.shape
    rows = np.repeat(np.arange(num), width)
    distances = pair_distances(features, rows, neighbors.ravel()).reshape(num, width)
    distances[:, 0] = -1.0
    return np.take_along_axis(neighbors, np.argsort(distances, axis=1, kind="stable"), axis=1)


def checked_neighbors(k1: Any, k2: Any) -> Tuple[int, int]:
    """Return both as integers; raise ``UserError`` unless they are whole numbers from 1 on."""
    first, second = whole_number(k1, "k1", -math.inf), whole_number(k2, "k2", -math.inf)
    if min(first, second) < 1:
        raise UserError(f"k1 and k2 must be at least 1; got k1={first}, k2={second}.")
    return first, second


def mean_of_rows(rows: np.ndarray, num: int) -> sparse.csr_matrix:
    """Return the matrix (M, num) that averages the rows listed in each row of ``rows`` (M, k)."""
    return _lists(rows, num, np.float32(1.0 / rows.shape[1]))


def _lists(rows: np.ndarray, num: int, value: np.float32) -> sparse.csr_matrix:
    """Return (M, num) with ``value`` in the columns that each row of ``rows`` (M, k) lists."""
    count, width = rows.shape
    ends = np.arange(0, count * width + 1, width)
    values = np.full(rows.size, value, np.float32)
    return sparse.csr_matrix((values, np.ascontiguousarray(rows).ravel(), ends), (count, num))


# ------------------------------------------------------------------------------------- encodings


def _reciprocal(neighbors: np.ndarray) -> sparse.csr_matrix:
    """Return (N, N) with ones where j is in i's list (N, k) and i in j's."""
    forward = _lists(neighbors, len(neighbors), np.float32(1.0))
    return forward.multiply(forward.T).tocsr()


def _weighted(
    features: Tensor, members: sparse.csr_matrix, scale: Optional[np.ndarray]
) -> sparse.csr_matrix:
    """Return exp(-d / scale) on the entries of ``members`` (N, N), each row divided by its sum."""
    num = members.shape[0]
    rows = np.repeat(np.arange(num), np.diff(members.indptr))
    distances = pair_distances(features, rows, members.indices, features.dtype)
    if scale is not None:
        distances /= scale[rows]
    weights = np.exp(-(distances - _row_minimum(distances, members.indptr)[rows]))
    weights /= np.bincount(rows, weights, minlength=num)[rows]
    return sparse.csr_matrix(
        (weights.astype(np.float32), members.indices, members.indptr), shape=members.shape
    )


def _row_minimum(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return the smallest value of each row, 0 for a row that has none."""
    found = np.zeros(len(indptr) - 1)
    filled = np.diff(indptr) > 0
    if filled.any():
        found[filled] = np.minimum.reduceat(values, indptr[:-1][filled])
    return found


# ------------------------------------------------------------------------------------- distances


def jaccard_rows(
    a: sparse.csr_matrix, b: Optional[sparse.csr_matrix] = None, max_distance: float = 1.0
) -> sparse.csr_matrix:
    """Return Jaccard distances between rows of ``a`` (A, N) and of ``b`` (B, N), (A, B).

    Without ``b`` they are between the rows of ``a``. Only distances below ``max_distance`` are
    stored. Rows sum to 1, so the distance is 1 - s / (2 - s), s the sum over columns of the
    minimum.
    """
    # 1 - s / (2 - s) is below t where s is above 2 (1 - t) / (2 - t); a sum below float32's
    # precision makes a distance of 1.
    least = 2 * (1 - max_distance) / (2 - max_distance)
    found = minimum_sums(a, b, max(least, float(np.finfo(np.float32).eps)))
    found.data /= 2.0 - found.data
    np.subtract(1.0, found.data, out=found.data)
    np.maximum(found.data, 0.0, out=found.data)
    return found
