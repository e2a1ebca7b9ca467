"""Pseudo-identities from sparse distances: DBSCAN and the automatic radius.

The sparse matrices are those of ``evaluation.jaccard_distance``: pairs that are not stored are too
far to matter. Shapes: N items.
"""

import warnings

import numpy as np
import scipy.sparse as sparse

from .errors import UserError

_ROUNDING = 1e-6  # rounding error of a Jaccard distance in float32


def automatic_radius(distances: sparse.spmatrix, share: float = 1.6e-3) -> float:
    """Return DBSCAN's radius by the rule of MMT: the mean of the smallest distances.

    Ge, Chen, Li, *Mutual Mean-Teaching*, ICLR 2020, and its public code: the mean over the nearest
    ``share`` of all pairs at a distance above 0. MMT computes it once, at the first clustering.

    Items with equal encodings have a distance of 0, apart from rounding. Whether the public code
    counts such a pair depends on that rounding; here every distance up to 1e-6 is taken as 0.

    Args:
        distances: (N, N) symmetric, diagonal 0; all pairs nearer than 1 are stored (made with
            ``max_distance`` 1), the others are at 1.
        share: the share of the pairs that is averaged, above 0 and at most 1.

    Raises:
        UserError: ``share`` is out of range, or it is less than half a pair.
    """
    if not 0 < share <= 1:
        raise UserError(f"share must lie above 0 and at most at 1; got {share!r}.")
    distances = sparse.csr_matrix(distances)
    num = distances.shape[0]
    values = distances.data[distances.data > _ROUNDING]  # each pair twice, as (i, j) and (j, i)
    zero_pairs = (distances.nnz - len(values) - num) // 2  # without the diagonal
    num_pairs = num * (num - 1) // 2 - max(zero_pairs, 0)
    wanted = 2 * int(np.round(share * num_pairs))
    if wanted == 0:
        raise UserError(
            f"A share of {share:g} of {num_pairs} pairs is less than one pair: give the radius as "
            "a number, or a larger share."
        )
    if wanted >= len(values):
        return float((values.sum(dtype=np.float64) + (wanted - len(values))) / wanted)
    return float(np.partition(values, wanted - 1)[:wanted].mean(dtype=np.float64))


def cluster(distances: sparse.spmatrix, radius: float, min_samples: int = 4) -> np.ndarray:
    """Cluster items by scikit-learn's DBSCAN.

    Args:
        distances: (N, N) sparse, diagonal 0; pairs that are not stored are farther than
            ``radius``.
        radius: items at most this far are neighbors (DBSCAN's eps).
        min_samples: how many neighbors, the item itself included, make an item the core of a
            cluster.

    Returns:
        (N,) int64, the cluster of each item, from 0; -1: the item is an outlier.

    Raises:
        UserError: ``radius`` is not above 0, or ``min_samples`` is below 1.
    """
    if not radius > 0 or min_samples < 1:
        raise UserError(
            f"radius must be above 0 and min_samples at least 1; got {radius!r}, {min_samples!r}."
        )
    from sklearn.cluster import DBSCAN  # slow to load
    from sklearn.exceptions import EfficiencyWarning

    distances = sparse.csr_matrix(distances)
    if distances.shape[0] == 0:
        return np.zeros(0, np.int64)
    near = _at_most(distances, radius)
    with warnings.catch_warnings():
        # DBSCAN warns that it sorts the rows, which is necessary.
        warnings.simplefilter("ignore", EfficiencyWarning)
        labels = DBSCAN(eps=radius, min_samples=min_samples, metric="precomputed").fit(near).labels_
    return labels.astype(np.int64)


def _at_most(distances: sparse.csr_matrix, radius: float) -> sparse.csr_matrix:
    """Return only the stored pairs within ``radius``; explicit zeros stay."""
    kept = distances.data <= radius
    ends = np.concatenate([[0], np.cumsum(kept)])[distances.indptr]
    parts = (distances.data[kept], distances.indices[kept], ends)
    return sparse.csr_matrix(parts, shape=distances.shape)
