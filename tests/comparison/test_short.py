"""``short.md``: numbers by hand, and the README of the evidence table."""

import math
import re

from vireid_plugins.comparison.contrasts import Contrasts
from vireid_plugins.comparison.short import format_short
from vireid_plugins.comparison.summary import collect

from tests.comparison.fakes import KEYS, fake_runs, finish
from tests.engine.small import ROOT

EVIDENCE = ROOT / "docs/synthvi/evidence/short.md"


def test_means_deviations_and_differences(tmp_path):
    """Pooled: squares 2 + 0.5 over 2 degrees, s = 1.118; Student's t is 4.303.

    Rank-1: 50, 52 and 40, 41; 30 alone. Half of an interval: t s √(1/2 + 1/2), t s √(1 + 1/2).
    """
    runs = fake_runs(tmp_path, ["plain", "near", "far", "absent"], [0, 1])
    for run in runs:
        values = {"plain": (50.0, 52.0), "near": (40.0, 41.0), "far": (30.0, None)}
        value = values.get(run.entry.name, (None, None))[run.seed]
        if value is not None:
            finish(run, value, value)
    rows = collect(runs)
    text = format_short(
        Contrasts(rows, {"near": ["plain", "absent"], "far": ["near", "plain"]}), KEYS[0]
    )
    s = math.sqrt(2.5 / 2)
    two, one = 4.3027 * s, 4.3027 * s * math.sqrt(1.5)
    assert f"{two:.1f} {one:.1f}" == "4.8 5.9"
    assert text.splitlines() == [
        "| row | seeds | rank-1 | mAP | beside | Δ rank-1, 95 % | Δ mAP, 95 % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| plain | 2 | 51.0 ± 1.4 | 51.0 ± 1.4 |  |  |  |",
        "| near | 2 | 40.5 ± 0.7 | 40.5 ± 0.7 | plain | **−10.5 ± 4.8** | **−10.5 ± 4.8** |",
        "| far | 1 | 30.0 | 30.0 | near | **−10.5 ± 5.9** | **−10.5 ± 5.9** |",
        "|  |  |  |  | plain | **−21.0 ± 5.9** | **−21.0 ± 5.9** |",
    ]


def test_the_page_of_the_evidence_table_shows_what_was_published():
    """The table in the README is a copy of the file that the comparison wrote."""
    page = (ROOT / "configs/evidence/README.md").read_text(encoding="utf-8")
    assert EVIDENCE.read_text(encoding="utf-8") in page
    told = re.search(r"\*\*Not finished\*\*: (\d+) runs ended", page)
    lines = (ROOT / "docs/synthvi/evidence/runs.json").read_text(encoding="utf-8").splitlines()
    assert told is None or int(told[1]) == sum('"seed":' in line for line in lines)
