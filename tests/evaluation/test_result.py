"""The table of results. Oracle: rows written by hand."""

import json

import pytest

from vireid_plugins.evaluation import ResultRow, ResultTable
from vireid_plugins.evaluation.result import METRIC_NAMES


def row(key, rank_1, num_trials=10):
    mean = {name: 10.0 * place + rank_1 for place, name in enumerate(METRIC_NAMES)}
    std = dict.fromkeys(METRIC_NAMES, 0.125)
    rule = "random, 1 per id and camera"
    return ResultRow(key, "infrared_to_visible", rule, num_trials, 40, 1.5, 301.0, mean, std)


def table(**facts):
    rows = [row("SYSUMM01/all/single", 20.0), row("RegDB/one/multi", 30.0, num_trials=1)]
    return ResultTable(rows, "after BNNeck", "cosine", True, **facts)


def test_every_metric_has_a_key_and_the_first_row_decides():
    assert METRIC_NAMES == ("Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP")
    metrics = table().metrics
    assert len(metrics) == 2 * 2 * 6 + 1
    assert metrics["SYSUMM01/all/single/mINP"] == 70 and metrics["RegDB/one/multi/Rank-1"] == 30
    assert metrics["RegDB/one/multi/mAP_std"] == 0.125
    assert metrics["metric"] == (20 + 60) / 2  # Rank-1 and mAP of the first row


def test_the_table_says_all_that_decides_its_numbers():
    first, second = (
        line
        for line in table(reranking="AQE k=5", note="Noted.").format_table().splitlines()
        if "/" in line
    )
    for words in ("SYSUMM01/all/single", "10", "40 (1.5)", "301", "after BNNeck, cosine", "yes"):
        assert f"| {words} " in first
    assert "AQE k=5" in first and "20.00 ± 0.12" in first
    assert "±" not in second and "| 30.00 " in second  # one trial has no deviation
    assert table(note="Noted.").format_table().endswith("\nNoted.")
    assert "| no " in table().format_table().splitlines()[2]  # nothing was re-ranked


@pytest.mark.parametrize("reranking", ["", "k1=20 k2=6 λ=0.3"])
def test_the_facts_are_plain_values(reranking):
    facts = table(reranking=reranking).protocol_facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts[1] == {
        "key": "RegDB/one/multi",
        "direction": "infrared_to_visible",
        "gallery_rule": "random, 1 per id and camera",
        "trials": 1,
        "queries": 40,
        "queries_left_out": 1.5,
        "gallery": 301.0,
        "cmc": "image",
        "never_compared": "",
        "feature": "after BNNeck",
        "metric": "cosine",
        "flip": True,
        "reranking": reranking,
    }
