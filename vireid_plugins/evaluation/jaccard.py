"""Jaccard distances between k-reciprocal encodings, without a dense matrix of all pairs.

Zhong et al., *Re-ranking Person Re-identification with k-reciprocal Encoding*, CVPR 2017. Shapes:
N items, D features, R rows of a block.

Two definitions are in use:

- ``"original"`` (the authors' code, MMT): the k nearest neighbours of an item are counted beside
  the item itself, so lists hold k1 + 1 items; weights are exp(-d), d the squared Euclidean
  distance divided by the greatest of the item's row.
- ``"softmax"`` (OpenUnReID, FastReID): the item is one of the k1 neighbours; weights are a softmax
  of -d, d the squared Euclidean distance itself.

Both round half of k1 to even, average the encodings of the k2 nearest items, the item itself among
them (local query expansion), and order equal distances by index; the item comes first in its own
list. Memory grows with the neighbours and with the pairs nearer than 1, not with N squared.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import List, Optional, Tuple, Union

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor

from .neighbor_lists import nearest_items, pair_distances
from .similarity import Array, as_features

DEFINITIONS = ("original", "softmax")
_BLOCK_ELEMENTS = 1 << 21  # sums of minima in one block, of which each thread has one


def jaccard_distance(
    features: Array,
    k1: int = 20,
    k2: int = 6,
    *,
    definition: str = "original",
    groups: Optional[Array] = None,
    max_distance: float = 1.0,
    device: Union[str, torch.device] = "cpu",
) -> sparse.csr_matrix:
    """Jaccard distances between the k-reciprocal encodings of all items.

    Args:
        features: (N, D); normalise them for distances by angle.
        k1: neighbours that make an item's k-reciprocal set.
        k2: neighbours averaged by the local query expansion; 1: none.
        definition: ``"original"`` or ``"softmax"``, see above.
        groups: (N,) modality (or camera) of each item: neighbours then come in turn from the
            other groups and from the item's own, the nearest first, so that every list reaches
            across; None: the nearest of all.
        max_distance: only pairs nearer than this are stored; at most 1.
        device: where neighbours are searched.

    Returns:
        (N, N) sparse float32. **Only pairs nearer than ``max_distance`` are stored**, the diagonal
        and other zeros explicitly; a pair that is not stored is at least that far, and at
        ``max_distance`` 1 it is exactly 1.

    Raises:
        ValueError: k1 or k2 below 1, an unknown definition, ``max_distance`` outside 0..1,
            ``groups`` of another length, or features that are not finite.
    """
    if not 0 < max_distance <= 1:
        raise ValueError(f"max_distance must lie above 0 and at most at 1; got {max_distance!r}.")
    features = as_features(features, "features", torch.device(device))
    if groups is not None:
        groups = torch.as_tensor(groups).detach().to(features.device).reshape(-1)
        if len(groups) != len(features):
            raise ValueError(f"groups has {len(groups)} entries for {len(features)} features.")
    encoded = encode(features, k1, k2, definition=definition, groups=groups)
    distances = jaccard_rows(encoded.rows, encoded.rows, max_distance)
    distances.setdiag(0.0)
    return distances


@dataclass(frozen=True)
class Encoding:
    """k-reciprocal encodings and what they were scaled by."""

    rows: sparse.csr_matrix  # (N, N) float32, each row sums to 1
    greatest: np.ndarray  # (N,) greatest squared distance of each row, 1 where all are 0


def encode(
    features: Tensor,
    k1: int,
    k2: int,
    *,
    definition: str = "original",
    groups: Optional[Tensor] = None,
) -> Encoding:
    """k-reciprocal encodings of all items, see the module.

    Args:
        features: (N, D) finite, from ``as_features``.
        k1, k2, definition, groups: as in :func:`jaccard_distance`.

    Raises:
        ValueError: k1 or k2 below 1, or an unknown definition.
    """
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 must be at least 1; got k1={k1!r}, k2={k2!r}.")
    if definition not in DEFINITIONS:
        raise ValueError(f"definition must be one of {DEFINITIONS}; got {definition!r}.")
    num = len(features)
    if num == 0:
        return Encoding(sparse.csr_matrix((0, 0), dtype=np.float32), np.zeros(0))
    length = k1 + 1 if definition == "original" else k1
    neighbours, greatest = nearest_items(features, min(max(length, k2), num), groups)
    whole = _reciprocal(neighbours[:, :length])
    half = _reciprocal(neighbours[:, : min(int(np.around(k1 / 2.0)) + 1, length)])
    # A member's own half-size set joins where more than two thirds of it are members already.
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
        width = min(k2, num)
        mean = mean_of_rows(neighbours[:, :width], num)
        encodings = mean.dot(encodings).tocsr()
    return Encoding(encodings, greatest)


def mean_of_rows(rows: np.ndarray, num: int) -> sparse.csr_matrix:
    """(M, num) that averages the rows numbered in each row of ``rows`` (M, k)."""
    return _lists(rows, num, np.float32(1.0 / rows.shape[1]))


def _lists(rows: np.ndarray, num: int, value: np.float32) -> sparse.csr_matrix:
    """(M, num) with ``value`` at the columns listed in each row of ``rows`` (M, k)."""
    count, width = rows.shape
    ends = np.arange(0, count * width + 1, width)
    values = np.full(rows.size, value, np.float32)
    return sparse.csr_matrix((values, np.ascontiguousarray(rows).ravel(), ends), (count, num))


# ------------------------------------------------------------------------------------- encodings


def _reciprocal(neighbours: np.ndarray) -> sparse.csr_matrix:
    """(N, N) ones: j is in i's list (N, k) and i in j's."""
    forward = _lists(neighbours, len(neighbours), np.float32(1.0))
    return forward.multiply(forward.T).tocsr()


def _weighted(
    features: Tensor, members: sparse.csr_matrix, scale: Optional[np.ndarray]
) -> sparse.csr_matrix:
    """exp(-d / scale) on the entries of ``members`` (N, N), rows brought to sum 1; float32."""
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
    """Smallest of each row's values; every row has one, as each item is a member of its own."""
    return np.minimum.reduceat(values, indptr[:-1]) if len(values) else np.zeros(0)


