"""Oracles: plain loops from the definition; FastReID's own functions."""

import numpy as np
import pytest
import scipy.sparse as sparse
import torch

from vireid_plugins.evaluation import (
    affinity_inference,
    expand_features,
    jaccard_distance,
    k_reciprocal_rerank,
)
from vireid_plugins.evaluation.neighbors import all_pairs
from vireid_plugins.evaluation.neighbors import lists as neighbor_lists
from vireid_plugins.evaluation.reranking import minimum_sums as sums_module
from vireid_plugins.evaluation.reranking import rerank as rerank_module
from vireid_plugins.evaluation.reranking.jaccard import jaccard_rows

from fastreid.evaluation.query_expansion import aqe
from fastreid.evaluation.rerank import re_ranking
from fastreid.utils.compute_dist import compute_jaccard_distance


def squared_distances(a, b):
    return ((a[:, None].astype(np.float64) - b[None].astype(np.float64)) ** 2).sum(2)


def by_distance(distances, i, candidates):
    return sorted((j for j in candidates if j != i), key=lambda j: (distances[i, j], j))


def neighbor_list(distances, i, groups):
    """The item, then the others by distance and index; with groups in turn, others' first."""
    num = len(distances)
    if groups is None:
        return [i, *by_distance(distances, i, range(num))]
    others = by_distance(distances, i, [j for j in range(num) if groups[j] != groups[i]])
    own = by_distance(distances, i, [j for j in range(num) if groups[j] == groups[i]])
    result = [i]
    while others or own:
        result += [side.pop(0) for side in (others, own) if side]
    return result


def loop_jaccard(features, k1, k2, definition="original", groups=None):
    """(N, N) dense: sets as sets, one item after the other."""
    num = len(features)
    distances = squared_distances(features, features)
    if definition == "original":
        distances /= np.maximum(distances.max(1, keepdims=True), 1e-300)
    length = k1 + 1 if definition == "original" else k1
    order = [neighbor_list(distances, i, groups) for i in range(num)]

    def reciprocal(i, k):
        kept = min(k + 1, length)
        return {j for j in order[i][:kept] if i in order[j][:kept]}

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


@pytest.mark.parametrize("definition", ["original", "softmax"])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("k1,k2", [(12, 4), (4, 1), (1, 2)])
def test_both_definitions_with_and_without_groups_equal_the_loop(definition, grouped, k1, k2):
    """Groups of unequal sizes, one of them smaller than half a list."""
    rng = np.random.default_rng(k1)
    features = rng.standard_normal((40, 5)).astype(np.float32)
    groups = np.array([0] * 25 + [1] * 12 + [2] * 3)[rng.permutation(40)] if grouped else None
    got = jaccard_distance(features, k1, k2, definition=definition, groups=groups)
    expected = loop_jaccard(features, k1, k2, definition, groups)
    np.testing.assert_allclose(dense(got), expected, atol=1e-5)


def test_the_softmax_definition_equals_fastreid(monkeypatch):
    """Its search on the CPU (search_option 3); its loop makes the rest."""
    rng = np.random.default_rng(3)
    features = torch.from_numpy(rng.standard_normal((50, 6)).astype(np.float32))
    expected = compute_jaccard_distance(features, k1=8, k2=3, search_option=3)
    got = dense(jaccard_distance(features, 8, 3, definition="softmax"))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_nearly_equal_neighbors_are_ordered_as_in_float64():
    """Far from the origin float32 products lose what decides; distances do not."""
    rng = np.random.default_rng(4)
    features = (rng.standard_normal((60, 4)) + 300).astype(np.float32)
    got = dense(jaccard_distance(features, 8, 3))
    np.testing.assert_allclose(got, loop_jaccard(features, 8, 3), atol=1e-5)


@pytest.mark.parametrize("limit", [0.9, 0.5, 0.1])
def test_only_pairs_below_the_limit_are_stored(limit):
    rng = np.random.default_rng(5)
    features = np.repeat(rng.standard_normal((8, 5)), 5, axis=0)
    features = (features + 0.3 * rng.standard_normal((40, 5))).astype(np.float32)
    whole = jaccard_distance(features, 6, 2)
    part = jaccard_distance(features, 6, 2, max_distance=limit)
    wanted = dense(whole)
    assert 40 < part.nnz < whole.nnz and part.data.max() < limit
    np.testing.assert_allclose(dense(part), np.where(wanted < limit, wanted, 1.0), atol=1e-6)


