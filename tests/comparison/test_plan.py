"""A plan at work: order, more seeds, tables, figures. Oracle: results written by hand."""

import csv
import functools
import io
import json
import struct

import pytest

from vireid.cli import run_verb
from vireid_plugins.comparison import (
    Comparison,
    PlanComparison,
    entries,
    export,
    gain_curves,
    jobs,
    plan,
    plan_table,
    queue,
)
from vireid_plugins.comparison.claims import Claim
from vireid_plugins.comparison.contrasts import Contrasts
from vireid_plugins.comparison.gain_curves import draw_curves
from vireid_plugins.comparison.gains import draw_gains
from vireid_plugins.comparison.plan_table import Section
from vireid_plugins.comparison.runs import DataPoint
from vireid_plugins.comparison.stop_rule import rows_that_need_more
from vireid_plugins.comparison.summary import collect
from vireid_plugins.errors import PlanError, UserError

from tests.comparison.fakes import KEYS, fail, fake_runs, finish

main = functools.partial(run_verb, "compare")
PLAN = """
title: Masks
setting: setting.yml
seeds: [0, 1]
more_seeds: [2]
stop_rule: Then stop.
groups:
  - heading: Adam
    rows:
      - {name: plain, config: agw/synthetic.yml}
      - {name: near, config: agw/synthetic.yml, against: plain, claim: {rank-1: 2, source: Table 1},
         set: {SOLVER.WEIGHT_DECAY: 0.01}}
      - {name: far, config: agw/synthetic.yml, against: plain, claim: {rank-1: 2, mAP: 3}}
  - heading: SGD
    set: {SOLVER.OPT: SGD}
    rows:
      - {name: "own, SGD", config: agw/synthetic.yml, against: [plain, near]}
"""
SETTING = "SOLVER: {MAX_EPOCH: 2, WEIGHT_DECAY: 0.002}\nMODEL: {DEVICE: cpu}\n"
# rank-1 and mAP by row; seeds lie 1 below and above, so s = 1.41 with 4 degrees, and the bound of
# two rows of two seeds is 2.776 * 1.414 = 3.9
VALUES = {"plain": (30, 20), "near": (32, 30), "far": (40, 40), "own, SGD": (25, 20)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A plan with its setting; models are not built, and runs end at once with ``VALUES``."""
    (tmp_path / "plan.yml").write_text(PLAN)
    (tmp_path / "setting.yml").write_text(SETTING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(entries.VIReIDTrainer, "build_model", lambda cfg: None)
    for name in ("draw_plot", "draw_gains", "draw_curves"):  # written after each run
        monkeypatch.setattr(plan_table, name, lambda *_: b"")
    started = []

    def run_all(todo, jobs, on_start, on_end):
        for run in todo:
            on_start(run)
            started.append(run.title)
            rank1, mAP = VALUES[run.entry.name]
            sign = (-1, 1, 0)[run.seed]
            finish(run, rank1 + sign, mAP + sign)
            on_end(run, 62.0)

    monkeypatch.setattr(queue, "execute", run_all)
    return tmp_path, started


def planned(folder, **options):
    return PlanComparison(folder / "plan.yml", output=folder / "out", **options)


@pytest.mark.slow
def test_all_rows_have_a_seed_before_the_next_begins(folder):
    """Then the claimed row within the noise, and its baseline, get one more; nobody else does."""
    path, started = folder
    said = []
    found = planned(path, say=said.append).execute()
    names = ["plain", "near", "far", "own, SGD"]
    assert started == [
        *(f"{name} seed {seed}" for seed in (0, 1) for name in names),
        "plain seed 2",
        "near seed 2",
    ]
    assert found.unfinished == [] and "More seeds (2): for plain, near." in said
    started.clear()
    assert planned(path).execute().unfinished == [] and started == []


def test_a_row_gets_the_keys_of_setting_group_and_itself(folder):
    cfgs = {entry.name: entry.cfg for entry in planned(folder[0]).entries}
    assert {cfg.SOLVER.MAX_EPOCH for cfg in cfgs.values()} == {2}
    assert [cfg.SOLVER.OPT for cfg in cfgs.values()] == ["Adam", "Adam", "Adam", "SGD"]
    assert (cfgs["near"].SOLVER.WEIGHT_DECAY, cfgs["far"].SOLVER.WEIGHT_DECAY) == (0.01, 0.002)
    over = planned(folder[0], opts=["SOLVER.MAX_EPOCH", "3", "SOLVER.WEIGHT_DECAY", "0.5"])
    assert {entry.cfg.SOLVER.WEIGHT_DECAY for entry in over.entries} == {0.5}
    (folder[0] / "other.yml").write_text("SOLVER: {MAX_EPOCH: 7}\nMODEL: {DEVICE: cpu}\n")
    other = planned(folder[0], setting="other.yml")
    assert {entry.cfg.SOLVER.MAX_EPOCH for entry in other.entries} == {7}


def test_more_seeds_wait_for_all_first_ones_and_never_change(folder):
    """A failed run does not hold the others up, and a later seed's value decides nothing."""
    path, started = folder
    first = planned(path)
    for run in first._first[:-1]:
        finish(run, *(value + (-1, 1)[run.seed] for value in VALUES[run.entry.name]))
    assert first._more_runs() is None
    fail(first._first[-1], "ValueError: no")
    assert [run.title for run in first._more_runs()] == ["plain seed 2", "near seed 2"]
    finish(first._more_runs()[1], 90.0, 90.0)
    assert [run.title for run in planned(path)._more_runs()] == ["plain seed 2", "near seed 2"]
    assert planned(path, seeds=(0,))._more_runs() == []


def test_more_seeds_of_another_machine_are_taken_too(folder):
    path, _ = folder
    other = PlanComparison(path / "plan.yml", output=path / "other")
    for run in [*other._first, *other._planned([2])]:
        finish(run, *(value + (-1, 1, 0)[run.seed] for value in VALUES[run.entry.name]))
    more = planned(path, also=[path / "other"])._more_runs()
    assert len(more) == 4 and {run.folder.parts[-3] for run in more} == {"other"}
    with pytest.raises(PlanError, match="--also nowhere: there is no such folder or file"):
        planned(path, also=["nowhere"])


def test_some_rows_alone(folder):
    path, started = folder
    found = planned(path, only=["near", "own*"], seeds=(0,)).execute()
    assert started == ["near seed 0", "own, SGD seed 0"] and found.unfinished == []
    with pytest.raises(PlanError, match="--only masc: there is no such row. Valid: far, near"):
        planned(path, only=["masc"])


def test_the_table(folder):
    path, _ = folder
    planned(path).execute()
    text = (path / "out/table.md").read_text(encoding="utf-8")
    near = next(line for line in text.splitlines() if line.startswith("| near |"))
    # plain 29, 31, 30 and near 31, 33, 32: s² = (2·2 + 2·2) / (2·2 + 2·1) = 4/3 with 6 degrees;
    # 2.447 · 1.155 · sqrt(2/3) = 2.31
    assert "| plain | +2.0 [-0.3, +4.3] (within noise) | +10.0 [+7.7, +12.3] (beyond" in near
    assert "| rank-1 +2 (Table 1) | rank-1: within noise |" in near
    assert "other optimizer, schedule or batch than plain" in near
    far = next(line for line in text.splitlines() if line.startswith("| far |"))
    assert "| rank-1 +2, mAP +3 | rank-1: as printed, mAP: as printed |" in far
    sgd = next(line for line in text.splitlines() if line.startswith("| own, SGD |"))
    assert "| plain<br>near | -5.0 [" in sgd and "(beyond noise)<br>-7.0 [" in sgd
    assert text.index("## Adam") < text.index("| far |") < text.index("## SGD") < text.index(sgd)
    for words in (
        "vireid compare --plan plan.yml --output out",
        "Setting of all rows: `setting.yml` (SOLVER.MAX_EPOCH 2, SOLVER.WEIGHT_DECAY 0.002, ",
        "Stop rule, written before the runs: Then stop.",
        "More seeds (2): for plain, near.",
        "rank-1 1.15, mAP 1.15, with 6 degrees of freedom",
        "8 are judged here",
    ):
        assert words in text
    assert str(path) not in text and "GFLOPs" not in text and "FLOPs" not in text


@pytest.mark.slow
def test_the_files_beside_the_table(folder):
    path, _ = folder
    written = planned(path, tables=path / "docs").execute().written
    assert {file.name for file in written} == {
        "table.md",
        "table.csv",
        "table.tex",
        "summary.csv",
        "differences.csv",
        "differing_keys.md",
        "plot.png",
        "gains.png",
        "runs.json",
        "short.md",
    }
    lines = list(csv.DictReader(io.StringIO((path / "docs/differences.csv").read_text())))
    first = next(line for line in lines if line["row"] == "far" and line["protocol"] == KEYS[0])
    assert (first["metric"], float(first["delta"]), first["paper"]) == ("Rank-1", 10.0, "2.0")
    assert (first["degrees"], first["verdict"], first["agreement"]) == (
        "6",
        "beyond noise",
        "as printed",
    )
    assert float(first["high"]) - float(first["low"]) == pytest.approx(2 * float(first["bound"]))
    keys = (path / "docs/differing_keys.md").read_text(encoding="utf-8")
    assert "## far, compared with plain\n\nNo key differs." in keys
    assert "`SOLVER.WEIGHT_DECAY`: 0.002 → 0.01 **(not like for like)**" in keys


@pytest.mark.slow
def test_a_row_on_several_folders_of_datasets(folder, monkeypatch):
    """Each point has its table, its decision on more seeds, and its FASTREID_DATASETS."""
    path, started = folder
    for name in ("a", "b"):
        (path / name).mkdir()
    points = "[{value: 0, folder: a}, {value: 0.5, folder: b}]"
    (path / "link.yml").write_text(
        f"_BASE_: plan.yml\nonly: [plain, near]\ndatasets: {{axis: share, points: {points}}}\n"
    )
    found = PlanComparison("link.yml", output="out")
    assert found.execute().unfinished == []
    assert started[:5] == [
        "plain at 0 seed 0",
        "near at 0 seed 0",
        "plain at 0.5 seed 0",
        "near at 0.5 seed 0",
        "plain at 0 seed 1",
    ]
    assert started[8:] == [f"{row} at {at} seed 2" for at in (0, 0.5) for row in ("plain", "near")]
    with pytest.raises(
        PlanError, match=r"rows that are not compared here \(at-0/plain; at-0/near;"
    ):
        PlanComparison("plan.yml", output="out")  # the same rows, without points
    names = {file.name for file in (path / "out").iterdir()}
    assert {"gain_curves.png", "gains-at-0.png", "differences-at-0.5.csv", "at-0.5"} <= names
    text = (path / "out/table.md").read_text(encoding="utf-8")
    assert "## share: 0\n" in text and "## share: 0.5\n" in text
    lines = list(csv.DictReader(io.StringIO((path / "out/table.csv").read_text())))
    assert {line["at"] for line in lines} == {"0.0", "0.5"}

    called = []

    class Process:
        def __init__(self, words, **options):
            called.append((words, options["env"]["FASTREID_DATASETS"]))

    monkeypatch.setattr(jobs.subprocess, "Popen", Process)
    run = found._planned([7])[-1]
    jobs._start(run, 0, 1)
    assert called[0][1] == str(path / "b")
    assert json.loads(called[0][0][4])["point"] == 0.5


def test_tables_of_another_plan_are_not_overwritten(folder, monkeypatch):
    """The same plan may change its rows; another one needs all rows, or a folder of its own."""
    path, _ = folder
    planned(path, seeds=(0,)).execute()
    before = (path / "out/table.md").read_bytes()
    (path / "part.yml").write_text("_BASE_: plan.yml\nonly: [plain, near]\n")
    with pytest.raises(
        PlanError, match=r"out holds the tables of .*/plan.yml, with rows .*\(far; "
    ):
        PlanComparison("part.yml", output="out")
    with pytest.raises(
        PlanError, match="with rows that are not compared here .plain; near; far and"
    ):
        Comparison(["agw/synthetic.yml"], output="out")
    (path / "sub").mkdir()  # another plan with the same file name
    (path / "sub/plan.yml").write_text("_BASE_: ../plan.yml\nonly: [plain, near]\n")
    monkeypatch.chdir(path / "sub")
    with pytest.raises(PlanError, match="Give another --output, or another --tables"):
        PlanComparison("plan.yml", output="../out")
    monkeypatch.chdir(path)
    assert (path / "out/table.md").read_bytes() == before
    assert PlanComparison("part.yml", output="out", tables="docs", seeds=(0,)).write().written
    (path / "more.yml").write_text(PLAN + "      - {name: new, config: agw/synthetic.yml}\n")
    PlanComparison("more.yml", output="out", seeds=(0,)).write()
    (path / "more.yml").write_text(PLAN)
    PlanComparison("more.yml", output="out", seeds=(0,)).write()
    (path / "out/rows.json").write_text("{")
    with pytest.raises(UserError, match="rows.json is not JSON .* Delete it if the tables"):
        planned(path)


def test_tables_of_configs_are_not_overwritten_by_a_plan(folder):
    path, _ = folder
    run = Comparison(["agw/synthetic.yml"], (0,), output="out").runs[0]
    finish(run, 30.0, 20.0)
    Comparison(["agw/synthetic.yml"], (0,), output="out").write()
    with pytest.raises(
        PlanError, match="out holds the tables of configs without a plan, with rows"
    ):
        planned(path)
    Comparison(["agw/synthetic.yml", "mrda/synthetic.yml"], (0,), output="out").write()
    Comparison(["mrda/synthetic.yml"], (0,), output="out")


def table(tmp_path, own, other, more=()):
    """Two rows, and others that only tell how much seeds scatter."""
    values = {"a": other, "b": own, **{f"x{n}": one for n, one in enumerate(more)}}
    runs = fake_runs(tmp_path, list(values), [0, 1])
    for run in runs:
        finish(run, values[run.entry.name][run.seed], 20.0 + run.seed)
    return Contrasts(collect(runs), {"b": ["a"]})


def test_the_rule_flips_at_the_bound(tmp_path):
    """Squares 2 of each row: s² = 4/2, t = 4.303 with two degrees: the bound is 6.085."""
    claim = Claim("a", {"Rank-1": 1.0}, 0, "")
    for gain, needed in ((6.08, ["a", "b"]), (6.09, [])):
        rows = table(tmp_path / str(gain), (30 + gain, 32 + gain), (30.0, 32.0))
        assert rows_that_need_more(rows, {"b": claim}, [KEYS[0]]) == needed
        assert rows_that_need_more(rows, {}, [KEYS[0]]) == []
    only_mAP = Claim("a", {"mAP": 1.0}, 0, "")  # mAP is equal: within the noise
    assert rows_that_need_more(rows, {"b": only_mAP}, [KEYS[0]]) == ["a", "b"]
    both = Claim("a", {"Rank-1": 1.0, "mAP": 1.0}, 0, "")  # one of them within the noise is enough
    assert rows_that_need_more(rows, {"b": both}, [KEYS[0]]) == ["a", "b"]
    only_mINP = Claim("a", {"mINP": 1.0}, 0, "")  # here half of mAP
    assert rows_that_need_more(rows, {"b": only_mINP}, [KEYS[0]]) == ["a", "b"]
    of_another_row = Claim("c", {"mAP": 1.0}, 0, "")
    assert rows_that_need_more(rows, {"b": of_another_row}, [KEYS[0]]) == []


def test_a_claim_is_judged_against_the_row_that_it_names(tmp_path):
    """b lies above a and below c; the table and the file for programs agree."""
    values = {"a": 30.0, "b": 50.0, "c": 70.0}
    runs = fake_runs(tmp_path, list(values), [0, 1])
    for run in runs:
        finish(run, values[run.entry.name] + run.seed, 20.0 + run.seed)
    contrasts = Contrasts(collect(runs), {"b": ["c", "a"]})
    row, section = contrasts.rows[1], Section(None, contrasts, [KEYS[0]])
    for over, told in (("a", "as printed"), ("c", "opposite")):
        claim = Claim(over, {"Rank-1": 1.0}, 0, "")
        assert plan_table._agreement(row, section, claim) == f"rank-1: {told}"
        text = export.format_differences(contrasts, {"b": claim})
        lines = [line for line in csv.DictReader(io.StringIO(text)) if line["agreement"]]
        assert {(line["against"], line["agreement"]) for line in lines} == {(over, told)}


def size(png):
    """Width and height in the header of a PNG."""
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])


