"""What the command says when a signal stops it, and checkpoints that know less than today's.

Oracle: everything that a run which was never stopped leaves.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from vireid.cli import run_verb
from vireid_plugins import evaluation
from vireid_plugins.engine import session
from vireid_plugins.errors import CheckpointError
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import ROOT, small_words
from tests.engine.test_kills import assert_same, stopping
from tests.engine.tiny import KEYS, TinyTrainer, make_tiny, run_tiny, story

SHORTER = {"SOLVER__MAX_EPOCH": 2, "SOLVER__RESUME_OTHER_CONFIG": True}
CONFIG = str(ROOT / "configs/agw/synthetic.yml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run leaves that is never stopped: its folder and its story."""
    folder = tmp_path_factory.mktemp("whole")
    run_tiny(folder)
    return folder, story(folder)


@pytest.fixture
def tiny_session(monkeypatch):
    """Let the command train without data: the checks that read them do nothing."""
    for name in ("check_training", "try_model"):
        monkeypatch.setattr(session, name, lambda *arguments: None)
    monkeypatch.setattr(evaluation, "rehearse_tests", lambda cfg: None)

    def use(trainer):
        monkeypatch.setattr(session, "VIReIDTrainer", trainer)

    return use


@pytest.mark.parametrize("name,status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_one_sentence_a_status_and_the_command_to_go_on(
    whole, tiny_session, tmp_path, capsys, name, status
):
    number = getattr(signal, name, None) or pytest.skip(f"this system has no {name}")
    tiny_session(stopping("run_step", 6, number))
    words = ["--config-file", CONFIG, *small_words(tmp_path, **KEYS)]
    assert run_verb("train", words, "vireid train") == status
    said = capsys.readouterr().err.strip().splitlines()[-1]
    kept = f"The state after 2 of the 4 iterations of epoch 2 of 4 is saved in {tmp_path}"
    assert said.startswith(f"Stopped by {'Ctrl-C' if name == 'SIGINT' else name}. {kept}")
    program, verb, *again = shlex.split(said.split("Continue with: ")[1])
    assert (program, verb, again[2]) == ("vireid", "train", "--resume")
    tiny_session(TinyTrainer)
    assert run_verb(verb, again) == 0
    assert (tmp_path / "model_final.pth").is_file()
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert [one["metric"] for one in lines if "metric" in one] == [
        one["metric"] for one in whole[1]["metrics.json"] if "metric" in one
    ]


def test_a_signal_before_the_training_ends_it_too(tiny_session, tmp_path, capsys):
    tiny_session(stopping("resume_or_load", 1, signal.SIGTERM))
    assert run_verb("train", ["--config-file", CONFIG, *small_words(tmp_path, **KEYS)]) == 143
    assert "Stopped by SIGTERM. The same command with --resume" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_end_together_and_keep_their_state(datasets, tmp_path):
    """The signal reaches the command alone, as from a scheduler or ``kill``."""
    words = [sys.executable, "-m", "vireid", "train", "--config-file", CONFIG, "--num-gpus", "2"]
    options = {"SOLVER__MAX_EPOCH": 500, "SOLVER__CHECKPOINT_PERIOD": 0, "SOLVER__LOG_PERIOD": 1}
    process = subprocess.Popen(
        [*words, *small_words(tmp_path, **options)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (tmp_path / "metrics.json").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 143, said
    assert f"Stopped by SIGTERM. {tmp_path / 'model_resume.pth'} is kept." in said
    position = read_checkpoint(str(tmp_path / "model_resume.pth"))["resume"]
    assert position["processes"] == 2 and len(position["random"]) in (0, 2)


def changed(folder, name, change, last=""):
    """Change a checkpoint of a run, and let the run continue from there; return what it knew."""
    path = folder / f"{name}.pth"
    state = read_checkpoint(str(path))
    state.pop("checksum")
    change(state)
    torch.save(state, path)
    (folder / "last_checkpoint").write_text(last or f"{name}.pth")


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the whole run's folder, the place that its config names included."""
    folder = tmp_path / "run"
    shutil.copytree(whole[0], folder)
    return folder


def without_position(state):
    del state["resume"]


def test_a_checkpoint_of_an_earlier_version_goes_on_with_a_note(whole, copy, capsys):
    """Weights and evaluations are those of the whole run; losses are medians over less."""
    changed(copy, "model_0001", without_position)
    run_tiny(copy, resume=True)
    assert "written by an earlier version" in capsys.readouterr().out
    found = story(copy)
    for key in ("model", "optimizer", "epoch", "best_metric"):
        assert found["model_final.pth"][key] == whole[1]["model_final.pth"][key]
    lines = [
        [(line["iteration"], line.get("metric")) for line in one["metrics.json"]]
        for one in (found, whole[1])
    ]
    assert lines[0] == lines[1]


def test_a_finished_run_of_an_earlier_version_gets_its_final_weights(whole, copy):
    """It was killed before ``model_final.pth``, when its last evaluation was the best."""
    changed(copy, "model_final", without_position, "model_best.pth")
    os.replace(copy / "model_final.pth", copy / "model_best.pth")
    run_tiny(copy, resume=True)
    assert story(copy)["model_final.pth"]["model"] == whole[1]["model_final.pth"]["model"]
    assert (copy / "last_checkpoint").read_text() == "model_final.pth"


def test_a_run_that_is_shortened_gets_its_final_weights(whole, copy):
    (copy / "last_checkpoint").write_text("model_0001.pth")
    (copy / "model_final.pth").unlink()
    run_tiny(copy, resume=True, **SHORTER)
    found = story(copy)
    assert found["model_final.pth"]["model"] == whole[1]["model_0001.pth"]["model"]
    assert found["metrics.json"] == whole[1]["metrics.json"][:4]
    assert found["results.json"]["weights"] == "after epoch 2 of 2"


def test_another_number_of_processes_is_noted(copy, capsys):
    changed(copy, "model_0001", lambda state: state["resume"].update(processes=2))
    run_tiny(copy, resume=True)
    assert "stopped with 2 processes and continues with 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 4},
        {"iterations": -1},
        {"iterations": "two"},
        {"last_write": None},
        {"measurements": {"lr": {"values": []}}},
        {"measurements": [1]},
        {"random": 3},
    ],
)
def test_a_damaged_position_is_named(copy, change):
    changed(copy, "model_0001", lambda state: state["resume"].update(change))
    with pytest.raises(CheckpointError, match="model_0001.pth cannot be resumed: .*last_checkp"):
        run_tiny(copy, resume=True)


def test_a_state_inside_an_epoch_that_the_run_does_not_have_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path, trainer=stopping("run_step", 10, signal.SIGINT))
    with pytest.raises(CheckpointError, match="inside epoch 3, and SOLVER.MAX_EPOCH is 2"):
        run_tiny(tmp_path, resume=True, **SHORTER)


def test_weights_and_optimizer_of_every_entry_are_taken_up(whole, copy):
    """Each tensor of the checkpoint is in the trainer: a reader that maps the file reads all."""
    changed(copy, "model_0001", lambda state: None)
    trainer = make_tiny(copy)
    trainer.resume_or_load(resume=True)
    kept = read_checkpoint(str(copy / "model_0001.pth"))
    assert all(
        torch.equal(value, kept["model"][name])
        for name, value in trainer.model.state_dict().items()
    )
    own, held = trainer.optimizer.state_dict()["state"], kept["optimizer"]["state"]
    assert own.keys() == held.keys()
    assert all(
        torch.equal(own[place]["momentum_buffer"], held[place]["momentum_buffer"]) for place in own
    )
    assert_same(whole[0], whole)