@pytest.mark.parametrize("copies", [3, 30])
@pytest.mark.parametrize("grouped", [False, True])
def test_what_float32_cannot_order_is_ordered_in_float64(copies, grouped):
    """Copies and near-copies far from the origin; oracle: float64 differences, then the index."""
    rng = np.random.default_rng(copies)
    features = np.repeat(rng.standard_normal((4, 16)) + 20, copies, axis=0)
    features += rng.choice([0.0, 1e-5, 3e-5], (len(features), 1)) * rng.standard_normal(16)
    features = features.astype(np.float32)
    groups = rng.integers(0, 2, len(features)) if grouped else None
    squared = squared_distances(features, features)
    kept = None if groups is None else torch.from_numpy(groups)
    found, _ = neighbor_lists.nearest_items(torch.from_numpy(features), 5, kept)
    for item, row in enumerate(found):
        wanted = neighbor_list(squared, item, groups)[:5]
        np.testing.assert_array_equal(row, wanted)


def test_blocks_of_any_size_give_the_same(monkeypatch):
    features = np.random.default_rng(6).standard_normal((50, 4)).astype(np.float32)
    whole = dense(jaccard_distance(features, 7, 3))
    monkeypatch.setattr(sums_module, "_BLOCK_PAIRS", 130)
    monkeypatch.setattr(all_pairs, "_SIDE", 9)
    monkeypatch.setattr(neighbor_lists, "_PAIR_ELEMENTS", 30)
    np.testing.assert_allclose(dense(jaccard_distance(features, 7, 3)), whole, atol=1e-6)


@pytest.mark.parametrize("block", [1, 40, 1 << 21])
@pytest.mark.parametrize("num", [1, 25, 100])
def test_sums_of_minima_equal_the_definition(block, num, monkeypatch):
    """Some rows are empty."""
    monkeypatch.setattr(sums_module, "_BLOCK_PAIRS", block)
    a, b = (sparse.random(n, 12, 0.3, "csr", np.float32, random_state=n) for n in (num, 31))
    for others in (a, b):
        wanted = np.minimum(a.toarray()[:, None], others.toarray()).sum(2)
        for least in (0.0, 0.7):
            found = sums_module.minimum_sums(a, None if others is a else b, least)
            kept = np.where(wanted > least, wanted, 0)
            np.testing.assert_allclose(found.toarray(), kept, atol=1e-6)
            assert found.nnz == np.count_nonzero(kept)
            if others is a:
                assert (found != found.T).nnz == 0  # each pair is one number


def test_no_pair_at_distance_one_is_stored():
    """A shared weight that does not count in float32: 1 - s / (2 - s) is 1."""
    rows = sparse.csr_matrix(np.array([[1.0, 1e-9], [0.0, 1.0]], np.float32))
    for found in (jaccard_rows(rows), jaccard_rows(rows, rows)):
        assert found.nnz == 2 and found.diagonal().tolist() == [0.0, 0.0]


@pytest.mark.parametrize("definition", ["original", "softmax"])
def test_any_order_in_memory_gives_the_same(definition):
    features = np.random.default_rng(8).standard_normal((40, 6)).astype(np.float32)
    wanted = dense(jaccard_distance(features, 8, 3, definition=definition))
    turned = jaccard_distance(np.asfortranarray(features), 8, 3, definition=definition)
    np.testing.assert_allclose(dense(turned), wanted, atol=1e-6)


def test_what_is_not_a_number_is_refused():
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="features row 1 holds NaN or infinity"):
            jaccard_distance(np.array([[1.0, 2.0], [3.0, value], [5.0, 7.0]]))


def test_nothing_and_one_item():
    assert jaccard_distance(np.zeros((0, 3))).shape == (0, 0)
    assert dense(jaccard_distance(np.ones((1, 3)))).tolist() == [[0.0]]


@pytest.mark.parametrize(
    "arguments,said",
    [
        ({"definition": "mmt"}, "definition must be one of.*'mmt'"),
        ({"max_distance": 0.0}, "max_distance must lie above 0.*0.0"),
        ({"groups": [0, 1]}, "groups has 2 entries for 3 features"),
    ],
)
def test_jaccard_refuses_senseless_arguments(arguments, said):
    with pytest.raises(ValueError, match=said):
        jaccard_distance(np.ones((3, 2)), **arguments)


@pytest.mark.parametrize("k,alpha,times", [(1, 0.0, 1), (3, 3.0, 2), (24, 1.0, 1)])
def test_query_expansion_equals_fastreid(k, alpha, times):
    """Where no cosine is below 0, whose powers are not numbers there."""
    rng = np.random.default_rng(7)
    query, gallery = (torch.from_numpy(rng.random((n, 6)) + 0.1) for n in (5, 20))
    unit = [x / x.norm(dim=1, keepdim=True) for x in (query, gallery)]
    expected = [torch.nn.functional.normalize(x) for x in aqe(*unit, times, k, alpha)]
    for found, wanted in zip(expand_features(query, gallery, k, alpha, times), expected):
        torch.testing.assert_close(found, wanted)