def test_the_figures_grow_with_their_rows(tmp_path):
    """A row of gains is 0.3 inches at 130 dots; curves have four panels of 2.5 inches in a line."""
    runs = fake_runs(tmp_path, list("abcdef"), [0, 1])
    for run in runs:
        finish(run, 30.0 + ord(run.entry.name) - 97 + run.seed, 20.0)
    rows = collect(runs)
    heights = []
    for others in ("b", "bcdef"):
        contrasts = Contrasts(rows, {name: ["a"] for name in others})
        claims = {"b": Claim("a", {"Rank-1": 99.0, "mAP": 0.5}, 0, "")}
        heights.append(size(draw_gains(contrasts, [KEYS[0]], claims, "t"))[1])
        sections = [Section(DataPoint(at, tmp_path), contrasts, [KEYS[0]]) for at in (0.0, 1.0)]
        wide = min(4, len(others)) * 2.5 + 0.6
        lines = -(-len(others) // 4)
        curves = size(draw_curves(sections, "share", "t"))
        assert curves == pytest.approx((wide * 130, (lines * 2.0 + 1.5) * 130), abs=1)
    assert heights[1] - heights[0] == pytest.approx(4 * 0.3 * 130, abs=1)


def test_a_row_at_one_point_is_no_curve_once_another_has_two(tmp_path, monkeypatch):
    """b is known at both points, c at one; an interval is named only where seeds give one."""
    legends = []
    monkeypatch.setattr(
        gain_curves.Figure, "legend", lambda self, handles, **_: legends.append(handles)
    )
    for seeds, words in (([0], "rank-1 (one seed)"), ([0, 1], "rank-1 (95 % interval)")):
        runs = fake_runs(tmp_path / str(len(seeds)), list("abc"), seeds)
        for run in runs:
            finish(run, 30.0 + run.seed, 20.0)
        rows = collect(runs)
        one = Section(DataPoint(0.0, tmp_path), Contrasts(rows[:2], {"b": ["a"]}), [KEYS[0]])
        both = Contrasts(rows, {"b": ["a"], "c": ["a"]})
        two = Section(DataPoint(1.0, tmp_path), both, [KEYS[0]])
        assert set(gain_curves._curves([two])) == {("b", "a"), ("c", "a")}
        assert set(gain_curves._curves([one, two])) == {("b", "a")}
        draw_curves([one, two], "share", "t")
        assert legends.pop()[0].get_label() == words


def test_names_of_folders(folder):
    assert plan.default_folder(planned(folder[0]).plan) == "plan"
    for name, expected in (("evidence/plan.yml", "evidence"), ("x/fig6_plan.yml", "x-fig6")):
        (folder[0] / name).parent.mkdir(exist_ok=True)
        (folder[0] / name).write_text(PLAN.replace("setting: setting.yml\n", ""))
        assert plan.default_folder(plan.read_plan(name)) == expected


# ------------------------------------------------------------------ the command


@pytest.mark.slow
def test_the_command(folder, capsys):
    path, started = folder
    assert main(["--plan", "plan.yml", "--output", "out", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("to do      plain seed 0\n") and started == []
    assert printed.endswith("not decided before all runs with the first seeds ended.\n")
    words = ["--plan", "plan.yml", "--output", "out", "--only", "plain", "near", "--seeds", "0"]
    assert main([*words, "--dry-run"]) == 0
    listed = [line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()]
    assert listed[:3] == ["plain seed 0", "near seed 0", "2 runs, 0 done, in out"]
    assert main(words) == 0 and started == ["plain seed 0", "near seed 0"]
    assert main(["--plan", "plan.yml", "--output", "out", "--table-only"]) == 1
    assert "Written: " in capsys.readouterr().out
    assert main(["--plan", "plan.yml", "--output", "out"]) == 0
    assert started[2:4] == ["far seed 0", "own, SGD seed 0"]


@pytest.mark.parametrize(
    "words,message",
    [
        (["agw/sysu.yml", "--plan", "plan.yml"], "CONFIG is not possible with --plan"),
        (["--plan", "plan.yml", "--trials"], "--trials is not possible with --plan"),
        (["--plan", "plan.yml", "--baseline", "x"], "--baseline is not possible with --plan"),
        (["--plan", "plan.yml", "--on", "agw/sysu.yml"], "--on is not possible with --plan"),
        (["agw/sysu.yml", "--only", "x"], "--only is not possible without --plan FILE"),
        (["agw/sysu.yml", "--setting", "x"], "--setting is not possible without --plan"),
        ([], "Name the configs that are compared, or --plan FILE"),
        (["--plan", "nowhere.yml"], "No config file 'nowhere.yml'"),
        (["--plan", "plan.yml", "--jobs", "0"], "--jobs is 0"),
        (["--plan", "plan.yml", "--seeds", "1", "1"], "--seeds is [1, 1]"),
        (["--plan", "plan.yml", "--protocol", "x"], "protocol 'x' is not evaluated"),
        (["--plan", "plan.yml", "--set", "SEED", "1"], "--set SEED: use --seeds"),
        (
            ["--plan", "plan.yml", "--set", "SOLVER.MAX_EPOCH"],
            "error: Overrides come as KEY VALUE pairs; got 1 words: SOLVER.MAX_EPOCH.",
        ),
        (["--plan", "plan.yml", "--setting", "no.yml"], "No config file 'no.yml'"),
    ],
)
def test_what_is_not_possible_ends_with_one_line(folder, capsys, words, message):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_plan_that_stands_where_a_config_is_expected(folder, capsys):
    assert main(["plan.yml"]) == 2
    assert "vireid compare --plan " in capsys.readouterr().err


def test_keys_that_a_plan_may_not_set(folder, capsys):
    (folder[0] / "setting.yml").write_text("SEED: 3\n")
    assert main(["--plan", "plan.yml"]) == 2
    assert "plan.yml: setting: SEED: use --seeds" in capsys.readouterr().err


def test_rows_that_are_tested_differently(folder, capsys):
    text = PLAN.replace("WEIGHT_DECAY: 0.01", "WEIGHT_DECAY: 0.01, TEST.PROTOCOL.TRIALS: 3")
    (folder[0] / "plan.yml").write_text(text)
    assert main(["--plan", "plan.yml"]) == 2
    assert "must be tested in the same way" in capsys.readouterr().err
