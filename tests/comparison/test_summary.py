"""Statistics over seeds. Oracle: hand arithmetic, beside each number; scipy's t distribution."""

import math

import pytest
from scipy import stats

from vireid_plugins.comparison.contrasts import Contrasts, with_one_baseline
from vireid_plugins.comparison.estimate import Estimate, TrialEstimate
from vireid_plugins.comparison.noise import (
    Noise,
    difference,
    pooled,
    scatters_more,
    student,
)
from vireid_plugins.comparison.notes import format_notes, uneven
from vireid_plugins.comparison.summary import choose_baseline, choose_protocols, collect
from vireid_plugins.errors import PlanError

from tests.comparison.fakes import KEYS, fail, fake_runs, finish


def estimate(*values):
    return Estimate(values, [1.0] * len(values))


def test_mean_and_deviations():
    """10, 12, 14: mean 12; ((-2)² + 0² + 2²) / (3 - 1) = 4, so s = 2."""
    found = Estimate([10.0, 12.0, 14.0], [1.0, 2.0, 6.0])
    assert (found.mean, found.std, found.trials_std) == (12.0, 2.0, 3.0)


def test_the_deviation_is_pooled_over_all_rows():
    """Squares 8 of 10, 12, 14; 2 of 9, 11; none of one seed: 10 over (3 - 1) + (2 - 1) = 3."""
    rows = [estimate(10, 12, 14), estimate(9, 11), estimate(50), None]
    found = pooled(rows)
    assert (found.std, found.degrees) == (pytest.approx(math.sqrt(10 / 3)), 3)
    assert pooled(rows[2:]) is None and pooled([TrialEstimate({(1, 0): 1.0, (2, 0): 5.0})]) is None
    # t of three degrees is 3.1824 in every table of it: 3.1824 · 1.8257 · sqrt(1/3 + 1/2) = 5.304
    assert found.bound(3, 2) == pytest.approx(5.304, abs=1e-3)


@pytest.mark.parametrize("degrees", [1, 2, 16, 60])
def test_t_is_scipys(degrees):
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


def test_an_interval_is_that_of_scipys_two_sample_test():
    """With two rows of equal n, pooling over the table is the textbook's t test."""
    own, other = [10.0, 12.0, 14.0], [9.0, 11.0, 11.5]
    found = difference(estimate(*own), estimate(*other), pooled([estimate(*own), estimate(*other)]))
    interval = stats.ttest_ind(own, other).confidence_interval(0.95)
    assert found.interval == pytest.approx((interval.low, interval.high))
    assert found.degrees == 4
    assert found.standard_error == pytest.approx(math.sqrt((8 + 3.5) / 4 * 2 / 3))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("beyond", [False, True])
def test_the_verdict_flips_at_its_bound(sign, beyond):
    """s = 1 with 10 degrees, 3 and 2 seeds: 2.2281 · sqrt(1/3 + 1/2) = 2.0340."""
    delta = sign * (2.0341 if beyond else 2.0339)
    found = difference(estimate(*[5 + delta] * 3), estimate(5.0, 5.0), Noise(1.0, 10))
    assert found.verdict == ("beyond noise" if beyond else "within noise")
    low, high = found.interval
    assert (low > 0 or high < 0) == beyond


def test_one_seed_is_judged_by_the_scatter_of_other_rows_alone():
    alone = difference(estimate(9.0), estimate(5.0), pooled([estimate(9.0), estimate(5.0)]))
    assert (alone.delta, alone.bound, alone.standard_error) == (4.0, None, None)
    assert (alone.interval, alone.beyond_noise, alone.verdict) == (
        None,
        None,
        "one seed: not judged",
    )
    known = difference(estimate(9.0), estimate(5.0), Noise(1.0, 16))
    assert known.bound == pytest.approx(student(16) * 2**0.5) and known.beyond_noise is True


def test_a_row_that_scatters_more_than_the_others_is_found():
    """Two seeds a row: F(1, 2) has the probability 1 - sqrt(F / (F + 2)), times 3 rows."""
    rows = [estimate(0.0, 2.0), estimate(0.0, 20.0), estimate(5.0, 7.0)]  # F = 200 / 2: 0.0296
    found = scatters_more(rows)
    assert (found.index, found.std) == (1, pytest.approx(200**0.5))
    assert found.others == Noise(pytest.approx(2**0.5), 2)
    assert scatters_more([rows[0], estimate(0.0, 14.0), rows[2]]) is None  # F = 49: 0.0594
    assert scatters_more([None, rows[1], estimate(9.0)]) is None  # nothing to compare it with


def test_a_row_that_scatters_more_is_named_below_the_table(tmp_path):
    runs = fake_runs(tmp_path, ["a", "b", "c"], [0, 1])
    for run, value in zip(runs, (30.0, 40.0, 50.0, 32.0, 60.0, 52.0)):
        finish(run, value, 20.0)
    table = with_one_baseline(collect(runs), "a")
    (sentence,) = uneven(table, KEYS[:1])  # mAP is equal everywhere: no sentence
    assert "rank-1 of *b* has a deviation of 14.14, and that of the other rows 1.41" in sentence
    assert sentence in format_notes(table, KEYS[:1])


def test_every_row_has_its_own_baselines(tmp_path):
    """a 30, 32; b 35, 37; c 40 against both: s² = 4 / 2; no difference without a result."""
    runs = fake_runs(tmp_path, ["a", "b", "c", "d"], [0, 1])
    for place, value in ((0, 30.0), (4, 32.0), (1, 35.0), (5, 37.0), (2, 40.0)):
        finish(runs[place], value, 20.0)
    rows = collect(runs)
    table = Contrasts(rows, {"b": ["a"], "c": ["b", "a"], "d": ["a"]})
    assert [other.name for other in table.of(rows[2])] == ["b", "a"] and table.of(rows[0]) == []
    assert table.baselines == ["a", "b"]
    assert [(row.name, other.name) for row, other in table.pairs] == [
        ("b", "a"),
        ("c", "b"),
        ("c", "a"),
    ]
    assert table.noise(KEYS[0], "Rank-1") == Noise(pytest.approx(2**0.5), 2)
    assert table.difference(rows[2], rows[1], KEYS[0], "Rank-1").delta == 4.0
    assert table.difference(rows[3], rows[0], KEYS[0], "Rank-1") is None
    assert with_one_baseline(rows, "b").against == {"a": ["b"], "c": ["b"], "d": ["b"]}


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
