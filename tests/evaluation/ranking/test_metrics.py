"""Oracle: a float64 loop over queries and gallery items, written from the definitions."""

import numpy as np
import pytest
import torch
from evaluation_oracles import loop_metrics, loop_scores

from vireid_plugins.evaluation import (
    RankRules,
    Trial,
    rank_metrics,
    rank_metrics_from_similarity,
    rank_trials,
)
from vireid_plugins.evaluation.ranking import counting, plain, topk
from vireid_plugins.evaluation.ranking import scores as ranking_scores
from vireid_plugins.evaluation.similarity import first_equal_rows


def random_case(rng, metric):
    """Few identities and cameras, so that identities are missing or have one camera only.

    Features lie on a small grid (Euclidean) or on the axes (cosine): distances are exact in
    floating point and many are equal.
    """
    num_query, num_gallery = rng.integers(0, 9), rng.integers(0, 30)
    identities, cameras = rng.integers(1, 8), rng.integers(1, 5)
    if metric == "cosine":
        axes = np.concatenate([np.eye(3), -np.eye(3)])
        query, gallery = (axes[rng.integers(0, 6, n)] for n in (num_query, num_gallery))
    else:
        query, gallery = (rng.integers(0, 3, (n, 3)) for n in (num_query, num_gallery))
    return {
        "query_features": query.astype(rng.choice([np.float32, np.float64])),
        "gallery_features": gallery.astype(np.float32),
        "query_targets": rng.integers(0, identities, num_query),
        "gallery_targets": rng.integers(0, identities, num_gallery),
        "query_camids": rng.integers(1, cameras + 1, num_query),
        "gallery_camids": rng.integers(1, cameras + 1, num_gallery),
    }


def assert_equal(got, expected):
    cmc, mean_precision, mean_penalty, precisions, valid = expected
    np.testing.assert_allclose(got.cmc, cmc, atol=1e-9)
    np.testing.assert_allclose(got.mAP, mean_precision, atol=1e-9)
    np.testing.assert_allclose(got.mINP, mean_penalty, atol=1e-9)
    np.testing.assert_allclose(got.average_precision, precisions, atol=1e-9)
    assert got.num_valid_queries == valid


@pytest.fixture(params=["compiled", "plain", "plain, ties sorted"])
def form(request, monkeypatch):
    """Every way of counting must give the same ranks."""
    if request.param == "compiled":
        pytest.importorskip("numba")
        assert counting.compiled_form(torch.float32) and counting.compiled_form(torch.float64)
    else:
        monkeypatch.setattr(counting, "compiled_form", lambda dtype: None)
    if "sorted" in request.param:
        monkeypatch.setattr(plain, "_TIES_BY_COMPARISON", 0)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("cmc", ["image", "identity"])
def test_random_cases_equal_the_loop(form, metric, cmc):
    rng = np.random.default_rng(7)
    for number in range(50):
        case = random_case(rng, metric)
        pairs = [(), {(3, 2)}, {(1, 1), (2, 1), (3, 2)}][number % 3]
        same, max_rank = bool(number % 2), int(rng.integers(1, 25))
        scores = loop_scores(case["query_features"], case["gallery_features"], metric)
        expected = loop_metrics(scores, case, pairs, same, cmc, max_rank)
        rules = dict(skip_camera_pairs=pairs, skip_same_camera=same, cmc=cmc, max_rank=max_rank)
        assert_equal(rank_metrics(**case, metric=metric, **rules), expected)
        labels = {name: value for name, value in case.items() if "features" not in name}
        assert_equal(rank_metrics_from_similarity(scores, **labels, **rules), expected)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_trials_equal_one_call_each(metric, monkeypatch):
    """Oracle: ``rank_metrics`` on the rows of each trial, at once; here in blocks of queries."""
    rng = np.random.default_rng(3)
    features = rng.standard_normal((60, 5))
    targets, camids = rng.integers(0, 6, 60), rng.integers(1, 5, 60)
    trials = [
        Trial(rng.permutation(60)[:n], rng.permutation(60)[:m])
        for n, m in ((20, 30), (20, 0), (0, 9), (60, 60), (1, 40))
    ]
    rules = RankRules(skip_camera_pairs=((1, 2),), skip_same_camera=True, cmc="identity")
    with monkeypatch.context() as patch:
        patch.setattr(ranking_scores, "_BLOCK_BYTES", 8 * 40 * 3)
        results = rank_trials(features, targets, camids, trials, rules, metric=metric)
    for trial, result in zip(trials, results):
        labels = [v[rows] for v in (targets, camids) for rows in (trial.query, trial.gallery)]
        expected = rank_metrics(
            features[trial.query],
            features[trial.gallery],
            *labels,
            metric=metric,
            skip_camera_pairs={(1, 2)},
            skip_same_camera=True,
            cmc="identity",
        )
        np.testing.assert_allclose(result.average_precision, expected.average_precision)
        np.testing.assert_allclose(result.cmc, expected.cmc)
        assert result.num_valid_queries == expected.num_valid_queries


