"""Oracles: plain loops from the definition, FastReID's own re-ranking, brute-force neighbours."""

import numpy as np
import pytest
import torch

from vireid_plugins.evaluation import NearestNeighbors, jaccard_distance, k_reciprocal_rerank
from vireid_plugins.evaluation import neighbors as neighbors_module

from fastreid.evaluation.rerank import re_ranking


def squared_distances(a, b):
    return ((a[:, None].astype(np.float64) - b[None].astype(np.float64)) ** 2).sum(2)


def loop_jaccard(features, k1, k2):
    """(N, N) dense: sets as sets, one item after the other."""
    num = len(features)
    distances = squared_distances(features, features)
    distances /= np.maximum(distances.max(1, keepdims=True), 1e-300)
    order = []
    for i in range(num):  # the item itself, then the others by distance and index
        others = [j for j in range(num) if j != i]
        order.append([i] + sorted(others, key=lambda j: (distances[i, j], j)))

    def reciprocal(i, k):
        return {j for j in order[i][: k + 1] if i in order[j][: k + 1]}

    encodings = np.zeros((num, num))
    for i in range(num):
        members = reciprocal(i, k1)
        expanded = set(members)
        for j in members:
            candidate = reciprocal(j, int(np.around(k1 / 2)))
            if len(candidate & members) > 2 / 3 * len(candidate):
                expanded |= candidate
        for j in expanded:
            encodings[i, j] = np.exp(-distances[i, j])
        encodings[i] /= encodings[i].sum()
    if k2 > 1:
        encodings = np.stack([encodings[order[i][:k2]].mean(0) for i in range(num)])
    out = np.zeros((num, num))
    for i in range(num):
        for j in range(num):
            smallest = np.minimum(encodings[i], encodings[j]).sum()
            out[i, j] = 1 - smallest / (2 - smallest)
    return out


def dense(sparse_distances):
    """Pairs that are not stored are at distance 1."""
    out = np.ones(sparse_distances.shape)
    coo = sparse_distances.tocoo()
    out[coo.row, coo.col] = coo.data
    return out


@pytest.mark.parametrize("k1,k2", [(20, 6), (5, 1), (3, 2), (1, 1), (30, 8), (50, 60)])
@pytest.mark.parametrize("num,duplicates", [(45, False), (12, False), (40, True)])
def test_jaccard_equals_the_loop(k1, k2, num, duplicates):
    rng = np.random.default_rng(num)
    features = rng.standard_normal((num, 5)).astype(np.float32)
    if duplicates:
        features = rng.integers(0, 2, (num, 3)).astype(np.float32)
    got = jaccard_distance(features, k1, k2)
    np.testing.assert_allclose(dense(got), loop_jaccard(features, k1, k2), atol=1e-5)
    assert got.dtype == np.float32 and got.data.max() < 1


@pytest.mark.parametrize("k1,k2,weight", [(20, 6, 0.3), (7, 1, 0.0), (4, 3, 1.0)])
def test_rerank_equals_fastreid(k1, k2, weight):
    rng = np.random.default_rng(0)
    query, gallery = rng.standard_normal((13, 8)), rng.standard_normal((37, 8))
    distances = [
        np.sqrt(squared_distances(a, b))
        for a, b in ((query, gallery), (query, query), (gallery, gallery))
    ]
    expected = re_ranking(*distances, k1=k1, k2=k2, lambda_value=weight)
    got = k_reciprocal_rerank(torch.from_numpy(query), gallery, k1, k2, weight)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_rerank_of_nothing_is_empty():
    assert k_reciprocal_rerank(np.zeros((0, 4)), np.ones((3, 4))).shape == (0, 3)
    assert k_reciprocal_rerank(np.ones((3, 4)), np.zeros((0, 4))).shape == (3, 0)


@pytest.mark.parametrize("k1,k2,weight", [(0, 1, 0.3), (1, 0, 0.3), (1, 1, 1.5)])
def test_rerank_refuses_senseless_arguments(k1, k2, weight):
    with pytest.raises(ValueError, match="must"):
        k_reciprocal_rerank(np.ones((2, 3)), np.ones((2, 3)), k1, k2, weight)


@pytest.mark.parametrize("library", ["faiss", "torch"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("ties", [False, True])
def test_neighbours_equal_brute_force(library, metric, ties, monkeypatch):
    if library == "torch":
        monkeypatch.setattr(neighbors_module, "faiss", None)
    elif neighbors_module.faiss is None:
        pytest.skip("faiss is not installed")
    rng = np.random.default_rng(1)
    items, queries = rng.standard_normal((60, 16)), rng.standard_normal((25, 16))
    if ties:  # axes and repeated rows: many equal distances, exact in floating point
        axes = np.eye(16)[:4]
        items, queries = axes[rng.integers(0, 4, 60)], axes[rng.integers(0, 4, 25)]
    items, queries = items.astype(np.float32), queries.astype(np.float32)
    if metric == "cosine":
        unit = [x / np.linalg.norm(x.astype(np.float64), axis=1)[:, None] for x in (queries, items)]
        expected = 1 - (unit[0][:, None] * unit[1][None]).sum(2)
    else:
        expected = np.sqrt(squared_distances(queries, items))
    for k in (1, 7, 60):
        order = np.argsort(expected, axis=1, kind="stable")[:, :k]
        distances, indices = NearestNeighbors(metric).fit(items).search(queries, k)
        np.testing.assert_array_equal(indices, order)
        wanted = np.take_along_axis(expected, order, 1)
        np.testing.assert_allclose(distances, wanted, atol=1e-5)


def test_neighbours_say_what_is_wrong():
    with pytest.raises(RuntimeError, match="fit"):
        NearestNeighbors().search(np.ones((1, 2)), 1)
    with pytest.raises(ValueError, match="between 1 and the number of items, 3; got 4"):
        NearestNeighbors().fit(np.ones((3, 2))).search(np.ones((1, 2)), 4)
    with pytest.raises(ValueError, match="5 dimensions, the items 2"):
        NearestNeighbors().fit(np.ones((3, 2))).search(np.ones((1, 5)), 1)
    with pytest.raises(ValueError, match="metric must be one of"):
        NearestNeighbors("manhattan")
