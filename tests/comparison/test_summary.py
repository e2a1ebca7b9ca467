"""Statistics over seeds. Oracle: hand arithmetic, beside each number."""

import math

import pytest

from vireid_plugins.comparison.estimate import Estimate, difference
from vireid_plugins.comparison.summary import choose_baseline, choose_protocols, collect
from vireid_plugins.errors import PlanError

from tests.comparison.fakes import KEYS, fail, fake_runs, finish


def estimate(*values):
    return Estimate(values, [1.0] * len(values))


def test_mean_and_deviations():
    """10, 12, 14: mean 12; ((-2)² + 0² + 2²) / (3 - 1) = 4, so s = 2; s² / n = 4 / 3."""
    found = Estimate([10.0, 12.0, 14.0], [1.0, 2.0, 6.0])
    assert (found.mean, found.std, found.trials_std) == (12.0, 2.0, 3.0)
    assert found.squared_error == pytest.approx(4 / 3)


def test_difference_of_unequal_numbers_of_seeds():
    """s1² / n1 = 4 / 3 and, of 9 and 11, s2² / n2 = 2 / 2: sqrt(7 / 3)."""
    found = difference(estimate(10, 12, 14), estimate(9, 11))
    assert found.delta == 2.0 and found.standard_error == pytest.approx(math.sqrt(7 / 3))


@pytest.mark.parametrize(
    "own,verdict",
    [
        # baseline 5, 5: no error of its own; own s² / n = 2 / 2 = 1, so the bound is 2
        ((6.0, 8.0), "within noise"),  # + 2 exactly
        ((6.001, 8.001), "beyond noise"),
        ((2.0, 4.0), "within noise"),  # - 2 exactly
        ((1.999, 3.999), "beyond noise"),
        ((9.0,), "one seed: not judged"),
    ],
)
def test_verdict_at_its_bound(own, verdict):
    assert difference(estimate(*own), estimate(5.0, 5.0)).verdict == verdict


def test_a_baseline_of_one_seed_judges_nothing():
    found = difference(estimate(9.0, 9.0), estimate(5.0))
    assert (found.delta, found.standard_error, found.beyond_noise) == (4.0, None, None)


def test_rows_hold_what_is_complete(tmp_path):
    runs = fake_runs(tmp_path, ["a", "b"], [0, 1])
    finish(runs[0], 30.0, 20.0)
    finish(runs[2], 34.0, 22.0)
    fail(runs[1], "ValueError: no")
    fail(runs[3], "ValueError: no")
    fail(runs[0], "of an attempt before it was done")
    first, second = collect(runs)
    assert first.estimate(KEYS[0], "Rank-1").values == [30.0, 34.0]
    assert first.estimate(KEYS[1], "mAP").values == [30.0, 32.0]
    assert first.cost("train_seconds") == (61 + 62) / 2 and first.failures == []
    assert second.estimate(KEYS[0], "Rank-1") is None and second.cost("parameters") is None
    assert second.failures == ["seed 0, 1 failed: ValueError: no"]


def test_a_cost_that_one_run_does_not_know_is_unknown(tmp_path):
    runs = fake_runs(tmp_path, ["a"], [0, 1])
    finish(runs[0], 30.0, 20.0)
    finish(runs[1], 30.0, 20.0, peak_memory_mib=None)
    assert collect(runs)[0].cost("peak_memory_mib") is None


def test_baseline_is_the_given_one_or_the_file_of_that_name_or_the_first(tmp_path):
    rows = collect(fake_runs(tmp_path, ["mask", "x/baseline", "both"], [0]))
    assert choose_baseline(rows, None).name == "x/baseline"
    assert choose_baseline(rows, "both").name == "both"
    assert choose_baseline([rows[0], rows[2]], None).name == "mask"
    datasets = collect(fake_runs(tmp_path, ["agw/sysu", "baseline/sysu"], [0]))
    assert choose_baseline(datasets, None).name == "baseline/sysu"


def test_protocol_is_the_given_one_or_the_first(tmp_path):
    runs = fake_runs(tmp_path, ["a"], [0])
    finish(runs[0], 30.0, 20.0)
    rows = collect(runs)
    assert choose_protocols(rows, "") == [KEYS[0]]
    assert choose_protocols(rows, KEYS[1]) == [KEYS[1]]
    with pytest.raises(PlanError, match="a seed 0 was not scored by 'RegDB/x'"):
        rows[0].estimate("RegDB/x", "mAP")
