"""Table, CSV and plot. Oracle: the expected text, numbers written into the results by hand."""

import csv
import io
import struct

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from vireid_plugins.comparison import plot
from vireid_plugins.comparison.columns import format_seconds
from vireid_plugins.comparison.contrasts import with_one_baseline
from vireid_plugins.comparison.estimate import Estimate
from vireid_plugins.comparison.export import format_runs, format_summary
from vireid_plugins.comparison.noise import Noise
from vireid_plugins.comparison.summary import collect
from vireid_plugins.comparison.table import (
    Outcome,
    feature_words,
    format_markdown,
    protocol_words,
    repeat_command,
    write_outcome,
)

from tests.comparison.fakes import KEYS, fail, fake_runs, finish, protocol
from tests.engine.small import ROOT

TABLE = """\
# Masks

```
python tools/compare.py x
```

- Data: SYSUMM01, rendered by SynthVI (test 4, train 8); trained on 8 identities, 48 images
- Protocol: SYSUMM01/all/single, infrared to visible, gallery random, 1 per id and camera, \
10 trials, 64 queries (0 without a match left out), 32 gallery images
- Features: after BNNeck, cosine, no flip, no re-ranking
- Seeds: 0, 1 (5 of 8 runs complete)
- Iterations: 260; images per batch: 64
- Machine: 2 CPU threads per run, Linux x86_64
- Versions: vireid_plugins 0.1, Python 3.11, torch 2.13, FastReID 1.4, NumPy 2.4, faiss 1.15
- Commit: abc (4 runs); abc-dirty (1 run)
- Date: 2026-01-02 to 2026-01-03

| config | seeds | rank-1 | mAP | mINP | Δ rank-1 | Δ mAP | training | parameters (M) | \
GFLOPs per test image | peak memory (MiB) | remarks |
|---|---|---|---|---|---|---|---|---|---|---|---|
| baseline | 2 | 31.0 ± 1.4 (trials 2.0) | 21.0 ± 1.4 (trials 1.0) | 10.5 ± 0.7 (trials 0.5) | \
baseline | baseline | 01:02 | 11.20 | 0.171 | 700 |  |
| mask | 2 | 36.0 ± 1.4 (trials 2.0) | 20.5 ± 2.1 (trials 1.0) | 10.2 ± 1.1 (trials 0.5) | \
+5.0 [-1.1, +11.1] (within noise) | -0.5 [-8.3, +7.3] (within noise) | \
01:02 | 11.20 | 0.171 | 700 |  |
| one | 1 of 2 seeds | 40.0 (trials 2.0) | 30.0 (trials 1.0) | 15.0 (trials 0.5) | \
+9.0 [+1.5, +16.5] (beyond noise) | +9.0 [-0.5, +18.5] (within noise) | n/a | 11.20 | n/a | 700 |  |
| bad | 0 of 2 seeds | – | – | – | – | – | n/a | n/a | n/a | n/a | \
seed 0 failed: ValueError: …/b \\| c; see `bad/seed*/output.txt` |

Percent. """


@pytest.fixture
def runs(tmp_path):
    """Two rows of two seeds, one of one, one that failed.

    rank-1 30, 32 and 35, 37: s² = (2 + 2) / 2 with two degrees, of which t is 4.303. Two means of
    two seeds: 4.303 · sqrt(2) · sqrt(1/2 + 1/2) = 6.1; of two and one: 4.303 · sqrt(2 · 1.5) = 7.5.
    mAP 20, 22 and 19, 22: s² = (2 + 4.5) / 2; 4.303 · sqrt(3.25) = 7.8; times sqrt(1.5), 9.5.
    """
    runs = fake_runs(tmp_path, ["baseline", "mask", "one", "bad"], [0, 1])
    for index, values in ((0, (30.0, 20.0)), (4, (32.0, 22.0)), (1, (35.0, 19.0))):
        finish(runs[index], *values)
    finish(runs[5], 37.0, 22.0, commit="abc-dirty", finished="2026-01-03T00:00:00+00:00")
    finish(runs[2], 40.0, 30.0, flops_per_image=None, train_seconds=None)
    fail(runs[3], "ValueError: /a/b | c")
    return runs


def outcome_of(runs, **options):
    return Outcome(collect(runs), [0, 1], "python tools/compare.py x", **options)


