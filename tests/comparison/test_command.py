"""The command: it trains, continues, keeps going and says so. Oracle: uninterrupted runs."""

import functools
import json
import signal
import subprocess
import sys
import time

import pytest

from vireid.cli import run_verb
from vireid_plugins.comparison import compare, queue
from vireid_plugins.comparison.comparison import default_name
from vireid_plugins.comparison.config_files import expand_configs
from vireid_plugins.comparison.progress import Progress
from vireid_plugins.comparison.worker import describe_error
from vireid_plugins.engine import session
from vireid_plugins.errors import PlanError

from tests.comparison.fakes import KEYS, SET, SYNTHETIC, fail, fake_runs, finish, write_config
from tests.engine.small import ROOT

pytestmark = pytest.mark.slow  # they look at runs of several seconds

main = functools.partial(run_verb, "compare")
EPOCHS = 3  # each keeps 130 MB


def result_of(output, name, seed=0):
    return json.loads((output / name / f"seed{seed}" / "result.json").read_text())


@pytest.fixture(scope="module")
def compared(tmp_path_factory, tiny_root):
    """Two configs that train and, between them, one that fails; two at once.

    Returns:
        Folder of configs, folder of runs, exit status.
    """
    folder = tmp_path_factory.mktemp("comparison")
    paths = [
        write_config(folder, "plain", SOLVER__MAX_EPOCH=EPOCHS),
        write_config(folder, "broken", MODEL__LOSSES__LABEL_SMOOTHING__SCALE=1e39),
        write_config(folder, "split", MODEL__BACKBONE__UNSHARED_STAGES=2, SOLVER__MAX_EPOCH=1),
    ]
    words = [*map(str, paths), *words_of(folder / "out"), "--jobs", "2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        status = main(words)
    return folder, folder / "out", status


def words_of(output):
    """Options of a comparison of seconds; MAX_EPOCH is the configs' own."""
    pairs = zip(SET[::2], SET[1::2])
    settings = [word for pair in pairs if pair[0] != "SOLVER.MAX_EPOCH" for word in pair]
    return ["--seeds", "0", "--output", str(output), "--set", *settings]


def test_one_failing_config_does_not_stop_the_others(compared):
    folder, output, status = compared
    assert status == 1
    text = (output / "table.md").read_text(encoding="utf-8")
    lines = {
        name: line
        for name in ("plain", "broken", "split")
        for line in text.splitlines()
        if line.startswith(f"| {name} |")
    }
    assert "baseline" in lines["plain"] and "not judged" in lines["split"]
    assert "0 of 1 seeds" in lines["broken"]
    assert "seed 0 failed: NonFiniteError: " in lines["broken"]
    printed = (output / "broken/seed0/output.txt").read_text(encoding="utf-8")
    assert "\nerror: " in printed and "Traceback" not in printed
    assert str(folder) not in text and "Iterations: 12 (1 run); 4 (1 run)" in text
    assert {path.name for path in output.glob("*.*")} == {
        ".lock",
        "table.md",
        "table.csv",
        "table.tex",
        "summary.csv",
        "plot.png",
        "runs.json",
        "rows.json",
    }


def test_a_result_holds_what_was_measured(compared):
    """4 iterations an epoch: 8 identities x 4 visible images / (4 x 2)."""
    result = result_of(compared[1], "plain")
    assert result["iterations"] == 4 * EPOCHS and len(result["config"]) > 1000
    assert result["seconds_per_iteration"] == result["train_seconds"] / (4 * EPOCHS) > 0
    assert result["parameters"] >= result["trainable_parameters"] > 11e6
    assert result["peak_memory_mib"] > 100 and result["evaluation_seconds"] > 0
    assert 0 < result["metrics"][f"{KEYS[0]}/mAP"] <= 100 and result["runs_at_once"] == 2
    assert result["rendered"]["SYSUMM01"]["train"] == 8
    assert (result["protocols"][0]["key"], result["protocols"][0]["trials"]) == (KEYS[0], 2)
    assert result["environment"]["threads"] == "1"
    assert result["flops_per_image"] is None or result["flops_per_image"] > 1e6
    split = result_of(compared[1], "split")
    assert split["parameters"] > result["parameters"] and split["metrics"] != result["metrics"]


def test_the_metrics_are_those_of_eval_only(compared, datasets, tmp_path):
    """The documented way to evaluate a checkpoint."""
    run = compared[1] / "plain" / "seed0"
    opts = ["OUTPUT_DIR", str(tmp_path), "MODEL.WEIGHTS", str(run / "model_final.pth")]
    found = session.evaluate(str(run / "settings.yaml"), opts)
    assert found == result_of(compared[1], "plain")["metrics"]


def test_an_interrupted_run_goes_on_and_ends_the_same(compared, datasets, capsys):
    """Stopped as a shell or a scheduler stops it, after the first checkpoint: equal metrics."""
    folder, whole, _ = compared
    output = folder / "interrupted"
    words = [str(folder / "plain.yml"), *words_of(output)]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools/compare.py"), *words], stderr=subprocess.PIPE, text=True
    )
    run = output / "plain" / "seed0"
    while not (run / "last_checkpoint").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert "The same command continues" in process.communicate(timeout=30)[1]
    assert process.returncode == 130 and not (run / "result.json").exists()
    assert main([*words, "--dry-run"]) == 0
    assert "to resume  plain seed 0" in capsys.readouterr().out
    assert main(words) == 0
    resumed, plain = result_of(output, "plain"), result_of(whole, "plain")
    assert resumed["metrics"] == plain["metrics"] and resumed["sessions"] == 2
    assert "Resumed " in (run / "log.txt").read_text()
    assert len(Progress(run).epoch_seconds) == EPOCHS and resumed["train_seconds"] > 0
    assert main(words) == 0
    assert "1 runs, 1 done" in capsys.readouterr().out
    assert result_of(output, "plain")["finished"] == resumed["finished"]


