"""Oracle: a float64 loop over queries and gallery items, written from the definitions."""

import numpy as np
import pytest
import torch

from vireid_plugins.evaluation import counting, rank_metrics, rank_metrics_from_similarity
from vireid_plugins.evaluation.ranker import RankRules
from vireid_plugins.evaluation.ranking import rank_trials


def loop_metrics(scores, case, skip_camera_pairs, skip_same_camera, cmc, max_rank):
    """CMC (percent), AP and INP per query from scores (Q, G), one item after the other."""
    hits, precisions, penalties = np.zeros(max_rank), [], []
    for row, target, camera in zip(scores, case["query_targets"], case["query_camids"]):
        ranking = []
        for index in sorted(range(len(row)), key=lambda j: (-row[j], j)):
            gallery_target = case["gallery_targets"][index]
            gallery_camera = case["gallery_camids"][index]
            if (camera, gallery_camera) in skip_camera_pairs:
                continue
            if skip_same_camera and gallery_target == target and gallery_camera == camera:
                continue
            ranking.append(gallery_target)
        if target not in ranking:
            precisions.append(np.nan)
            penalties.append(np.nan)
            continue
        places = [rank for rank, found in enumerate(ranking, 1) if found == target]
        precisions.append(100 * np.mean([k / rank for k, rank in enumerate(places, 1)]))
        penalties.append(100 * len(places) / places[-1])
        once = list(dict.fromkeys(ranking)) if cmc == "identity" else ranking
        hits[once.index(target) :] += 1
    valid = int(np.sum(~np.isnan(precisions)))
    if valid == 0:
        return np.full(max_rank, np.nan), np.nan, np.nan, np.array(precisions), 0
    curve = 100 * hits / valid
    return curve, np.nanmean(precisions), np.nanmean(penalties), np.array(precisions), valid


def loop_scores(query, gallery, metric):
    query, gallery = np.asarray(query, np.float64), np.asarray(gallery, np.float64)
    scores = np.zeros((len(query), len(gallery)))
    for i, a in enumerate(query):
        for j, b in enumerate(gallery):
            if metric == "cosine":
                lengths = np.linalg.norm(a) * np.linalg.norm(b)
                scores[i, j] = a @ b / lengths if lengths else 0.0
            else:
                scores[i, j] = -((a - b) ** 2).sum()
    return scores


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


@pytest.fixture(params=["compare", "sort", "torch", "argsort"])
def strategy(request, monkeypatch):
    """Every way of counting must give the same ranks."""
    if request.param != "compare":
        monkeypatch.setattr(counting, "COMPARE_UP_TO", 0)
    if request.param == "torch":
        monkeypatch.setattr(counting, "on_cpu", lambda scores: False)
    if request.param == "argsort":
        monkeypatch.setattr(counting, "TIES_BY_COMPARISON", 0)
    return request.param


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("cmc", ["image", "identity"])
def test_random_cases_equal_the_loop(strategy, metric, cmc):
    rng = np.random.default_rng(7)
    for number in range(100):
        case = random_case(rng, metric)
        pairs = [(), {(3, 2)}, {(1, 1), (2, 1), (3, 2)}][number % 3]
        same, max_rank = bool(number % 2), int(rng.integers(1, 25))
        scores = loop_scores(case["query_features"], case["gallery_features"], metric)
        expected = loop_metrics(scores, case, pairs, same, cmc, max_rank)
        rules = dict(
            skip_camera_pairs=pairs, skip_same_camera=same, cmc=cmc, max_rank=max_rank
        )
        assert_equal(rank_metrics(**case, metric=metric, **rules), expected)
        labels = {name: value for name, value in case.items() if "features" not in name}
        assert_equal(rank_metrics_from_similarity(scores, **labels, **rules), expected)