def test_the_table_as_it_stands(runs, tmp_path):
    text = format_markdown(outcome_of(runs, title="Masks"), tmp_path)
    assert text[: len(TABLE)] == TABLE
    assert "minus that of the baseline (baseline)" in text and "t · s · sqrt(1/n₁ + 1/n₂)" in text
    assert "rank-1 1.41, mAP 1.80, with 2 degrees of freedom" in text and "t = 4.30" in text
    assert "one in twenty would be beyond noise; 4 are judged here" in text
    assert "`model_final`" in text and str(tmp_path) not in text


def test_another_protocol_and_another_baseline(runs, tmp_path):
    """Indoor is ten more; differences turn their sign."""
    text = format_markdown(outcome_of(runs, protocol=KEYS[1], baseline="mask"), tmp_path)
    line = next(line for line in text.splitlines() if line.startswith("| baseline |"))
    assert "| 41.0 ± 1.4" in line and "| -5.0 [-11.1, +1.1] (within noise) | +0.5 [" in line


def test_a_table_in_the_checkout_links_to_its_configs(runs):
    text = format_markdown(outcome_of(runs), ROOT / "docs" / "tables")
    assert "| [mask](../../configs/mask.yml) | 2 |" in text


def test_runs_on_different_images_are_marked(runs, tmp_path):
    assert "cannot be compared" not in format_markdown(outcome_of(runs), tmp_path)
    finish(runs[4], 32.0, 22.0, train_fingerprint="beef")
    assert "**Runs were trained on different images" in format_markdown(outcome_of(runs), tmp_path)


def test_lines_that_differ_name_their_configs(runs, tmp_path):
    other = protocol(KEYS[0])
    finish(runs[4], 32.0, 22.0, protocols=[{**other, "feature": "pooled"}, protocol(KEYS[1])])
    (line,) = [
        line
        for line in format_markdown(outcome_of(runs), tmp_path).splitlines()
        if line.startswith("- Features:")
    ]
    name = runs[4].entry.name
    assert f"; pooled, cosine, no flip, no re-ranking ({name})" in line
    assert line.startswith("- Features: after BNNeck, cosine, no flip, no re-ranking (")


def test_words_of_a_protocol():
    line = {**protocol("RegDB/x/multi"), "trials": 1, "flip": True, "reranking": "k1=20"}
    assert "1 trial," in protocol_words(line)
    assert "CMC" not in protocol_words(line)  # of a record that does not say it
    assert protocol_words({**line, "cmc": "identity"}).endswith(", CMC counts identities")
    assert feature_words(line) == "after BNNeck, cosine, flip, re-ranking k1=20"


@pytest.mark.parametrize(
    "seconds,text",
    [(None, "n/a"), (0.4, "00:00"), (59.6, "01:00"), (754, "12:34"), (3600, "1:00:00")],
)
def test_times(seconds, text):
    assert format_seconds(seconds) == text


def test_the_command_is_quoted_for_a_shell():
    found = repeat_command(["configs/a.yml", "--set", "DATASETS.TESTS", "('A',)", "--title", "a b"])
    words = """configs/a.yml --set DATASETS.TESTS '('"'"'A'"'"',)' --title 'a b'"""
    assert found == f"vireid compare {words}"


def test_csv_of_runs(runs):
    lines = list(csv.DictReader(io.StringIO(format_runs(collect(runs)))))
    assert len(lines) == 5 * 2 + 3  # two protocols of each complete run, one line of each other
    first = lines[0]
    assert (first["config"], first["seed"], first["protocol"]) == ("baseline", "0", KEYS[0])
    assert (float(first["Rank-1"]), float(first["mINP_std"])) == (30.0, 0.5)
    assert (first["torch"], first["threads"], first["train_seconds"]) == ("2.13", "2", "61.0")
    states = [line["state"] for line in lines if not line["protocol"]]
    assert states == ["to do", "failed", "to do"]
    assert next(line for line in lines if line["state"] == "failed")["error"].endswith("…/b | c")


