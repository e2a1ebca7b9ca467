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

import functools
from dataclasses import dataclass
from typing import List, Optional, Tuple, Union

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor

from .similarity import Array, as_features
from .topk import largest_by_index

DEFINITIONS = ("original", "softmax")
# Numbers of one block: of distances and of sums of minima; of gathered features.
_BLOCK_ELEMENTS = 1 << 22
_PAIR_ELEMENTS = 1 << 20
# In float32, 2ab - |b|^2 errs by less than this times |a|^2 + |b|^2.
_FLOAT32_ERROR = 2e-6
_SPARE = 8  # candidates beyond k, between which float64 decides


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


# ------------------------------------------------------------------------------------ neighbours


def nearest_items(
    features: Tensor, k: int, groups: Optional[Tensor] = None
) -> Tuple[np.ndarray, np.ndarray]:
    """The k nearest items of each, itself first, equal ones by index, as float64 orders them.

    Distances of float32 features are products in float32; rows in which rounding could decide
    between two neighbours are done again in float64.

    Args:
        features: (N, D).
        k: 1..N.
        groups: (N,), see :func:`jaccard_distance`.

    Returns:
        (N, k) int64, and (N,) float64: each row's greatest squared distance, 1 where all are 0.
    """
    num = len(features)
    items = _Items(features)
    indices, farthest = np.empty((num, k), np.int64), np.empty(num, np.int64)
    step = max(1, _BLOCK_ELEMENTS // max(1, num))
    for begin in range(0, num, step):
        rows = torch.arange(begin, min(begin + step, num), device=features.device)
        nearness = items.nearness(rows)
        farthest[begin : begin + step] = nearness.cpu().numpy().argmin(1)
        if groups is None:
            found = _nearest(items, rows, nearness, k)
        else:
            found = _in_turn(items, rows, nearness, k, groups)
        indices[begin : begin + step] = found.cpu().numpy()
    greatest = _pair_distances(features, np.arange(num), farthest)
    greatest[greatest == 0] = 1.0
    return indices, greatest


class _Items:
    """Features (N, D) and how near they are to each other."""

    def __init__(self, features: Tensor) -> None:
        self.features, self.squares = features, features.square().sum(1)

    @functools.cached_property
    def wide(self) -> "_Items":
        """The same in float64."""
        return _Items(self.features.double())

    def nearness(self, rows: Tensor) -> Tensor:
        """2ab - |b|^2 of ``rows`` (R,) and all items (R, N): the greater, the nearer.

        An item is infinitely near to itself, nearer than its duplicates.
        """
        found = torch.addmm(-self.squares, self.features[rows], self.features.T, alpha=2.0)
        return found.scatter_(1, rows[:, None], torch.inf)

    def tolerance(self, rows: Tensor) -> Tensor:
        """How much nearer (R, 1) an item must be for its place to be certain."""
        if self.features.dtype == torch.float64:
            return self.squares.new_full((len(rows), 1), -1.0)  # float64 decides
        return 2 * _FLOAT32_ERROR * (self.squares[rows, None] + self.squares.amax())


def _nearest(
    items: _Items, rows: Tensor, nearness: Tensor, k: int, mask: Optional[Tensor] = None
) -> Tensor:
    """The k nearest of each row (R, N), equal ones by index, the item itself first: (R, k).

    What float32 leaves open is decided in float64: between the candidates or, where they do not
    suffice, between all items.

    Args:
        items: of which ``nearness`` was computed.
        rows: (R,) numbers of the rows.
        nearness: (R, N).
        k: from 1 to N.
        mask: (R, N) bool, who can be a neighbour; others come last.
    """
    num = nearness.shape[1]
    if mask is not None:
        nearness = nearness.masked_fill(~mask, -torch.inf)
    width = min(k + _SPARE, num)
    found, values = largest_by_index(nearness, width)
    tolerance = items.tolerance(rows)
    close = (values.diff(dim=1)[:, :k] >= -tolerance).any(1)
    endless = close & (values[:, k - 1] - values[:, -1] <= tolerance[:, 0]) & (width < num)
    if bool(close.any()):
        found[close] = _by_distance(items, rows[close], found[close], values[close])
    found = found[:, :k]
    if bool(endless.any()):
        again, kept = rows[endless], None if mask is None else mask[endless]
        step = max(1, _BLOCK_ELEMENTS // num)
        parts = zip(again.split(step), [None] * len(again) if kept is None else kept.split(step))
        found[endless] = torch.cat(
            [_nearest(items.wide, r, items.wide.nearness(r), k, m) for r, m in parts]
        )
    return found


def _by_distance(items: _Items, rows: Tensor, found: Tensor, values: Tensor) -> Tensor:
    """Candidates (R, W) in the order of their float64 distances, equal ones by index."""
    found, order = found.sort(dim=1)
    values = values.gather(1, order)
    pairs = rows[:, None].expand_as(found).flatten(), found.flatten()
    distances = _pair_distances(items.features, *(n.cpu().numpy() for n in pairs))
    distances = torch.from_numpy(distances).to(values.device).view_as(values)
    # the item itself first, those that cannot be neighbours last
    distances = torch.where(values.isinf(), -values.double(), distances)
    return found.gather(1, torch.sort(distances, dim=1, stable=True).indices)


def _in_turn(items: _Items, rows: Tensor, nearness: Tensor, k: int, groups: Tensor) -> Tensor:
    """The item itself, then in turn the nearest of other groups and of its own: (R, k).

    Where one side is exhausted, the rest comes from the other.

    Args:
        items: of which ``nearness`` was computed.
        rows: (R,) numbers of the rows.
        nearness: (R, N).
        k: from 1 to N.
        groups: (N,).
    """
    own = groups[rows, None] == groups
    turns = torch.full_like(nearness, torch.inf)
    for first, mask in ((0, own), (1, ~own)):
        found = _nearest(items, rows, nearness, k, mask)
        # Even turns are the own group's, whose first is the item itself; odd ones the others'.
        places = first + 2 * torch.arange(k, device=nearness.device).to(turns)
        values = places.expand_as(found).clone()
        values[~mask.gather(1, found)] = torch.inf
        turns.scatter_reduce_(1, found, values, "amin")
    return turns.topk(k, dim=1, largest=False, sorted=True).indices


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
    distances = _pair_distances(features, rows, members.indices)
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


def _pair_distances(features: Tensor, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Squared distances of the listed pairs (P,), in blocks; float64."""
    out = np.empty(len(rows))
    step = max(1, _PAIR_ELEMENTS // max(1, features.shape[1]))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        a, b = (
            torch.from_numpy(np.asarray(n[part], np.int64)).to(features.device)
            for n in (rows, columns)
        )
        difference = features[a].double().sub_(features[b])
        out[part] = difference.square_().sum(1).cpu().numpy()
    return out


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
    result = _GrowingRows(b.shape[0])
    most_rows, begin = max(1, _BLOCK_ELEMENTS // max(1, b.shape[0])), 0
    while begin < a.shape[0]:
        end = int(np.searchsorted(met, met[begin] + _BLOCK_ELEMENTS, side="right")) - 1
        end = min(max(end, begin + 1), begin + most_rows, a.shape[0])
        result.append(*_below(_minimum_sums(a[begin:end], columns), max_distance))
        begin = end
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
    first = np.repeat(np.arange(a.shape[0]) * columns.num_rows, np.diff(a.indptr))
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
