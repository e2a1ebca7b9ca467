"""``make gpu`` without a GPU: what it chooses, keeps, leaves out and writes."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vireid.cli import run_verb
from vireid_plugins.comparison.plan_file import read_plan
from vireid_plugins.pretrained.catalog import lookup

from tools import bootstrap
from tools.gpu import __main__ as command
from tools.gpu import evidence, parts, running, summary

ROOT = Path(__file__).resolve().parent.parent
TINY = ["--device", "cpu", "--tiny", "--out"]


@pytest.fixture
def fake_parts(monkeypatch):
    """Replace the parts by three that only count; the second does what ``broken`` says."""
    calls, broken = [], {}

    def work(name):
        def run(runner):
            calls.append(name)
            if name in broken:
                raise broken[name]
            return {"seconds": runner.seconds_left}

        return run

    made = [parts.Part(f"p{n}", f"Part {n}", work(f"p{n}"), 1, 60) for n in range(3)]
    monkeypatch.setattr(command, "PARTS", made)
    monkeypatch.setattr(summary, "PARTS", made)
    shown = {part.name: lambda folder, found: [str(found)] for part in made}
    monkeypatch.setattr(summary, "SHOW", shown)
    return calls, broken


def results(folder):
    return json.loads((folder / summary.RESULTS).read_text())


def test_a_second_call_runs_what_is_not_finished_alone(fake_parts, tmp_path, capsys):
    calls, broken = fake_parts
    broken["p1"] = running.PartError("no such kernel")
    assert command.main([*TINY, str(tmp_path)]) == 1
    assert calls == ["p0", "p1", "p2"]
    states = {name: state["state"] for name, state in results(tmp_path).items()}
    assert states == {"p0": "finished", "p1": "failed", "p2": "finished"}
    assert "no such kernel" in (tmp_path / "summary.md").read_text()
    broken.clear()
    assert command.main([*TINY, str(tmp_path)]) == 0
    assert calls[3:] == ["p1"]
    assert "no such kernel" not in (tmp_path / "summary.md").read_text()
    assert command.main([*TINY, str(tmp_path), "--afresh", "--only", "p2"]) == 0
    assert calls[4:] == ["p2"]
    assert command.main(["--device", "cpu", "--out", str(tmp_path)]) == 0  # not tiny: other results
    assert calls[5:] == ["p0", "p1", "p2"]


def test_a_damaged_result_is_computed_again(fake_parts, tmp_path):
    calls, _ = fake_parts
    command.main([*TINY, str(tmp_path)])
    (tmp_path / "p1.json").write_text('{"state": "fini')
    command.main([*TINY, str(tmp_path)])
    assert calls[3:] == ["p1"]


def test_parts_without_time_are_left_out_and_named(fake_parts, tmp_path):
    calls, _ = fake_parts
    assert command.main([*TINY, str(tmp_path), "--minutes", "0.01"]) == 0
    assert calls == []
    text = (tmp_path / "summary.md").read_text()
    assert text.count("left out of this call") == 3 and "| not run |" in text


def test_a_stopped_part_is_run_again(fake_parts, tmp_path):
    calls, broken = fake_parts
    broken["p0"] = running.OutOfTime()
    assert command.main([*TINY, str(tmp_path)]) == 0
    assert results(tmp_path)["p0"]["state"] == "stopped"
    broken["p0"] = KeyboardInterrupt()
    assert command.main([*TINY, str(tmp_path)]) == 130
    assert results(tmp_path)["p0"]["message"] == "stopped by the user"
    broken.clear()
    assert command.main([*TINY, str(tmp_path)]) == 0
    assert calls == ["p0", "p1", "p2", "p0", "p0"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--device", "tpu"], "--device is 'tpu'; expected cuda, cuda:N or cpu"),
        (["--minutes", "0"], "--minutes is 0; expected more than 0"),
        (["--minutes", "nan"], "--minutes is nan; expected more than 0"),
        (["--jobs", "-1"], "--jobs is -1; expected 1 or more"),
        (["--epochs", "1"], "--epochs 1: expected 2 or more"),
        (["--only", "everything"], "invalid choice: 'everything'"),
    ],
)
def test_mistakes_are_told_in_one_sentence(words, reason, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2 and reason in capsys.readouterr().err


def test_a_python_without_libraries_is_told_which(tmp_path, monkeypatch):
    monkeypatch.setitem(parts.LIBRARIES, "no_such_module", "no-such-package")
    settings = running.Settings("cpu", True, 1, (), (0,), 0)
    runner = running.Runner(tmp_path, settings, time.monotonic() + 60)
    with pytest.raises(running.PartError, match="lacks no-such-package. Install with: python -m"):
        parts.environment(runner)


def make_runner(folder, seconds, **asked):
    words = dict(device="cpu", tiny=False, jobs=1, rows=(), seeds=(0,), epochs=0)
    settings = running.Settings(**{**words, **asked})
    return running.Runner(folder, settings, time.monotonic() + seconds)


def test_a_command_is_stopped_by_the_signal_of_ctrl_c(tmp_path):
    runner = make_runner(tmp_path, 5.0)
    code = (
        "import pathlib, sys, time\n"
        "try:\n    pathlib.Path(sys.argv[1]).touch()\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    pathlib.Path(sys.argv[1]).write_text('saved')"
    )
    begin = time.monotonic()
    with pytest.raises(running.OutOfTime):
        runner.python("-c", code, tmp_path / "file", most=0.8)
    assert time.monotonic() - begin < 5
    assert (tmp_path / "file").read_text() == "saved"
    with pytest.raises(running.PartError, match=r"out of order \(status 3; all of it: "):
        runner.python("-c", "import sys; print('out of order'); sys.exit(3)")


def test_the_length_is_the_longest_that_leaves_time_for_the_rows():
    """8 rows of 3 epochs at 1,000 images/s: 8 * (3 * 108 * 64 / 1000 + 40 / 2) = 325.9 s."""
    assert evidence.epochs_that_fit(1000, 326, jobs=2)[0] == 3
    assert evidence.epochs_that_fit(1000, 325, jobs=2)[0] == 2
    assert evidence.epochs_that_fit(1000, 10, jobs=2) == (
        2,
        "8 rows need about 271 s, more than there is",
    )
    assert evidence.epochs_that_fit(0, 1000, jobs=2)[0] == 2
    state = {"result": {"288x144": {"float32": {"images/s": 500}}}}
    assert evidence.images_per_second(state) == 500
    assert evidence.images_per_second({}) == evidence.images_per_second({"result": None}) == 0


@pytest.mark.parametrize("here", [{"resnet50", "mobilenetv2"}, {"mobilenetv2"}, set()])
def test_the_table_starts_from_the_best_weights_that_are_here(here, tmp_path, monkeypatch):
    def fetch(runner, verb, action, name, **_):
        if name not in here:
            raise running.PartError("no network")

    monkeypatch.setattr(running.Runner, "vireid", fetch)
    runner = make_runner(tmp_path / "evidence", 600)
    start = evidence.choose_start(runner)
    assert start.weights == (sorted(here)[-1] if here else evidence.RANDOM)
    known = evidence.choose(runner)
    assert (known["start"], known["epochs"], known["updates"]) == (start.title, 2, 216)
    here.clear()
    assert evidence.choose(make_runner(tmp_path / "evidence", 600)) == known  # of the same table
    asked = evidence.choose(make_runner(tmp_path / "evidence", 600, epochs=4))
    assert (asked["epochs"], asked["why"], asked["folder"]) == (
        4,
        "as asked for",
        "4_epochs_random_cpu",
    )
    with pytest.raises(running.PartError, match="no network"):
        evidence.choose(make_runner(tmp_path / "evidence", 600, start="resnet50"))


@pytest.mark.slow
def test_every_row_of_the_plan_has_a_config_at_the_papers_size(tmp_path, capsys):
    """Oracle: ``vireid compare``, which checks each row's config before it lists the runs."""
    runner = make_runner(tmp_path, 600)
    words = evidence.table_words(runner, evidence.STARTS[0], 2, tmp_path / "table")
    place = words.index("--set")
    words = [str(word) for word in [*words[:place], "--dry-run", *words[place:]]]
    assert run_verb(words[0], words[1:]) == 0
    assert "MAUM, SGD" in capsys.readouterr().out


