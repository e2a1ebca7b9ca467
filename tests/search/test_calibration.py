"""Thresholds. Oracles: loops over pairs written from the definition."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vireid_plugins.evaluation import TestFeatures
from vireid_plugins.modality import Modality
from vireid_plugins.search import calibration
from vireid_plugins.search.calibration import _from_pairs, _similarities, equal_error_threshold

SYSU = SimpleNamespace(skip_camera_pairs=((3, 2),), skip_same_camera=False)
LLCM = SimpleNamespace(skip_camera_pairs=(), skip_same_camera=True)


def test_equal_errors_by_trying_every_score():
    rng = np.random.default_rng(0)
    for _ in range(20):
        same, different = rng.normal(0.3, 0.3, 40), rng.normal(0, 0.3, 300)
        threshold = equal_error_threshold(same, different)

        def gap(t, same=same, different=different):
            return abs(np.mean(different >= t) - np.mean(same < t))

        least = min(gap(t) for t in np.concatenate([same, different]))
        assert gap(threshold) == pytest.approx(least)
    assert equal_error_threshold(np.array([0.8, 0.9]), np.array([0.1, 0.2])) == 0.8


def test_rates_are_those_at_the_threshold():
    rng = np.random.default_rng(1)
    same, different = rng.normal(0.5, 0.2, 500), rng.normal(0, 0.2, 2_000)
    found = _from_pairs(same, different, "data")
    assert found.false_accepts == 100 * np.mean(different >= found.threshold)
    assert found.false_rejects == 100 * np.mean(same < found.threshold)
    assert [round(rates[1], 1) for rates in found.others] == [10.0, 1.0]  # 0.1 %: two pairs


@pytest.mark.parametrize("protocol", [SYSU, LLCM])
@pytest.mark.parametrize("query", list(Modality))
def test_pairs_are_those_that_count(monkeypatch, protocol, query):
    monkeypatch.setattr(calibration, "_BLOCK", 5)
    rng = np.random.default_rng(2)
    count, gallery = 24, Modality.VISIBLE
    rows = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(count, 4))), dim=1)
    targets, camids = rng.integers(0, 4, count), rng.integers(1, 5, count)
    modalities = rng.integers(0, 2, count)
    features = TestFeatures(rows, targets, camids, modalities, np.arange(count))
    same, different = [], []
    for i in range(count):
        for j in range(count):
            if modalities[i] != query or modalities[j] != gallery:
                continue
            if query == gallery and (i >= j or camids[i] == camids[j]):
                continue
            if query != gallery:
                if protocol is SYSU and {camids[i], camids[j]} == {2, 3}:
                    continue
                if protocol is LLCM and targets[i] == targets[j] and camids[i] == camids[j]:
                    continue
            target = same if targets[i] == targets[j] else different
            target.append(float(rows[i] @ rows[j]))
    found = _similarities(features, query, gallery, protocol)
    assert len(same) > 3 and len(different) > 3
    for values, wanted in zip(found, (same, different)):
        np.testing.assert_allclose(np.sort(values), np.sort(wanted), atol=1e-6)
