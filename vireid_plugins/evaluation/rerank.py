"""k-reciprocal re-ranking without a dense matrix of all pairs.

Zhong et al., *Re-ranking Person Re-identification with k-reciprocal Encoding*, CVPR 2017. Shapes:
N items in all, Q queries, G gallery items, D features.

Conventions, those of the authors' code: the k nearest neighbours of an item are counted beside
the item itself, so lists hold k1 + 1 items; half of k1 is rounded to even; weights are
exp(−d), with d the squared Euclidean distance divided by the greatest of the item's row; the local
query expansion averages the k2 nearest items, the item itself among them; equal distances are
ordered by index. Memory grows with the neighbours, not with N².
"""

from typing import Tuple

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor

from .similarity import Array, as_features

_BLOCK_ELEMENTS = 1 << 24


def jaccard_distance(features: Array, k1: int = 20, k2: int = 6) -> sparse.csr_matrix:
    """Jaccard distances between the k-reciprocal encodings of all items.

    Args:
        features: (N, D); normalise them for distances by angle.
        k1: neighbours that make an item's k-reciprocal set.
        k2: neighbours averaged by the local query expansion; 1: none.

    Returns:
        (N, N) sparse float32. **Only pairs nearer than 1 are stored**, the diagonal and other
        zeros explicitly; a pair that is not stored has distance 1.

    Raises:
        ValueError: k1 or k2 below 1, or features that are not finite.
    """
    features = as_features(features, "features", torch.device("cpu"))
    encodings, _ = _encodings(features, k1, k2)
    return _jaccard_rows(encodings, encodings)