def test_the_chosen_length_is_that_of_rows_without_one_of_their_own(tmp_path):
    """The phases of mutual prediction need the plan's four epochs. Oracle: the plan, as read."""
    runner = make_runner(tmp_path, 600)
    words = evidence.table_words(runner, evidence.STARTS[0], 2, tmp_path / "table")
    assert "SOLVER.MAX_EPOCH" not in words  # --set is stronger than a row's own keys
    plan = read_plan(str(ROOT / evidence.PLAN), str(words[words.index("--setting") + 1]))
    assert dict(plan.setting_pairs)["SOLVER.MAX_EPOCH"] == 2
    assert dict(plan.setting_pairs)["MODEL.BACKBONE.DEPTH"] == "50x"  # of gpu_setting.yml
    rows = {row.name: dict(row.pairs) for row in plan.rows}
    assert rows["mutual prediction, SGD"]["SOLVER.MAX_EPOCH"] == 4
    assert "SOLVER.MAX_EPOCH" not in rows["baseline"]


def test_rows_that_need_estimated_key_points_are_run_if_they_are_named(tmp_path):
    """``vireid pose`` writes their file, which this command does not call."""
    plan, name = read_plan(str(ROOT / evidence.PLAN)), "SPOT, estimated key points, rate 0.0005"
    names = [row.name for row in plan.rows]
    assert evidence.usual_rows() == [one for one in names if one != name]
    runner = make_runner(tmp_path, 600, rows=(name,))
    words = evidence.table_words(runner, evidence.STARTS[0], 2, tmp_path / "table")
    assert words[words.index("--only") + 1 : words.index("--set")] == [name]