# ------------------------------------------------------------------ without any training


@pytest.fixture
def planned(tmp_path):
    """Two configs, two seeds, of which one has run and one has failed; words and runs."""
    paths = [write_config(tmp_path, name) for name in ("a", "b")]
    runs = fake_runs(tmp_path / "out", ["a", "b"], [0, 1])
    finish(runs[0], 30.0, 20.0)
    fail(runs[1], "ValueError: no")
    words = [*map(str, paths), "--seeds", "0", "1", "--output", str(tmp_path / "out")]
    return words, runs


def test_dry_run_lists_every_run(planned, capsys):
    assert main([*planned[0], "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  (")[0].split() for line in lines[:4]] == [
        ["done", "a", "seed", "0"],
        ["to", "do", "b", "seed", "0"],
        ["to", "do", "a", "seed", "1"],
        ["to", "do", "b", "seed", "1"],
    ]
    assert "(failed: ValueError: no)" in lines[1] and lines[4].startswith("4 runs, 1 done")


def test_table_only_starts_nothing(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "execute", lambda *_: pytest.fail("started"))
    words = [*planned[0], "--table-only", "--tables", str(tmp_path / "docs"), "--baseline", "b.yml"]
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1  # not all runs are complete
    text = (tmp_path / "docs" / "table.md").read_text(encoding="utf-8")
    assert "a.yml b.yml --seeds 0 1 --output out --baseline b --tables docs" in text
    for run in planned[1][1:]:
        finish(run, 31.0, 21.0)
    assert main(words) == 0
    assert (tmp_path / "docs" / "plot.png").exists()


def test_only_what_is_not_done_is_run(planned, monkeypatch, capsys):
    """Numbered on, with the time that the run that is done took: 62 s for each of three."""
    words, runs = planned

    def end_all(todo, jobs, on_start, on_end):
        for run in todo:
            on_start(run)
            finish(run, 31.0, 21.0)
            on_end(run, 62.0)

    monkeypatch.setattr(queue, "execute", end_all)
    assert main(words) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("run ")]
    assert [line.split(", log")[0] for line in lines] == [
        "run 2 of 4: b seed 0, to do, eta 0:03",
        "run 3 of 4: a seed 1, to do, eta 0:02",
        "run 4 of 4: b seed 1, to do, eta 0:01",
    ]