def test_query_expansion_leaves_negative_cosines_out():
    query, gallery = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8], [-1.0, 0.0]])
    expanded, _ = expand_features(query, gallery, k=3, alpha=1.0)
    wanted = torch.tensor([[1.0 + 0.36, 0.48]])  # 1 (1, 0) + 0.6 (0.6, 0.8) + 0 (-1, 0)
    torch.testing.assert_close(expanded, wanted / wanted.norm())
    with pytest.raises(ValueError, match="alpha of at least 0; got k=1, alpha=-1"):
        expand_features(query, gallery, k=1, alpha=-1)


def waves(rows, columns, scale, shift=0.0):
    """The tensor that the public code was given; it comes from no generator."""
    i = torch.arange(rows, dtype=torch.float64).unsqueeze(1) + shift
    j = torch.arange(columns, dtype=torch.float64)
    return scale * torch.sin(3.7 * i + 1.3 * j + 0.5 * i * j)


# k1, k2, the distances of query 1, and the sum of all distances times 0, 1, 2, ...: what
# xiaoye-hhh/SAAI, models/AIM.py, commit bb02f8f, gave in float32 on a CPU.
AIM = [
    (
        4,
        1,
        [0.73315, -0.56714, -1.40883, -0.22577, -0.26615, -1.53712, -0.74201, 0.53674, 0.02023],
        -201.501,
    ),
    (
        2,
        2,
        [0.74982, -0.18161, -1.50591, -0.1809, -0.17864, -1.59887, -0.29609, 0.63546, 0.05585],
        -147.132,
    ),
    (
        6,
        3,
        [0.63729, -0.62036, -1.32584, -0.71711, -0.8732, -1.52794, -0.83341, 0.19552, -0.21289],
        -286.111,
    ),
]


@pytest.mark.parametrize("k1,k2,row,total", AIM)
def test_affinity_inference_equals_the_public_code(k1, k2, row, total):
    query, gallery = waves(4, 6, 1.0), waves(9, 6, 2.0, 0.3)
    got = affinity_inference(query.float(), gallery.float(), k1, k2)
    np.testing.assert_allclose(got[1], row, atol=2e-5)
    assert (got * np.arange(36).reshape(4, 9)).sum() == pytest.approx(total, abs=5e-3)


def test_affinity_inference_in_blocks_and_of_nothing(monkeypatch):
    query, gallery = waves(7, 6, 1.0), waves(9, 6, 2.0, 0.3)
    whole = affinity_inference(query, gallery, 30, 40)  # more than there are: all
    monkeypatch.setattr(rerank_module, "_BLOCK_ELEMENTS", 20)
    np.testing.assert_allclose(affinity_inference(query, gallery, 9, 9), whole, atol=1e-6)
    assert affinity_inference(query[:0], gallery).shape == (0, 9)
    assert affinity_inference(query, gallery[:0]).shape == (7, 0)
    for wrong in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="k1 and k2 must be at least 1"):
            affinity_inference(query, gallery, *wrong)


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


@pytest.mark.parametrize("definition", ["original", "softmax"])
def test_cross_modality_rerank_equals_the_loop(definition):
    """Oracle: ``loop_jaccard`` with the two sides as groups; modalities far apart."""
    rng = np.random.default_rng(5)
    query, gallery = rng.standard_normal((9, 6)), rng.standard_normal((14, 6))
    gallery[:, 0] += 8.0
    items = np.concatenate([query, gallery]).astype(np.float32)
    groups = np.repeat([0, 1], [9, 14])
    jaccard = loop_jaccard(items, 6, 3, definition, groups)[:9, 9:]
    squared = squared_distances(items, items)
    original = squared[:9, 9:] / squared[:9].max(1, keepdims=True)
    got = k_reciprocal_rerank(
        items[:9], items[9:], 6, 3, 0.25, definition=definition, cross_modality=True
    )
    np.testing.assert_allclose(got, 0.75 * jaccard + 0.25 * original, atol=1e-5)
    without = k_reciprocal_rerank(items[:9], items[9:], 6, 3, 0.25, definition=definition)
    assert np.abs(got - without).max() > 0.01


def test_rerank_of_nothing_is_empty():
    assert k_reciprocal_rerank(np.zeros((0, 4)), np.ones((3, 4))).shape == (0, 3)
    assert k_reciprocal_rerank(np.ones((3, 4)), np.zeros((0, 4))).shape == (3, 0)


@pytest.mark.parametrize("k1,k2,weight", [(0, 1, 0.3), (1, 0, 0.3), (1, 1, 1.5)])
def test_rerank_refuses_senseless_arguments(k1, k2, weight):
    with pytest.raises(ValueError, match="must"):
        k_reciprocal_rerank(np.ones((2, 3)), np.ones((2, 3)), k1, k2, weight)
