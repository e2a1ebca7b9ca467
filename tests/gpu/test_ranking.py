"""Ranking, neighbors and re-ranking on the GPU. Oracle: the CPU, whose own tests have loops."""

import numpy as np
import pytest
import torch

from vireid_plugins.evaluation import (
    NearestNeighbors,
    RankRules,
    Trial,
    jaccard_distance,
    k_reciprocal_rerank,
    rank_metrics_from_similarity,
    rank_trials,
)
from vireid_plugins.evaluation.neighbors import faiss_index

pytestmark = pytest.mark.gpu
QUERIES, GALLERY, SIZE = 300, 900, 64


@pytest.fixture(scope="module")
def items():
    """Return features (N, D), identities and cameras; 40 persons, 4 cameras."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 40, QUERIES + GALLERY)
    camids = rng.integers(1, 5, QUERIES + GALLERY)
    features = rng.standard_normal((40, SIZE))[targets]
    features = features + 2.0 * rng.standard_normal((QUERIES + GALLERY, SIZE))
    return torch.from_numpy(features.astype(np.float32)), targets, camids


@pytest.mark.parametrize("cmc", ["image", "identity"])
def test_metrics_of_equal_scores_are_exactly_the_cpus(cmc, device, items):
    """Whole numbers from -3 to 3: most scores are tied, and no sum is rounded."""
    _, targets, camids = items
    scores = torch.randint(-3, 4, (QUERIES, GALLERY)).float()
    labels = targets[:QUERIES], targets[QUERIES:], camids[:QUERIES], camids[QUERIES:]
    words = dict(skip_camera_pairs=[(3, 2)], skip_same_camera=True, cmc=cmc)
    here = rank_metrics_from_similarity(scores.to(device), *labels, **words)
    expected = rank_metrics_from_similarity(scores, *labels, **words)
    np.testing.assert_array_equal(here.cmc, expected.cmc)
    assert (here.mAP, here.mINP) == pytest.approx((expected.mAP, expected.mINP), abs=1e-9)
    assert 0 < expected.mAP < 100


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_trials_are_ranked_as_on_the_cpu(metric, device, items):
    features, targets, camids = items
    query, gallery = np.arange(QUERIES), np.arange(QUERIES, QUERIES + GALLERY)
    trials = [Trial(query, gallery), Trial(query, gallery[::3])]
    words = dict(metric=metric)
    here = rank_trials(features.to(device), targets, camids, trials, RankRules(), **words)
    expected = rank_trials(features, targets, camids, trials, RankRules(), **words)
    for found, wanted in zip(here, expected):
        np.testing.assert_allclose(found.cmc, wanted.cmc, atol=0.34)  # one query in 300
        assert found.mAP == pytest.approx(wanted.mAP, abs=0.01)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_nearest_neighbors_are_the_cpus(metric, device, items):
    features = items[0].numpy()
    found = [
        NearestNeighbors(metric, device=name).fit(features[QUERIES:]).search(features[:QUERIES], 10)
        for name in (device, "cpu")
    ]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6, atol=1e-9)


def test_faiss_searches_on_the_gpu_if_its_build_can(device):
    faiss = pytest.importorskip("faiss")
    if device == "cpu" or not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("faiss has no GPU support here; PyTorch searches on the GPU")
    index = faiss_index.flat_index(SIZE, "cosine", torch.device(device))
    assert index is not None and "Gpu" in type(index).__name__


@pytest.mark.parametrize("definition", ["original", "softmax"])
def test_jaccard_distances_are_the_cpus(definition, device, items):
    features = items[0].numpy()[:400]
    here = jaccard_distance(features, 10, 3, definition=definition, device=device)
    expected = jaccard_distance(features, 10, 3, definition=definition)
    assert expected.nnz > len(features)
    assert abs(here - expected).max() < 1e-5


def test_re_ranked_distances_are_the_cpus(device, items):
    features = items[0]
    query, gallery = features[:50], features[QUERIES : QUERIES + 300]
    here = k_reciprocal_rerank(query.to(device), gallery.to(device))
    expected = k_reciprocal_rerank(query, gallery)
    np.testing.assert_allclose(np.asarray(here), np.asarray(expected), atol=1e-5)