def test_from_python_it_returns_what_is_unfinished(planned, tmp_path, monkeypatch):
    words, runs = planned
    monkeypatch.setattr(queue, "execute", lambda todo, *_: finish(todo[0], 31.0, 21.0))
    said = []
    found = compare(words[:2], seeds=(0, 1), output=tmp_path / "out", title="mine", say=said.append)
    assert [run.title for run in found.unfinished] == ["a seed 1", "b seed 1"]
    assert found.tables == tmp_path / "out" and found.written[0].read_text().startswith("# mine")
    assert said[0].startswith("2 configs x 2 seeds = 4 runs, 1 done")
    with pytest.raises(PlanError, match="--jobs is 0"):
        compare(words[:2], jobs=0)


@pytest.mark.parametrize(
    "more,message",
    [
        (["--jobs", "0"], "--jobs is 0"),
        (["--seeds", "1", "1"], "--seeds is"),
        (["--seeds", "-1"], "--seeds is"),
        (["--baseline", "agw/sysu.yml"], "is not compared; there are: a, b"),
        (["--protocol", "SYSUMM01/x/single"], "there are: SYSUMM01/all/single, "),
        (["--set", "SOLVER.BASE_LR", "0.5"], "a seed 0 was run with other settings: SOLVER.BASE"),
        (["nowhere.yml"], "No config file 'nowhere.yml'"),
    ],
)
def test_what_cannot_be_run_as_asked_ends_with_one_line(planned, capsys, more, message):
    assert main([*more, *planned[0]] if more[0][0] != "-" else [*planned[0], *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_the_folder_is_named_after_the_configs(tmp_path):
    assert default_name(expand_configs(["agw/sysu.yml", "agw/regdb.yml"])) == "agw"
    assert default_name([SYNTHETIC]) == "agw-synthetic"  # mrda/synthetic.yml has its own folder
    assert default_name([ROOT / "configs/mrda/ablation/full.yml"]) == "mrda-ablation-full"
    assert default_name([ROOT / f"configs/{n}/sysu.yml" for n in ("agw", "mrda")]) == (
        "agw-mrda-sysu"
    )
    both = [ROOT / "configs/agw/sysu.yml", ROOT / "configs/mrda/regdb.yml"]
    assert default_name(both) == "agw-mrda"
    assert default_name([ROOT / "configs/a.yml", ROOT / "configs/b.yml"]) == "a"
    assert default_name([ROOT / "configs/mrda/ablation" / f"{n}.yml" for n in "ab"]) == (
        "mrda-ablation"
    )
    assert default_name([tmp_path / "x.yml", tmp_path / "y.yml"]) == "x"


def test_times_of_epochs_that_are_trained_again_are_forgotten(tmp_path):
    """Three epochs took 1, 2, 4 s; only the first one's checkpoint was kept."""
    first = Progress(tmp_path)
    first.begin_session("abc")
    for epoch, (seconds, memory) in enumerate(((1.0, 50.0), (2.0, 70.0), (4.0, None))):
        first.end_epoch(epoch, seconds, memory)
    first.fail("ValueError: no")
    again = Progress(tmp_path)
    assert again.error == "ValueError: no"
    again.begin_session("abd")
    again.end_epoch(1, 8.0, 60.0)
    found = Progress(tmp_path)
    assert found.epoch_seconds == [1.0, 8.0] and found.peak_memory_mib == 70.0
    assert (found.commits, found.sessions, found.error) == (["abc", "abd"], 2, "")


def test_errors_are_reported_in_one_line():
    assert describe_error(ValueError("a\nb")) == "ValueError: a"
    assert describe_error(KeyError("no 'x'")) == "KeyError: no 'x'"
    assert len(describe_error(ValueError("x" * 999))) < 250
