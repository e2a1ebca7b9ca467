"""Thresholds. Oracles: loops over pairs written from the definition."""

import numpy as np
import pytest
import torch

from vireid_plugins.evaluation import LLCMProtocol, SYSUMM01Protocol, TestFeatures, pair_distances
from vireid_plugins.evaluation.pair_distances import PairHistogram, count_pairs, prepare_features
from vireid_plugins.modality import Modality
from vireid_plugins.search.calibration import _pairs_of, from_histogram

SYSU, LLCM = SYSUMM01Protocol(), LLCMProtocol("infrared_to_visible")


def test_rates_are_those_at_the_threshold():
    rng = np.random.default_rng(1)
    same, different = rng.normal(0.5, 0.2, 500).clip(-1, 1), rng.normal(0, 0.2, 2_000)
    edges = np.linspace(0, 2, 20_001)
    counts = [np.histogram(1 - values, edges)[0] for values in (same, different)]
    found = from_histogram(PairHistogram(edges, *counts, 0.0, 0.0), "data")
    assert found.false_accepts == pytest.approx(found.false_rejects)
    rates = [(found.threshold, found.false_accepts, found.false_rejects), *found.others]
    for threshold, accepts, rejects in rates:
        assert accepts == pytest.approx(100 * np.mean(different >= threshold), abs=0.06)
        assert rejects == pytest.approx(100 * np.mean(same < threshold), abs=0.21)  # one of 500
    assert [rates[1] for rates in found.others] == [10.0, 1.0]  # 0.1 % would be two pairs
    assert (found.same_pairs, found.different_pairs) == (500, 2_000)


@pytest.mark.parametrize("protocol", [SYSU, LLCM])
@pytest.mark.parametrize("gallery", list(Modality))
def test_pairs_are_those_that_count(monkeypatch, protocol, gallery):
    monkeypatch.setattr(pair_distances, "_BLOCK_ELEMENTS", 50)
    rng = np.random.default_rng(2)
    count = 24
    rows = torch.from_numpy(rng.normal(size=(count, 4)))
    targets, camids = rng.integers(0, 4, count), rng.integers(1, 5, count)
    modalities = rng.integers(0, 2, count)
    features = TestFeatures(rows, targets, camids, modalities, np.arange(count))
    unit = torch.nn.functional.normalize(rows, dim=1)
    seen = []
    for query, pairs, words in _pairs_of(features, None, protocol, gallery):
        counted = count_pairs(prepare_features(rows, "cosine"), targets, camids, pairs)
        same, different = [], []
        for i in np.flatnonzero(modalities == query):
            for j in np.flatnonzero(modalities == gallery):
                shared = targets[i] == targets[j]
                if query == gallery:
                    if i >= j or (shared and camids[i] == camids[j]):
                        continue
                else:
                    infrared, visible = (i, j) if query == Modality.INFRARED else (j, i)
                    if protocol is SYSU and (camids[infrared], camids[visible]) == (3, 2):
                        continue
                    if protocol is LLCM and shared and camids[i] == camids[j]:
                        continue
                (same if shared else different).append(1 - float(unit[i] @ unit[j]))
        assert len(same) > 3 and len(different) > 3
        for values, counts in ((same, counted.same), (different, counted.other)):
            np.testing.assert_array_equal(np.histogram(values, counted.edges)[0], counts)
        assert query.label in words and gallery.label in words
        seen.append(query)
    assert sorted(seen) == list(Modality)


def test_where_one_camera_saw_a_person_twice_both_images_are_a_pair():
    """RegDB has one camera of each modality: its pairs within a modality are all by one camera."""
    targets, camids = np.array([0, 0, 0, 1, 1, 2]), np.ones(6, np.int64)
    rows, modalities = torch.eye(6), np.full(6, Modality.VISIBLE)
    features = TestFeatures(rows, targets, camids, modalities, np.arange(6))
    ((query, pairs, words),) = _pairs_of(features, None, SYSU, Modality.VISIBLE)
    counted = count_pairs(prepare_features(rows, "cosine"), targets, camids, pairs)
    assert query == Modality.VISIBLE and words.endswith("by one camera")
    assert (counted.same.sum(), counted.other.sum()) == (3 + 1, 15 - 4)
