"""Several processes: how many, on which cores and GPUs, and that none outlives the others."""

import dataclasses
import signal
import subprocess
import sys
import time

import pytest

from vireid_plugins.comparison import jobs
from vireid_plugins.comparison.jobs import Job, child_environment, execute, sole_user
from vireid_plugins.comparison.runs import DataPoint
from vireid_plugins.errors import PlanError, UserError

from tests.comparison.fakes import fail, fake_runs, finish


@pytest.fixture
def sleepers(monkeypatch):
    """Runs that sleep; what was started, by slot."""
    started = []

    def start(run, slot, count):
        run.folder.mkdir(parents=True)
        words = [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({run.seed / 10})"]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
        started.append((run, slot, process))
        return Job(run, slot, process, time.monotonic())

    monkeypatch.setattr(jobs, "_start", start)
    monkeypatch.setattr(jobs, "_POLL", 0.01)
    monkeypatch.setattr(jobs, "check_datasets", lambda runs: None)
    return started


def test_runs_start_in_order_and_two_at_once(tmp_path, sleepers):
    """In order; the third takes the slot of whichever of the first two ends first."""
    runs = [run for seed in (9, 1, 2) for run in fake_runs(tmp_path, ["a"], [seed])]
    events = []
    execute(
        runs,
        2,
        lambda run: events.append(("+", run.seed)),
        lambda run, seconds: events.append(("-", run.seed)),
    )
    assert events == [("+", 9), ("+", 1), ("-", 1), ("+", 2), ("-", 2), ("-", 9)]
    assert [slot for _, slot, _ in sleepers] == [0, 1, 1]


def test_a_run_waits_for_the_run_whose_checkpoint_it_begins_with(tmp_path, sleepers):
    """With two at once: c, which begins with b, lets d go first; seeds are tenths of a second."""
    runs = [run for name in "abcd" for run in fake_runs(tmp_path, [name], [4])]
    cfg = runs[2].entry.cfg.clone()
    cfg.defrost()
    cfg.MODEL.MMT.START_1 = "{output}/../../b/seed{seed}/model_final.pth"
    runs[2] = dataclasses.replace(runs[2], entry=dataclasses.replace(runs[2].entry, cfg=cfg))
    assert runs[2].starts() == [str(runs[1].folder / "model_final.pth")]
    runs[0] = dataclasses.replace(runs[0], seed=1)  # a ends long before b
    events = []
    execute(
        runs,
        2,
        lambda run: events.append(f"+{run.entry.name}"),
        lambda run, seconds: events.append(f"-{run.entry.name}"),
    )
    assert events[:4] == ["+a", "+b", "-a", "+d"] and events.index("-b") < events.index("+c")
    assert len(events) == 8


def test_an_interruption_stops_all_of_them(tmp_path, sleepers):
    runs = fake_runs(tmp_path, ["a", "b"], [600])

    def interrupted(run):
        if run is runs[1]:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        execute(runs, 2, interrupted, lambda *_: pytest.fail("none ends by itself"))
    codes = [process.poll() for _, _, process in sleepers]
    assert codes == [-signal.SIGTERM] * 2 and time.monotonic() - began < 10


def test_no_run_starts_if_none_finds_its_datasets(tmp_path, monkeypatch):
    """One run that finds its own is reason enough to start: the others say what fails."""
    monkeypatch.setattr(jobs, "_start", lambda *_: pytest.fail("it started"))
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    runs = fake_runs(tmp_path, ["a", "b"], [0])
    with pytest.raises(UserError, match="SYSUMM01: no folder .*SYSU-MM01.* Put the dataset there"):
        execute(runs, 1, lambda run: None, lambda *_: None)
    other = runs[1].entry.cfg.clone()
    other.defrost()
    other.DATASETS.NAMES, other.DATASETS.TESTS = (), ()
    there = dataclasses.replace(runs[1], entry=dataclasses.replace(runs[1].entry, cfg=other))
    jobs.check_datasets([runs[0], there])
    strange = other.clone()
    strange.DATASETS.NAMES = ("Sysu",)
    entry = dataclasses.replace(runs[1].entry, cfg=strange)
    jobs.check_datasets([dataclasses.replace(runs[1], entry=entry), there])
    jobs.check_datasets([dataclasses.replace(runs[0], point=DataPoint(0.5, tmp_path))])
    jobs.check_datasets([])


@pytest.mark.parametrize(
    "code,error", [(-9, "ended early: killed by signal 9"), (3, "ended early: exit status 3")]
)
def test_a_process_that_left_no_reason_gets_one(tmp_path, code, error):
    """As one that the system kills for its memory; a reason of its own stays."""
    silent, told, done = fake_runs(tmp_path, ["silent", "told", "done"], [0])
    silent.folder.mkdir(parents=True)
    fail(told, "ValueError: no")
    finish(done, 30.0, 20.0)
    for run in (silent, told, done):
        process = type("Process", (), {"stdin": open(__file__), "returncode": code})
        jobs._close(Job(run, 0, process, 0.0))
    assert silent.error().endswith(error)
    assert told.error() == "ValueError: no" and done.error() == ""


def test_cores_are_shared_unless_the_user_says_how_many(monkeypatch):
    monkeypatch.setattr(jobs, "cpu_count", lambda: 7)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    threads = [child_environment(0, count)["OMP_NUM_THREADS"] for count in (1, 2, 9)]
    assert threads == ["7", "3", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert child_environment(0, 7)["OMP_NUM_THREADS"] == "2"


def test_gpus_are_dealt_out_only_to_several_runs(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert child_environment(0, 1)["CUDA_VISIBLE_DEVICES"] == "3,5"
    given = [child_environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert given == ["3", "5", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert child_environment(1, 2)["CUDA_VISIBLE_DEVICES"] == "5"


def test_a_second_comparison_in_the_same_folder_is_refused(tmp_path):
    with sole_user(tmp_path / "out"):
        with pytest.raises(PlanError, match="Another comparison is running"):
            with sole_user(tmp_path / "out"):
                pass
    with sole_user(tmp_path / "out"):
        pass


@pytest.mark.slow
def test_a_run_ends_with_the_process_that_started_it():
    """However that ended: its end of the pipe is closed by the system."""
    code = (
        "import time\nfrom vireid_plugins.comparison import worker\n"
        "worker._end_with_the_parent()\nprint('ready', flush=True)\ntime.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(0, 1),
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(10) == 1
    process.stdout.close()