def test_the_start_from_mobilenetv2_has_the_keys_of_its_weights():
    """Oracle: the keys that ``vireid weights`` prints."""
    words = lookup("mobilenetv2").keys
    keys = dict(zip(words[::2], words[1::2]))
    del keys["MODEL.BACKBONE.PRETRAIN"]  # the setting has it
    assert keys.items() <= evidence.STARTS[1].words.items()


def test_skipped_and_failed_tests_are_read_from_the_report(tmp_path):
    path = tmp_path / "report.xml"
    path.write_text(
        '<testsuites><testsuite><testcase classname="tests.gpu.test_a" name="b" time="2.04"/>'
        '<testcase classname="tests.gpu.test_a" name="c"><failure message="no"/></testcase>'
        '<testcase classname="tests.gpu.test_a" name="d"><skipped message="no GPU"/></testcase>'
        "</testsuite></testsuites>"
    )
    found = parts.read_report(path)
    assert (found["run"], found["passed"], found["failed"]) == (3, 1, ["test_a::c"])
    assert found["skipped"] == {"no GPU": 1} and found["slowest"]["test_a::b"] == 2.0
    assert parts.read_report(tmp_path / "absent.xml")["run"] == 0


def test_the_part_of_ranking_shows_the_table_of_its_topic(tmp_path):
    found = {"table": "| regdb | 3 s |\n", "machine": {"bfloat16 instructions": []}}
    first, *_ = summary.show_ranking(tmp_path, found)
    assert first == "| regdb | 3 s |"


@pytest.mark.slow
def test_the_rehearsal_writes_versions_and_images(tmp_path):
    """The other parts take a minute: python tools/bootstrap.py gpu --device cpu --tiny."""
    words = [*TINY, str(tmp_path), "--only", "environment", "data"]
    done = subprocess.run(
        [sys.executable, "tools/bootstrap.py", "gpu", "--no-setup", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = results(tmp_path)
    assert found["environment"]["result"]["device"]["device"] == "cpu"
    assert len(list((tmp_path / "data" / "SynthVI").rglob("*.jpg"))) > 50
    text = (tmp_path / "summary.md").read_text()
    assert "| FastReID |" in text and "| Tests on the device (`tests`) | not run |" in text
    assert command.main([*words, "--minutes", "0.5"]) == 0  # skipped: nothing is left to do
    assert results(tmp_path) == found


def test_make_gpu_installs_unless_it_is_told_not_to(monkeypatch):
    calls = []
    monkeypatch.setattr(bootstrap, "install", lambda venv, force: calls.append("install"))
    monkeypatch.setattr(bootstrap, "call", lambda words: calls.append(words) or 0)
    assert bootstrap.main(["gpu", "--no-setup", "--only", "tests"]) == 0
    assert calls == [[sys.executable, "-m", "tools.gpu", "--only", "tests"]]
    assert bootstrap.main(["gpu", "--tiny"]) == 0
    assert calls[1] == "install" and calls[2][1:] == ["-m", "tools.gpu", "--tiny"]