def k_reciprocal_rerank(
    query_features: Array,
    gallery_features: Array,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> np.ndarray:
    """Re-ranked distances from queries to gallery items.

    Args:
        query_features: (Q, D); normalise them for distances by angle.
        gallery_features: (G, D).
        k1: neighbours that make an item's k-reciprocal set.
        k2: neighbours averaged by the local query expansion; 1: none.
        lambda_value: weight of the original distance against the Jaccard distance, 0 to 1.

    Returns:
        (Q, G) float32, ``(1 − λ)·Jaccard + λ·d``, d as in the module's conventions.

    Raises:
        ValueError: k1 or k2 below 1, λ outside 0 to 1, or features that do not fit.
    """
    if not 0.0 <= lambda_value <= 1.0:
        raise ValueError(f"lambda_value must lie between 0 and 1; got {lambda_value!r}.")
    query = as_features(query_features, "query_features", torch.device("cpu"))
    gallery = as_features(gallery_features, "gallery_features", torch.device("cpu"))
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query_features {tuple(query.shape)} and gallery_features {tuple(gallery.shape)} "
            "differ in their second size (D)."
        )
    if len(query) == 0 or len(gallery) == 0:
        return np.zeros((len(query), len(gallery)), dtype=np.float32)
    both = torch.cat([query.double(), gallery.double()])
    encodings, greatest = _encodings(both, k1, k2)
    near = _jaccard_rows(encodings[: len(query)], encodings[len(query) :])
    near.data = 1.0 - near.data  # what is not stored is 0 near
    distances = _squared_distances(both[: len(query)], both[len(query) :]).numpy()
    distances /= greatest[: len(query), None]
    return ((1.0 - lambda_value) * (1.0 - near.toarray()) + lambda_value * distances).astype(
        np.float32
    )


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(A, B) float64 squared Euclidean distances, never below 0."""
    a, b = a.double(), b.double()
    squares = a.square().sum(1)[:, None] + b.square().sum(1)
    return squares.sub_(2.0 * (a @ b.T)).clamp_(min=0.0)


def _neighbours(features: Tensor, k: int) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k nearest items of each, itself first: indices, squared distances, greatest distance.

    Returns:
        (N, k) int64, (N, k) float64, both by distance then index, and (N,) the greatest squared
        distance of each row (1 where all are 0).
    """
    num = len(features)
    indices, nearest, greatest = np.empty((num, k), np.int64), np.empty((num, k)), np.ones(num)
    step = max(1, _BLOCK_ELEMENTS // num)
    for begin in range(0, num, step):
        block = _squared_distances(features[begin : begin + step], features)
        rows = np.arange(len(block))
        greatest[begin : begin + step] = block.amax(1).numpy()
        block[rows, begin + rows] = -1.0  # an item is its own nearest, before its duplicates
        found, values = smallest_by_index(block, k)
        indices[begin : begin + step] = found.numpy()
        nearest[begin : begin + step] = values.clamp(min=0.0).numpy()
    greatest[greatest == 0] = 1.0
    return indices, nearest, greatest


def smallest_by_index(distances: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """The k smallest of each row (R, N), equal ones by index: indices and values (R, k)."""
    values, indices = distances.topk(k, dim=1, largest=False, sorted=True)
    limit = values[:, -1:]
    cut = ((distances == limit).sum(1) != (values == limit).sum(1)).nonzero(as_tuple=True)[0]
    if len(cut):  # equals on both sides of the limit: top-k may have kept the later ones
        full = torch.sort(distances[cut], dim=1, stable=True)
        values[cut], indices[cut] = full.values[:, :k], full.indices[:, :k]
    by_index = indices.argsort(dim=1)
    values, indices = values.gather(1, by_index), indices.gather(1, by_index)
    order = torch.sort(values, dim=1, stable=True).indices
    return indices.gather(1, order), values.gather(1, order)


def _reciprocal(neighbours: np.ndarray, k: int) -> sparse.csr_matrix:
    """(N, N) booleans: j is among i's first k + 1 and i among j's."""
    num = len(neighbours)
    kept = neighbours[:, : k + 1]
    rows = np.repeat(np.arange(num), kept.shape[1])
    ones = np.ones(kept.size, dtype=np.int32)
    forward = sparse.csr_matrix((ones, (rows, kept.ravel())), shape=(num, num))
    return forward.multiply(forward.T).tocsr()


def _encodings(features: Tensor, k1: int, k2: int) -> Tuple[sparse.csr_matrix, np.ndarray]:
    """k-reciprocal encodings (N, N), rows summing to 1, and each row's greatest distance (N,)."""
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 must be at least 1; got k1={k1!r}, k2={k2!r}.")
    num = len(features)
    neighbours, _, greatest = _neighbours(features, min(max(k1 + 1, k2), num))
    whole = _reciprocal(neighbours, k1)
    half = _reciprocal(neighbours, int(np.around(k1 / 2.0)))
    # A member's own half-size set joins where more than two thirds of it are members already.
    shared = whole.dot(half.T).multiply(whole).tocoo()
    sizes = np.asarray(half.sum(1)).ravel()
    joins = shared.data > 2.0 / 3.0 * sizes[shared.col]
    joining = sparse.csr_matrix(
        (np.ones(int(joins.sum()), np.int32), (shared.row[joins], shared.col[joins])), (num, num)
    )
    expanded = (whole + joining.dot(half)).tocoo()
    rows, columns = expanded.row, expanded.col
    weights = np.exp(-_pair_distances(features, rows, columns) / greatest[rows])
    weights /= np.bincount(rows, weights, minlength=num)[rows]
    encodings = sparse.csr_matrix((weights, (rows, columns)), shape=(num, num))
    if k2 > 1:
        width = min(k2, num)
        mean = sparse.csr_matrix(
            (
                np.full(num * width, 1.0 / width),
                (np.repeat(np.arange(num), width), neighbours[:, :width].ravel()),
            ),
            shape=(num, num),
        )
        encodings = mean.dot(encodings).tocsr()
    return encodings, greatest


def _pair_distances(features: Tensor, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Squared distances of the listed pairs (P,), in blocks."""
    out = np.empty(len(rows))
    step = max(1, _BLOCK_ELEMENTS // max(1, features.shape[1]) // 4)
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        a, b = torch.from_numpy(rows[part]).long(), torch.from_numpy(columns[part]).long()
        out[part] = (features[a].double() - features[b].double()).square().sum(1).numpy()
    return out


def _jaccard_rows(a: sparse.csr_matrix, b: sparse.csr_matrix) -> sparse.csr_matrix:
    """Jaccard distances between rows of ``a`` (A, N) and of ``b`` (B, N), below 1 only.

    Rows sum to 1, so the distance is 1 − s/(2 − s), s the sum over columns of the minimum.
    """
    by_column = b.tocsc()
    blocks = []
    # The pairs that a row of ``a`` meets: the lengths of the columns that it holds.
    lengths = np.diff(by_column.indptr)
    met = np.concatenate([[0], np.cumsum(lengths[a.indices])])[a.indptr]
    begin = 0
    while begin < a.shape[0]:
        end = int(np.searchsorted(met, met[begin] + (1 << 22), side="right")) - 1
        end = min(max(end, begin + 1), a.shape[0])
        blocks.append(_minimum_sums(a[begin:end], by_column, lengths))
        begin = end
    if not blocks:
        return sparse.csr_matrix((0, b.shape[0]), dtype=np.float32)
    sums = sparse.vstack(blocks, format="csr")
    sums.data = (1.0 - sums.data / (2.0 - sums.data)).clip(min=0.0).astype(np.float32)
    return sums


def _minimum_sums(
    a: sparse.csr_matrix, by_column: sparse.csc_matrix, lengths: np.ndarray
) -> sparse.csr_matrix:
    """For rows of ``a``, the sum of minima with every row of the other matrix: sparse (A, B)."""
    rows = np.repeat(np.arange(a.shape[0]), np.diff(a.indptr))
    counts = lengths[a.indices]
    starts = np.cumsum(counts) - counts
    places = np.arange(counts.sum()) + np.repeat(by_column.indptr[a.indices] - starts, counts)
    minima = np.minimum(np.repeat(a.data, counts), by_column.data[places])
    pairs = (np.repeat(rows, counts), by_column.indices[places])
    return sparse.coo_matrix((minima, pairs), shape=(a.shape[0], by_column.shape[0])).tocsr()
