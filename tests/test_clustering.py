"""Oracles: the rule of MMT on the dense matrix; scikit-learn's DBSCAN of the dense matrix."""

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from sklearn.cluster import DBSCAN

from vireid_plugins.clustering import automatic_radius, cluster
from vireid_plugins.evaluation import jaccard_distance


def people(num=20, images=6, noise=0.25, duplicates=0, seed=0):
    rng = np.random.default_rng(seed)
    features = np.repeat(rng.standard_normal((num, 12)), images, axis=0)
    features = (features + noise * rng.standard_normal(features.shape)).astype(np.float32)
    features[: 2 * duplicates : 2] = features[1 : 2 * duplicates : 2]
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def dense(distances):
    out = np.ones(distances.shape)
    coo = distances.tocoo()
    out[coo.row, coo.col] = coo.data
    return out


def rule_of_mmt(matrix, share):
    upper = np.triu(matrix, 1)
    upper = np.sort(upper[upper > 1e-6])  # not 0, whatever rounding made of it
    return upper[: int(np.round(share * upper.size))].mean()


@pytest.mark.parametrize("share", [1.6e-3, 0.02, 0.3, 1.0])
def test_the_radius_is_that_of_the_dense_matrix(share):
    distances = jaccard_distance(people(), 8, 3)
    assert automatic_radius(distances, share) == pytest.approx(
        rule_of_mmt(dense(distances), share), rel=1e-5
    )


def test_pairs_at_distance_0_do_not_count():
    """Items 0 and 1 are one image twice, and so are 2 and 3; 0 and 2 are half alike."""
    values = [0, 0, 0.5, 0, 0, 0.5, 0, 0, 0, 0]
    rows, columns = [0, 0, 0, 1, 1, 2, 2, 2, 3, 3], [0, 1, 2, 0, 1, 0, 2, 3, 2, 3]
    distances = sparse.csr_matrix((values, (rows, columns)), shape=(4, 4))
    matrix = dense(distances)
    for share in (0.2, 0.5, 1.0):
        assert automatic_radius(distances, share) == pytest.approx(rule_of_mmt(matrix, share))


@pytest.mark.parametrize("duplicates", [0, 9])
@pytest.mark.parametrize("radius,min_samples", [(0.3, 4), (0.5, 2), (0.7, 4), (1e-6, 1)])
def test_clusters_are_those_of_the_dense_matrix(radius, min_samples, duplicates):
    distances = jaccard_distance(people(duplicates=duplicates), 8, 3)
    expected = DBSCAN(eps=radius, min_samples=min_samples, metric="precomputed").fit(
        dense(distances).astype(np.float32)
    )
    np.testing.assert_array_equal(cluster(distances, radius, min_samples), expected.labels_)


@pytest.mark.parametrize("min_samples", [1, 2, 3, 5])
def test_clusters_of_sparse_pairs_are_those_of_all_pairs(min_samples):
    """Few distinct distances, so that items lie between clusters; with the diagonal and without."""
    rng = np.random.default_rng(min_samples)
    for trial in range(60):
        num = int(rng.integers(1, 40))
        upper = np.triu(rng.choice([0, 0.25, 0.5, 1], (num, num), p=[0.01, 0.02, 0.02, 0.95]), 1)
        matrix = upper + upper.T
        stored = matrix < 1
        if trial % 2:
            np.fill_diagonal(stored, False)
        parts = (matrix[stored].astype(np.float32), np.nonzero(stored))
        distances = sparse.csr_matrix(parts, shape=(num, num))
        expected = DBSCAN(eps=0.25, min_samples=min_samples, metric="precomputed").fit(matrix)
        np.testing.assert_array_equal(cluster(distances, 0.25, min_samples), expected.labels_)


def test_a_pair_at_the_radius_is_near():
    """Three items in a chain, with exactly representable distances."""
    distances = sparse.csr_matrix(
        ([0, 0.5, 0.5, 0, 0.25, 0.25, 0], ([0, 0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 1, 2]))
    )
    assert cluster(distances.astype(np.float32), 0.5, 2).tolist() == [0, 0, 0]
    assert cluster(distances.astype(np.float32), 0.25, 2).tolist() == [-1, 0, 0]
    assert cluster(distances.astype(np.float32), 0.25, 3).tolist() == [-1, -1, -1]


def test_people_are_found_and_a_stranger_is_an_outlier():
    features = np.concatenate([people(noise=0.05), -np.ones((1, 12), np.float32)])
    distances = jaccard_distance(features, 5, 2)
    labels = cluster(distances, automatic_radius(distances, 0.02) + 0.3)
    assert labels[-1] == -1
    np.testing.assert_array_equal(labels[:-1], np.repeat(np.arange(20), 6))


def test_senseless_arguments_are_named():
    distances = jaccard_distance(people(num=3), 4, 1)
    with pytest.raises(ValueError, match="share must lie above 0.*got 0"):
        automatic_radius(distances, 0)
    with pytest.raises(ValueError, match="of 153 pairs is less than one pair"):
        automatic_radius(distances, 1e-3)
    with pytest.raises(ValueError, match="radius must be above 0"):
        cluster(distances, 0.0)
    assert cluster(sparse.csr_matrix((0, 0)), 0.5).shape == (0,)


@pytest.mark.parametrize(
    "share,radius,clusters,outliers", [(1.6e-3, 0.14440640, 1, 116), (0.02, 0.32015833, 3, 97)]
)
def test_radius_and_clusters_are_those_of_the_public_code(share, radius, clusters, outliers):
    """Recorded from yxgeee/MMT, commit 057e1ea.

    Distances are those of ``compute_jaccard_dist`` (``mmt/utils/rerank.py``), radius and DBSCAN
    those of ``examples/mmt_train_dbscan.py`` (``rho``, 4 samples).
    """

    def wave(rows, phase):
        n = torch.arange(rows * 16, dtype=torch.float64).view(rows, 16)
        return torch.sin(n * n * 0.37 + phase).float()

    features = wave(120, 0.3) + 0.8 * wave(20, 5.0).repeat_interleave(6, 0)
    distances = jaccard_distance(torch.nn.functional.normalize(features, dim=1), 20, 6)
    found = automatic_radius(distances, share)
    labels = cluster(distances, found)
    assert found == pytest.approx(radius, abs=1e-7)
    assert (labels.max() + 1, (labels < 0).sum()) == (clusters, outliers)
