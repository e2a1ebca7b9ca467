"""Transductive results in comparisons. Oracle: results written by hand."""

import csv
import io

import pytest

from vireid_plugins.comparison.contrasts import Contrasts
from vireid_plugins.comparison.export import format_runs, format_summary
from vireid_plugins.comparison.printed import format_plain
from vireid_plugins.comparison.queue import Queue
from vireid_plugins.comparison.summary import collect, with_second_rows
from vireid_plugins.comparison.table import Outcome, format_markdown

from tests.comparison.fakes import KEYS, fake_result, protocol
from tests.comparison.test_summary import fake_runs, finish

WORDS = "NFormer: all at once"


@pytest.fixture
def runs(tmp_path):
    """``plain`` at 30 rank-1; ``related`` at 40, and at 55 with all images at once."""
    found = fake_runs(tmp_path, ["plain", "related"], [0])
    finish(found[0], 30.0, 20.0)
    result = fake_result(found[1], 40.0, 30.0)
    lines, metrics = [], dict(result["metrics"])
    for key in KEYS:
        lines += [protocol(key), {**protocol(f"{key}/transductive"), "transductive": WORDS}]
        for name in [name for name in result["metrics"] if name.startswith(f"{key}/")]:
            end = name[len(key) :]
            more = 0.0 if end.endswith("_std") else 15.0
            metrics[f"{key}/transductive{end}"] = result["metrics"][name] + more
    finish(found[1], 40.0, 30.0, protocols=lines, metrics=metrics)
    return found


def test_a_run_that_was_tested_both_ways_has_a_row_for_each(runs):
    rows = collect(runs)
    assert [row.name for row in rows] == ["plain", "related", "related, image by image"]
    values = [row.estimate(KEYS[0], "Rank-1").values for row in rows]
    assert values == [[30.0], [55.0], [40.0]]
    against = with_second_rows({"related": ["plain"]}, rows)
    assert against == {"related": ("related, image by image", "plain")}
    table = Contrasts(rows, against)
    assert [
        table.difference(rows[1], other, KEYS[0], "mAP").delta for other in table.of(rows[1])
    ] == [
        15.0,
        25.0,
    ]


def test_the_table_says_which_row_saw_all_images(runs):
    text = format_markdown(Outcome(collect(runs), [0], "command"), runs[0].folder)
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    (related,) = [line for line in lines if "related |" in line or "related]" in line]
    assert f"transductive: {WORDS}" in related and "55.0" in related
    (plain,) = [line for line in lines if "related, image by image" in line]
    assert "transductive" not in plain and "40.0" in plain
    assert f"transductive: {WORDS} (related)" in text  # among the facts
    assert "(plain, related, image by image)" in text
    assert "(2 of 2 runs complete)" in text


def test_the_table_of_a_terminal_says_it_below(runs):
    lines = format_plain(collect(runs)).splitlines()
    assert lines[-1] == f"related: transductive: {WORDS}"
    assert [line.partition("  ")[0] for line in lines[2:5]] == [
        "plain",
        "related",
        "related, image by image",
    ]


def test_the_csv_files_have_each_run_and_row_once(runs):
    rows = collect(runs)
    lines = list(csv.DictReader(io.StringIO(format_runs(rows))))
    assert [
        (line["config"], line["protocol"]) for line in lines if line["config"] == "related"
    ] == [("related", f"{key}{end}") for key in KEYS for end in ("", "/transductive")]
    assert [line["transductive"] for line in lines] == ["", "", "", WORDS, "", WORDS]
    summary = list(csv.DictReader(io.StringIO(format_summary(Contrasts(rows, {})))))
    found = {(line["config"], line["protocol"]): line["Rank-1"] for line in summary}
    assert found["related", KEYS[0]] == "55.0" and len(found) == 6


def test_a_run_that_ends_is_told_with_the_numbers_of_its_own_row(runs, tmp_path):
    said = []
    queue = Queue(runs, tmp_path, 1, said.append, lambda: None)
    for run in runs:
        queue._on_end(run, 1.0)
    assert "Rank-1 30.0, mAP 20.0" in said[0] and "Rank-1 55.0, mAP 45.0" in said[1]
