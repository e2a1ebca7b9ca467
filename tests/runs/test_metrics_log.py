"""Lines of metrics.json that no run writes: left out and counted, never drawn or raised."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import UserError
from vireid_plugins.runs.metrics_log import read_lines, read_metrics_log

GOOD = {"iteration": 9, "lr": 0.5, "total_loss": 2}
WRONG = [
    {"iteration": True, "lr": 1},
    {"iteration": -1, "lr": 1},
    {"iteration": 1.5, "lr": 1},
    {"iteration": None, "lr": 1},
    {"iteration": 2**63, "lr": 1},
    {"iteration": 9, "lr": "fast"},
    {"iteration": 9, "lr": None},
    {"iteration": 9, "lr": [0.1]},
    {"iteration": 9, "lr": 10**400},
    {"iteration": 9, "lr": False},
    [1, 2],
    "lr",
]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_line_of_other_content_is_left_out_by_its_number(tmp_path, wrong):
    path = tmp_path / "metrics.json"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(wrong)}\n")
    log = read_metrics_log(str(path))
    assert log.unreadable == (2,)
    assert {name: values.tolist() for name, (_, values) in log.series.items()} == {
        "lr": [0.5],
        "total_loss": [2.0],
    }


def test_a_loss_that_diverged_and_a_later_evaluation_are_lines(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 9, "lr": NaN}\n{"weights": "a.pth", "x/mAP": 1.5}\n')
    assert read_lines(path).unreadable == ()


def test_an_iteration_that_was_trained_again_counts_once(tmp_path):
    """What only its first line holds is gone with that line."""
    path = tmp_path / "metrics.json"
    again = {"iteration": 9, "lr": 0.25, "total_loss": 1}
    path.write_text(f"{json.dumps({**GOOD, 'other_loss': 3})}\n{json.dumps(again)}\n")
    log = read_metrics_log(str(path))
    assert log.superseded == 1
    assert {name: values.tolist() for name, (_, values) in log.series.items()} == {
        "lr": [0.25],
        "total_loss": [1.0],
    }


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=40), st.integers(0, 200), st.sampled_from(["insert", "cut", "replace"]))
def test_any_bytes_are_read_or_named(tmp_path_factory, other, place, how):
    path = tmp_path_factory.getbasetemp() / "metrics.json"
    whole = "".join(json.dumps({**GOOD, "iteration": i}) + "\n" for i in (9, 19, 29)).encode()
    place %= len(whole)
    rest = {"insert": whole[place:], "cut": b"", "replace": whole[place + len(other) :]}[how]
    path.write_bytes(whole[:place] + other + rest)
    try:
        log = read_metrics_log(str(path))
    except UserError as error:
        assert str(path) in str(error)
        return
    assert all(len(iterations) == len(values) for iterations, values in log.series.values())