def test_larger_float32_case_with_threads_and_many_positives():
    """Oracle: the loop on the float32 scores themselves; sorting, blocks and ties all take part."""
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 4000, (40, 900)).astype(np.float32)
    case = {
        "query_targets": rng.integers(0, 12, 40),
        "gallery_targets": rng.integers(0, 12, 900),
        "query_camids": rng.integers(1, 4, 40),
        "gallery_camids": rng.integers(1, 4, 900),
    }
    expected = loop_metrics(scores, case, {(3, 2)}, True, "identity", 20)
    got = rank_metrics_from_similarity(
        torch.from_numpy(scores),
        **case,
        skip_camera_pairs={(3, 2)},
        skip_same_camera=True,
        cmc="identity",
    )
    assert_equal(got, expected)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_equal_a_stable_sort(metric):
    """Oracle: a stable sort of what a query may see; tied scores, in blocks of a few queries."""
    rng = np.random.default_rng(11)
    for number in range(40):
        case, pairs, same = random_case(rng, metric), {(1, 2), (3, 1)}, bool(number % 2)
        scores = loop_scores(case["query_features"], case["gallery_features"], metric)
        rules = dict(metric=metric, skip_camera_pairs=pairs, skip_same_camera=same)
        got = rank_metrics(**case, **rules, top=5).nearest
        assert got.shape == (len(scores), 5)
        for row in range(len(scores)):
            seen = [
                j
                for j in np.argsort(-scores[row], kind="stable")
                if (case["query_camids"][row], case["gallery_camids"][j]) not in pairs
                and not (
                    same
                    and case["query_camids"][row] == case["gallery_camids"][j]
                    and case["query_targets"][row] == case["gallery_targets"][j]
                )
            ]
            np.testing.assert_array_equal(got[row], (seen + [-1] * 5)[:5])
    assert rank_metrics(**case, **rules).nearest is None
    with pytest.raises(ValueError, match="top must be 0 or more; got -1"):
        rank_metrics(**case, **rules, top=-1)


@pytest.mark.parametrize("levels", [3, 300, 10**6])
def test_the_largest_of_wide_rows_equal_a_stable_sort(levels):
    """Wide enough for groups; few levels make every row unclear, many make none so."""
    rng = np.random.default_rng(levels)
    scores = torch.from_numpy(rng.integers(0, levels, (6, 3001)).astype(np.float32))
    scores[0, 5:] = -torch.inf
    scores[1:, -1] = 2.0 * levels  # behind the last whole group
    found, values = topk.largest_by_index(scores, 9)
    for row in range(6):
        order = np.argsort(-scores[row].numpy(), kind="stable")[:9]
        np.testing.assert_array_equal(found[row], order)
        np.testing.assert_array_equal(values[row], scores[row, order.copy()])


def test_identical_gallery_rows_tie_whatever_the_matrix_product_does():
    """197 copies of one vector and one hit, last: it must stand last, at rank 197."""
    rng = np.random.default_rng(5)
    gallery = np.repeat(rng.standard_normal((1, 515)).astype(np.float32), 197, axis=0)
    targets = np.zeros(197, dtype=np.int64)
    targets[-1] = 1
    query = rng.standard_normal((50, 515)).astype(np.float32)
    for metric in ("cosine", "euclidean"):
        got = rank_metrics(query, gallery, np.ones(50, dtype=np.int64), targets, metric=metric)
        np.testing.assert_allclose(got.average_precision, 100 / 197)