def test_csv_of_means(runs):
    lines = list(csv.DictReader(io.StringIO(format_summary(with_one_baseline(collect(runs))))))
    assert [line["config"] for line in lines] == ["baseline"] * 2 + ["mask"] * 2 + ["one"] * 2
    mask = lines[2]
    assert mask["seeds"] == "2" and float(mask["Rank-1_delta"]) == 5.0
    assert float(mask["Rank-1_standard_error"]) == float(mask["Rank-1_pooled_std"])
    assert float(mask["Rank-1_pooled_std"]) == pytest.approx(2**0.5)
    assert float(mask["Rank-1_bound"]) == pytest.approx(4.3027 * 2**0.5, rel=1e-4)
    assert (mask["Rank-1_degrees"], mask["against"]) == ("2", "baseline")
    assert lines[0]["against"] == lines[0]["Rank-1_delta"] == ""
    assert mask["mAP_verdict"] == "within noise" and lines[0]["mAP_verdict"] == ""
    assert lines[4]["Rank-1_std"] == ""


def test_nothing_is_written_before_anything_is_known(tmp_path, runs):
    fresh = fake_runs(tmp_path / "fresh", ["a"], [0])
    assert write_outcome(outcome_of(fresh), tmp_path / "out") == []
    fail(fresh[0], "ValueError: no")
    written = write_outcome(outcome_of(fresh), tmp_path / "out")
    assert [path.name for path in written] == ["table.md", "table.csv"]
    assert "- a: seed 0 failed: ValueError: no" in written[0].read_text(encoding="utf-8")
    names = [path.name for path in write_outcome(outcome_of(runs), tmp_path / "out")]
    assert names == ["table.md", "table.csv", "table.tex", "summary.csv", "plot.png", "runs.json"]


def test_the_plot_grows_with_its_rows(runs):
    """Height in a PNG's header: 0.34 inches more for each of two rows, at 130 dots an inch."""
    rows = collect(runs)
    heights = []
    for some in (rows[:2], rows):
        content = plot.draw_plot(with_one_baseline(some), KEYS[:1], "title")
        assert content.startswith(b"\x89PNG")
        heights.append(struct.unpack(">I", content[20:24])[0])
    assert heights[1] - heights[0] == pytest.approx(2 * 0.34 * 130, abs=1)


def test_a_panel_shows_every_seed_every_mean_and_the_baselines_band():
    """Baseline 30, 32: mean 31; of s = 1 with two degrees, the band is 4.303 · sqrt(2/2) wide."""
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    estimates = [Estimate([30.0, 32.0], [1.0] * 2), Estimate([40.0], [1.0]), None]
    plot._draw_panel(axes, estimates, 0, Noise(1.0, 2))
    (dots, *_), (line, means, *_) = axes.collections, axes.lines
    assert dots.get_offsets().tolist() == [[30.0, 0.24], [32.0, 0.24], [40.0, 1.24]]
    assert means.get_xydata().tolist() == [[31.0, 0.0], [40.0, 1.0]]
    assert list(line.get_xdata()) == [31.0, 31.0]
    whiskers = [
        part.get_segments()[0][:, 0].tolist()
        for part in axes.collections
        if isinstance(part, LineCollection)
    ]
    assert whiskers == [pytest.approx([31 - 2**0.5, 31 + 2**0.5])]  # s² = (1 + 1) / (2 - 1)
    (band,) = axes.patches
    assert band.get_extents().transformed(axes.transData.inverted()).intervalx.tolist() == (
        pytest.approx([31 - 4.3027, 31 + 4.3027], rel=1e-5)
    )
    assert [text.get_text() for text in axes.texts] == ["no result"]


def test_runs_on_images_of_other_dyes_are_marked(runs, tmp_path):
    dyes = [{"dense": share, "clear": 0.0, "free": 1 - share} for share in (0.0, 0.5)]
    finish(runs[4], 32.0, 22.0, rendered={"SYSUMM01": {"train": 8, "test": 4, "infrared": dyes[0]}})
    text = format_markdown(outcome_of(runs), tmp_path)  # older results are of the free form
    assert "different settings" not in text and "infrared 1 free" in text
    finish(runs[4], 32.0, 22.0, rendered={"SYSUMM01": {"train": 8, "test": 4, "infrared": dyes[1]}})
    text = format_markdown(outcome_of(runs), tmp_path)
    assert "**Images were rendered with different settings" in text
    assert "rendered by SynthVI (infrared 0.5 dense + 0.5 free, test 4, train 8)" in text
