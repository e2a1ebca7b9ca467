"""Distances of pairs, counted.

Oracles: double loops over the pairs, hand arithmetic, and distributions whose errors are known.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from vireid_plugins.evaluation import (
    LLCMProtocol,
    RankRules,
    SingleModalityProtocol,
    SYSUMM01Protocol,
)
from vireid_plugins.evaluation import pair_distances as module
from vireid_plugins.evaluation.pair_distances import (
    PairHistogram,
    PairSet,
    count_pairs,
    equal_error_threshold,
    greatest_distance,
    pair_sets,
    prepare_features,
)

from tests.plots.planted import planted_subject


def distance(a, b, metric):
    if metric == "euclidean":
        return float(np.linalg.norm(a - b))
    return 1.0 - float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))


def looped(features, pairs, metric):
    """Distances of one identity and of two, and the number of pairs that are skipped."""
    rows, same, other, skipped = features.features.double().numpy(), [], [], 0
    targets, camids = features.targets, features.camids
    each = (
        itertools.combinations(pairs.rows, 2)
        if pairs.within
        else itertools.product(pairs.rows, pairs.columns)
    )
    for i, j in each:
        equal = targets[i] == targets[j]
        if (camids[i], camids[j]) in pairs.rules.skip_camera_pairs or (
            pairs.rules.skip_same_camera and equal and camids[i] == camids[j]
        ):
            skipped += 1
            continue
        (same if equal else other).append(distance(rows[i], rows[j], metric))
    return same, other, skipped


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_equals_a_double_loop_over_the_pairs(metric, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", block * 24)
    subject = planted_subject(noise=0.8, dtype=torch.float64)
    features = subject.features
    sets = pair_sets(features, subject.dataset, SYSUMM01Protocol())
    sets.append(
        PairSet("all", np.arange(72), np.arange(72), rules=RankRules(skip_same_camera=True))
    )
    prepared = prepare_features(features.features, metric)
    upper = greatest_distance(prepared, metric)
    for pairs in sets:
        counted = []
        found = count_pairs(
            prepared,
            features.targets,
            features.camids,
            pairs,
            metric=metric,
            upper=upper,
            bins=50,
            advance=counted.append,
        )
        same, other, skipped = looped(features, pairs, metric)
        assert len(same) > 5 and len(other) > 5
        assert max(same + other) < upper
        np.testing.assert_array_equal(found.same, np.histogram(same, found.edges)[0])
        np.testing.assert_array_equal(found.other, np.histogram(other, found.edges)[0])
        assert found.same_mean == pytest.approx(np.mean(same))
        assert found.other_mean == pytest.approx(np.mean(other))
        assert found.gap == pytest.approx(np.mean(other) - np.mean(same))
        assert found.skipped == skipped
        if not pairs.within:
            assert sum(counted) == len(pairs.rows) * len(pairs.columns)


def test_sets_are_those_of_the_modalities_and_the_rules_of_the_protocol():
    subject = planted_subject()  # 6 identities x 2 images in 4 visible and 2 infrared cameras
    visible, infrared, across = pair_sets(subject.features, subject.dataset, SYSUMM01Protocol())
    assert [one.name for one in (visible, infrared, across)] == [
        "visible-visible",
        "infrared-infrared",
        "visible-infrared",
    ]
    assert (len(visible.rows), len(infrared.rows)) == (48, 24)
    # The camera pair (3, 2) is (query, gallery): rows are the infrared queries.
    assert set(subject.features.camids[across.rows]) == {3, 6}
    assert across.rules == RankRules(((3, 2),), cmc="identity")
    turned = pair_sets(subject.features, subject.dataset, LLCMProtocol("visible_to_infrared"))[2]
    assert (
        set(subject.features.camids[turned.rows]) == {1, 2, 4, 5} and turned.rules.skip_same_camera
    )
    vars(subject.features)["modalities"] = np.full(72, -1)  # a stock dataset
    (stock,) = pair_sets(subject.features, subject.dataset, SingleModalityProtocol())
    assert (stock.name, stock.within, stock.rules.skip_same_camera) == (
        "query-gallery",
        False,
        True,
    )
    assert (stock.rows.tolist(), stock.columns.tolist()) == (
        list(range(24)),
        list(range(24, 72)),
    )


def test_a_modality_of_one_image_has_no_pairs_within():
    subject = planted_subject()
    vars(subject.features)["modalities"] = np.array([1] + [0] * 71)
    names = [one.name for one in pair_sets(subject.features, subject.dataset, SYSUMM01Protocol())]
    assert names == ["visible-visible", "visible-infrared"]


def test_equal_error_by_hand():
    edges = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    # At 2: 3 of 4 of one identity are below, 1 of 4 of two are: both errors are a quarter.
    assert equal_error_threshold([2, 1, 1, 0], [0, 1, 1, 2], edges) == (2.0, 0.25)
    # At 1 errors 0 and 1/2, at 2 1/2 and 0: they meet in the middle, at a quarter each.
    assert equal_error_threshold([1, 1, 0, 0], [0, 1, 1, 0], edges) == (1.5, 0.25)
    # Nothing between 1 and 3: any threshold there has no error, and the middle is taken.
    assert equal_error_threshold([4, 0, 0, 0], [0, 0, 0, 7], edges) == (2.0, 0.0)
    # All the wrong way round.
    threshold, rate = equal_error_threshold([0, 0, 0, 3], [3, 0, 0, 0], edges)
    assert (threshold, rate) == (2.0, 1.0)
    for empty in (([0] * 4, [1] * 4), ([1] * 4, [0] * 4)):
        assert all(map(math.isnan, equal_error_threshold(*empty, edges)))


def test_equal_error_and_roc_of_two_normal_distributions():
    """N(0.4, 0.1) and N(0.8, 0.1): errors meet half-way, at Phi(-2) = 2.275 %."""
    generator = np.random.default_rng(0)
    edges = np.linspace(0, 2, 20001)
    same = np.histogram(generator.normal(0.4, 0.1, 400_000), edges)[0]
    other = np.histogram(generator.normal(0.8, 0.1, 900_000), edges)[0]
    histogram = PairHistogram(edges, same, other, 0.4, 0.8)
    threshold, rate = histogram.equal_error
    assert threshold == pytest.approx(0.6, abs=1e-3) and rate == pytest.approx(0.02275, abs=4e-4)
    # P(a < b) of independent normals: Phi(0.4 / sqrt(0.02)).
    assert histogram.auc == pytest.approx(0.5 * (1 + math.erf(0.4 / 0.2)), abs=1e-4)
    false, true = histogram.roc()
    place = np.searchsorted(edges, 0.5)
    assert false[place] == pytest.approx(0.00135, abs=2e-4)  # Phi(-3)
    assert true[place] == pytest.approx(0.84134, abs=2e-3)  # Phi(1)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_auc_equals_the_share_of_ordered_pairs():
    generator = np.random.default_rng(1)
    same, other = generator.integers(0, 5, 30), generator.integers(2, 8, 40)
    edges = np.arange(9.0)
    histogram = PairHistogram(
        edges, np.histogram(same, edges)[0], np.histogram(other, edges)[0], 0, 0
    )
    ordered = [(a < b) + 0.5 * (a == b) for a in same for b in other]
    assert histogram.auc == pytest.approx(np.mean(ordered))


def test_coarse_bins_keep_every_pair():
    edges = np.linspace(0, 2, 13)
    histogram = PairHistogram(edges, np.arange(12), np.arange(12)[::-1], 0.1, 0.2, 3)
    coarse = histogram.coarse(4)
    assert coarse.same.tolist() == [3, 12, 21, 30] and coarse.other.tolist() == [30, 21, 12, 3]
    np.testing.assert_allclose(coarse.edges, [0, 0.5, 1, 1.5, 2])
    assert (coarse.same_mean, coarse.other_mean, coarse.skipped) == (0.1, 0.2, 3)
    with pytest.raises(ValueError, match="12 bins cannot be joined into 5"):
        histogram.coarse(5)


def test_identical_images_are_at_distance_zero():
    features = prepare_features(np.ones((4, 3), np.float32), "cosine")
    pairs = PairSet("same", np.arange(4), np.arange(4), within=True)
    found = count_pairs(features, np.zeros(4), np.zeros(4), pairs, bins=10)
    assert found.same.tolist() == [6] + [0] * 9 and found.same_mean == pytest.approx(0, abs=1e-6)
    assert math.isnan(found.other_mean) and math.isnan(found.auc)