@pytest.mark.parametrize("size", [3, 64, 200])
@pytest.mark.parametrize("alike", ["nothing", "few columns", "rows"])
def test_first_equal_rows_equal_a_loop(size, alike):
    """Rows that differ only where the first look does not look; and rows that are equal."""
    features = torch.from_numpy(np.random.default_rng(size).standard_normal((40, size)))
    if alike == "few columns":
        kept = features[:, 1].clone()
        features[:] = features[0].clone()
        features[:, 1] = kept
    if alike != "nothing":
        features[[9, 30]] = features[2].clone()
    rows = features.tolist()
    assert first_equal_rows(features).tolist() == [rows.index(row) for row in rows]


def test_hand_example():
    """Gallery by score: B A A C B (query A). Hits at ranks 2, 3.

    AP = (1/2 + 2/3)/2 = 7/12; INP = 2/3; image CMC first hit 2; identities B A C: also 2.
    """
    query, scores = np.array([[1.0, 0.0]]), np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    gallery = np.stack([scores, np.sqrt(1 - scores**2)], 1)
    got = rank_metrics(query, gallery, [0], [1, 0, 0, 2, 1], max_rank=8)
    assert got.mAP == pytest.approx(100 * 7 / 12) and got.mINP == pytest.approx(200 / 3)
    assert got.cmc.tolist() == [0] + [100] * 7


@pytest.mark.parametrize("num_query,num_gallery", [(0, 0), (3, 0), (0, 4)])
def test_nothing_to_rank_is_nan(num_query, num_gallery):
    got = rank_metrics(
        torch.zeros(num_query, 2),
        torch.zeros(num_gallery, 2),
        torch.zeros(num_query).long(),
        torch.zeros(num_gallery).long(),
        max_rank=5,
    )
    assert got.cmc.shape == (5,) and np.isnan(got.cmc).all()
    assert np.isnan(got.mAP) and np.isnan(got.mINP) and got.num_valid_queries == 0
    assert got.average_precision.shape == (num_query,) and np.isnan(got.average_precision).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_number_types_are_raised(dtype):
    """Small integers are exact in every type: the ranks are those of float64."""
    generator = torch.Generator().manual_seed(0)
    query, gallery = (torch.randint(-3, 4, (n, 4), generator=generator) for n in (6, 25))
    labels = torch.arange(6), torch.arange(25) % 6
    expected = rank_metrics(query.double(), gallery.double(), *labels, metric="euclidean")
    got = rank_metrics(query.to(dtype), gallery.to(dtype), *labels, metric="euclidean")
    np.testing.assert_array_equal(got.average_precision, expected.average_precision)


@pytest.mark.parametrize(
    "change,message",
    [
        (dict(metric="l2"), r"metric must be one of .*cosine.*euclidean.*'l2'"),
        (dict(cmc="person"), r"cmc must be one of .*image.*identity.*'person'"),
        (dict(max_rank=0), "max_rank must be at least 1"),
        (dict(skip_same_camera=True), "query_camids is missing"),
        (dict(skip_camera_pairs=[3, 2]), "pairs"),
        (dict(query_targets=np.zeros(4, int)), r"query_targets has shape \(4,\).* 3 rows"),
        (dict(gallery_targets=np.zeros((5, 1), int)), r"gallery_targets has shape \(5, 1\)"),
        (dict(gallery_targets=np.zeros(5)), "must hold integers"),
        (dict(gallery_features=np.zeros((5, 3))), r"\(3, 2\) and gallery_features \(5, 3\)"),
        (dict(query_features=np.full((3, 2), np.nan)), "query_features row 0 holds NaN"),
        (dict(query_features=np.zeros(3)), "two-dimensional"),
    ],
)
def test_errors_name_both_sides(change, message):
    good = dict(
        query_features=np.ones((3, 2)),
        gallery_features=np.ones((5, 2)),
        query_targets=np.zeros(3, int),
        gallery_targets=np.zeros(5, int),
    )
    with pytest.raises(ValueError, match=message):
        rank_metrics(**{**good, **change})