# ------------------------------------------------------------------------------------- distances


def jaccard_rows(
    a: sparse.csr_matrix, b: sparse.csr_matrix, max_distance: float = 1.0
) -> sparse.csr_matrix:
    """Jaccard distances between rows of ``a`` (A, N) and of ``b`` (B, N), those that are below.

    Rows sum to 1, so the distance is 1 - s / (2 - s), s the sum over columns of the minimum.
    """
    by_column = b.tocsc()
    lengths = np.diff(by_column.indptr)
    # The pairs that a row of ``a`` meets: the lengths of the columns that it holds.
    met = np.concatenate([[0], np.cumsum(lengths[a.indices], dtype=np.int64)])[a.indptr]
    columns = _Columns(
        by_column.indptr.astype(np.int64),
        torch.from_numpy(by_column.indices.astype(np.int64)),
        torch.from_numpy(by_column.data.astype(np.float32)),
        b.shape[0],
    )
    most_rows, blocks, begin = max(1, _BLOCK_ELEMENTS // max(1, b.shape[0])), [], 0
    while begin < a.shape[0]:
        end = int(np.searchsorted(met, met[begin] + _BLOCK_ELEMENTS, side="right")) - 1
        end = min(max(end, begin + 1), begin + most_rows, a.shape[0])
        blocks.append(a[begin:end])
        begin = end
    result = _GrowingRows(b.shape[0])
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(blocks), threads):  # no more at once than threads
            part = blocks[first : first + threads]
            sums = pool.map(lambda rows: _below(_minimum_sums(rows, columns), max_distance), part)
            for found in sums:
                result.append(*found)
    return result.matrix()


@dataclass(frozen=True)
class _Columns:
    """The columns of a sparse (B, N) matrix: where each begins, its rows, its values."""

    starts: np.ndarray  # (N + 1,)
    rows: Tensor  # (nnz,)
    values: Tensor  # (nnz,)
    num_rows: int  # B


def _minimum_sums(a: sparse.csr_matrix, columns: _Columns) -> Tensor:
    """For rows of ``a`` (R, N), the sums of minima with every row of the other matrix: (R, B)."""
    starts = columns.starts[a.indices]
    counts = columns.starts[a.indices + 1] - starts
    ends = counts.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    # Each entry of ``a`` meets the entries of its column, which stand side by side.
    places = np.repeat(starts - (ends - counts), counts)
    places += np.arange(total)
    places = torch.from_numpy(places)
    minima = torch.from_numpy(np.repeat(a.data, counts))
    torch.minimum(minima, columns.values.index_select(0, places), out=minima)
    first = np.arange(a.shape[0], dtype=np.int64) * columns.num_rows
    first = np.repeat(first, np.diff(a.indptr))
    keys = torch.from_numpy(np.repeat(first, counts))
    keys += columns.rows.index_select(0, places)
    sums = torch.zeros(a.shape[0] * columns.num_rows)
    return sums.scatter_add_(0, keys, minima).view(a.shape[0], columns.num_rows)


def _below(sums: Tensor, max_distance: float) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances below ``max_distance`` from sums of minima (R, B): counts by row, columns, values.

    1 - s / (2 - s) is below t where s is above 2 (1 - t) / (2 - t).
    """
    flat = sums.numpy().ravel()
    kept = np.flatnonzero(flat > np.float32(2 * (1 - max_distance) / (2 - max_distance)))
    rows, columns = np.divmod(kept, sums.shape[1])
    values = flat[kept]
    distances = np.maximum(1.0 - values / (2.0 - values), np.float32(0.0))
    return np.bincount(rows, minlength=len(sums)), columns.astype(np.int32), distances


class _GrowingRows:
    """A sparse matrix of B columns that grows by blocks of rows, in place: no second copy."""

    def __init__(self, num_columns: int) -> None:
        self._num_columns = num_columns
        self._columns, self._values = np.empty(0, np.int32), np.empty(0, np.float32)
        self._counts: List[np.ndarray] = []
        self._size = 0

    def append(self, counts: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        """Rows with ``counts`` entries each, whose columns and values stand one after the other."""
        end = self._size + len(values)
        if end > len(self._values):
            room = max(end, len(self._values) * 5 // 4)
            self._columns.resize(room, refcheck=False)
            self._values.resize(room, refcheck=False)
        self._columns[self._size : end], self._values[self._size : end] = columns, values
        self._counts.append(counts)
        self._size = end

    def matrix(self) -> sparse.csr_matrix:
        """What has been appended."""
        self._columns.resize(self._size, refcheck=False)
        self._values.resize(self._size, refcheck=False)
        counts = np.concatenate([np.zeros(1, np.int64), *self._counts])
        ends = np.cumsum(counts)
        if self._size < np.iinfo(np.int32).max:
            ends = ends.astype(np.int32)  # or else SciPy widens the columns, too
        shape = (len(ends) - 1, self._num_columns)
        return sparse.csr_matrix((self._values, self._columns, ends), shape=shape)
