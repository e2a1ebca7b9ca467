"""Rank-1 from camera to camera. Oracles: features worked out by hand, and a loop over queries."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vireid_plugins.data import Item
from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import RankRules, TestFeatures
from vireid_plugins.evaluation.cameras import NEVER, NOBODY, OWN, Camera, camera_matrix


def case(*images):
    """Features and dataset of images (modality, camera, identity, feature); infrared: queries."""
    items = [(Item(f"{n:03d}.jpg", p, c, m), x) for n, (m, c, p, x) in enumerate(images)]
    query = [pair for pair in items if pair[0].modality == 1]
    gallery = [pair for pair in items if pair[0].modality == 0]
    dataset = SimpleNamespace(query=[i for i, _ in query], gallery=[i for i, _ in gallery])
    ordered = [item for item, _ in query + gallery]
    labels = (
        np.array([getattr(i, name) for i in ordered]) for name in ("pid", "camid", "modality")
    )
    rows = torch.tensor([x for _, x in query + gallery], dtype=torch.float32)
    return TestFeatures(rows, *labels, np.arange(len(ordered))), dataset


def test_a_matrix_by_hand():
    """Identity 1 points to (1, 0), identity 2 to (0, 1); infrared camera 3 confuses one of 2."""
    one, two, between = (1.0, 0.0), (0.0, 1.0), (0.8, 0.6)
    features, dataset = case(
        *((0, 1, 1, one), (0, 1, 2, two)),
        *((0, 2, 1, one), (0, 2, 2, two), (0, 2, 3, (-1.0, 0.0))),
        *((1, 3, 1, one), (1, 3, 2, between), (1, 3, 2, between)),
    )
    found = camera_matrix(features, dataset, RankRules(), trials=2)
    assert found.cameras == (Camera(0, 1), Camera(0, 2), Camera(1, 3))
    nan = np.nan
    expected = [
        # to camera 1, 2, 3; both images of camera 3's identity 2 are alike, so any draw is the same
        [nan, 100, 100],  # (0, 1) is nearer to (.8, .6) than to (1, 0)
        [100, nan, 100],  # identity 3 was not seen by cameras 1 and 3: it is no query
        [100 / 3, 100 / 3, nan],  # (.8, .6) is nearer to (1, 0): both are wrong
    ]
    np.testing.assert_allclose(found.rank1, expected)
    assert found.queries.tolist() == [[0, 2, 2], [2, 0, 2], [3, 3, 0]]
    assert found.identities.tolist() == [2, 3, 2]
    assert found.why[0] == (OWN, "", "") and np.nanmax(found.std) == 0
    assert found.means() == pytest.approx(
        {"within visible": 100, "visible to infrared": 100, "infrared to visible": 100 / 3}
    )


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_loop_over_queries_finds_the_same(metric):
    """With gaps in who was seen where, several images, and draws that matter."""
    draw = np.random.default_rng(0)
    cameras = [(0, 1), (0, 2), (1, 2), (1, 6)]
    images = [
        (modality, camera, person, draw.normal(size=3) + 2 * person)
        for modality, camera in cameras
        for person in range(6)
        if draw.random() < 0.8
        for _ in range(draw.integers(1, 4))
    ]
    features, dataset = case(*images)
    found = camera_matrix(features, dataset, RankRules(), metric=metric, trials=3)
    assert list(found.cameras) == [Camera(*pair) for pair in cameras]
    items = dataset.query + dataset.gallery
    rows = features.features.numpy()
    if metric == "cosine":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    scores = np.zeros((3, 4, 4))
    for trial in range(3):
        chosen = {}
        for modality in (0, 1):  # as AGW's code: one generator for the galleries of a modality
            generator = random.Random(trial)
            for person in range(6):
                for camera in (c for m, c in cameras if m == modality):
                    own = [n for n, i in enumerate(items) if i[1:] == (person, camera, modality)]
                    if own:
                        own.sort(key=lambda n: items[n].path)
                        chosen[modality, camera, person] = generator.choice(own)
        for a, query in enumerate(cameras):
            for b, other in enumerate(cameras):
                gallery = {p: n for (m, c, p), n in chosen.items() if (m, c) == other}
                hits = [
                    min(gallery, key=lambda p: np.linalg.norm(rows[gallery[p]] - rows[n])) == i.pid
                    for n, i in enumerate(items)
                    if (i.modality, i.camid) == query and i.pid in gallery
                ]
                scores[trial, a, b] = 100 * np.mean(hits)
    expected = scores.mean(0)
    np.fill_diagonal(expected, np.nan)
    np.testing.assert_allclose(found.rank1, expected)
    spread = scores.std(0)
    np.fill_diagonal(spread, np.nan)
    np.testing.assert_allclose(found.std, spread, atol=1e-9)


def test_pairs_that_are_never_compared_and_cameras_without_a_common_identity_are_empty():
    line = [(0, 2, 1, (1.0, 0.0)), (1, 3, 1, (1.0, 0.0)), (1, 6, 1, (1.0, 0.0))]
    features, dataset = case(*line, (1, 4, 9, (0.0, 1.0)))
    found = camera_matrix(features, dataset, RankRules(skip_camera_pairs=((3, 2),)), trials=1)
    visible, third, fourth, _sixth = range(4)
    assert found.why[third][visible] == found.why[visible][third] == NEVER
    assert found.why[fourth][visible] == found.why[visible][fourth] == NOBODY
    assert np.isnan(found.rank1[fourth]).all() and found.queries[fourth].sum() == 0
    assert np.isfinite(found.rank1).sum() == 4  # 2 with 6 and 3 with 6, both ways


def test_one_camera_that_films_in_both_modalities_is_two():
    """LLCM: the images of a person by camera 1 in both modalities are never compared."""
    images = [(m, c, p, (1.0, p)) for m in (0, 1) for c in (1, 2) for p in (0.0, 1.0)]
    features, dataset = case(*((m, c, int(p), x) for m, c, p, x in images))
    found = camera_matrix(features, dataset, RankRules(skip_same_camera=True))
    assert found.cameras == (Camera(0, 1), Camera(0, 2), Camera(1, 1), Camera(1, 2))
    assert found.why[0] == (OWN, "", NEVER, "")


def test_a_stock_dataset_without_modalities_is_one_group():
    features, dataset = case(*((0, c, p, (1.0, p)) for c in (1, 2) for p in (0, 1)))
    features = TestFeatures(
        features.features, features.targets, features.camids, np.full(4, -1), features.index
    )
    found = camera_matrix(features, dataset, RankRules())
    assert [camera.group for camera in found.cameras] == ["", ""]
    assert found.means() == {"within all cameras": 100.0}


def test_features_that_are_not_finite_are_refused():
    features, dataset = case((0, 1, 1, (np.nan, 0.0)), (0, 2, 1, (1.0, 0.0)))
    with pytest.raises(UserError, match="NaN"):
        camera_matrix(features, dataset, RankRules())
