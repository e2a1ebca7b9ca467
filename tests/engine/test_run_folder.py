"""One run in one folder. Oracle: what each run wrote when it was alone in a folder."""

import json
import logging
import os
import shutil
import threading

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer, run_folder
from vireid_plugins.engine.run_folder import sole_training
from vireid_plugins.engine.session import evaluate, train
from vireid_plugins.engine.setup import set_up_run
from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.runs.log import close_log
from vireid_plugins.runs.reading import read_run_folder

from tests.engine.small import ROOT, small_cfg, small_words

SYNTHETIC = str(ROOT / "configs/agw/synthetic.yml")


def train_small(folder, resume=False, config=SYNTHETIC, **overrides):
    return train(
        config, small_words(folder, **{"SOLVER__MAX_EPOCH": 1, **overrides}), resume=resume
    )


def numbers(folder):
    """Return the results and the weights of a run."""
    kept = read_checkpoint(str(folder / "model_final.pth"))
    return json.loads((folder / "results.json").read_text())["metrics"], kept["model"]


def same(a, b):
    """Whether results and weights of two runs are bitwise equal."""
    weights = a[1].keys() == b[1].keys() and all(torch.equal(a[1][k], b[1][k]) for k in a[1])
    return a[0] == b[0] and weights


@pytest.fixture(scope="module")
def run_alone(tiny_root, tmp_path_factory):
    """A finished run of one epoch with its evaluation; its folder."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        train_small(folder, TEST__EVAL_PERIOD=1)
    return folder


@pytest.fixture
def used(run_alone, datasets, tmp_path):
    """A copy of the folder of a finished run."""
    shutil.copytree(run_alone, tmp_path / "used")
    return tmp_path / "used"


def test_a_second_run_starts_clean_and_loses_nothing(run_alone, used, capsys):
    """In the same process, without an evaluation: nothing of run 1 heads run 2."""
    train_small(used, SEED=1)
    assert same(numbers(used / "earlier-1"), numbers(run_alone))
    run = read_run_folder(used)
    assert run.results is None and run.seed == 1 and len(run.sessions) == 1
    assert not (used / "model_best.pth").exists()
    assert f"which was moved to {used / 'earlier-1'}" in capsys.readouterr().out
    log = [line for line in (used / "log.txt").read_text().splitlines() if line.startswith("[")]
    assert len(log) == len(set(log)) and sum("Environment: " in line for line in log) == 1
    assert (run_alone / "log.txt").read_text() == (used / "earlier-1" / "log.txt").read_text()


@pytest.mark.slow
def test_a_run_does_not_depend_on_the_runs_before_it(run_alone, datasets, tmp_path):
    """Bitwise: after another method, after a run that raised, and with other handlers."""
    with pytest.raises(UserError):
        train_small(tmp_path / "bad", SOLVER__OPT="sgd")
    train_small(tmp_path / "other", MODEL__META_ARCHITECTURE="CAJ", SEED=3)
    train_small(tmp_path / "again", TEST__EVAL_PERIOD=1)
    assert same(numbers(tmp_path / "again"), numbers(run_alone))
    assert not logging.getLogger("vireid_plugins").handlers
    log = (tmp_path / "again" / "log.txt").read_text()
    assert log.count("Environment: ") == 1 and "Freed memory" in log
    assert str(tmp_path / "again") not in (tmp_path / "other" / "log.txt").read_text()


@pytest.mark.parametrize("resume", [True, False])
def test_a_script_that_sets_up_before_it_resumes(used, resume):
    """``set_up_run(cfg)`` does not know yet whether the run is resumed, and moves nothing."""
    cfg = small_cfg(used, SOLVER__MAX_EPOCH=2)
    set_up_run(cfg)
    assert (used / "last_checkpoint").exists()
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    close_log()
    assert trainer.start_epoch == int(resume)
    assert (used / "earlier-1").exists() is not resume
    assert "MAX_EPOCH: 2" in (used / "config.yaml").read_text()
    log = (used / "log.txt").read_text()
    assert ("Resumed" in log) is resume and ("held another run" in log) is not resume


def test_weights_of_the_earlier_run_are_found(used):
    train_small(used, MODEL__WEIGHTS=used / "model_final.pth")
    moved = str(used / "earlier-1" / "model_final.pth")
    assert f"WEIGHTS: {moved}" in (used / "config.yaml").read_text()


@pytest.mark.parametrize("own", [True, False])
def test_an_evaluation_alone_spoils_no_training(run_alone, used, own):
    """Of the run's own weights by its own protocol it is the run's; any other stays apart."""
    weights = used / "model_final.pth"
    if not own:
        weights = shutil.copy(weights, used.parent / "others.pth")
    evaluate(SYNTHETIC, small_words(used, MODEL__WEIGHTS=weights))
    assert read_run_folder(used).results.metrics == numbers(run_alone)[0]
    apart = used / "evaluation"
    assert apart.exists() is not own
    if not own:
        assert (used / "metrics.json").read_text() == (run_alone / "metrics.json").read_text()
        assert read_run_folder(apart).results.weights == str(weights)


def test_an_evaluation_by_another_protocol_stays_apart(used, run_alone):
    words = small_words(
        used, MODEL__WEIGHTS=used / "model_final.pth", TEST__METRIC="euclidean", TEST__DEVICE="cpu"
    )
    evaluate(SYNTHETIC, words)
    assert (used / "results.json").read_text() == (run_alone / "results.json").read_text()
    kept = json.loads((used / "evaluation" / "results.json").read_text())
    assert kept["protocols"][0]["metric"] == "euclidean"


def test_another_run_is_not_resumed_and_nothing_is_changed(used, run_alone):
    """Another method, refused before anything is written."""
    before = {path: path.read_bytes() for path in used.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="META_ARCHITECTURE 'DualStreamBaseline' -> 'CAJ'"):
        train_small(used, resume=True, MODEL__META_ARCHITECTURE="CAJ", SOLVER__MAX_EPOCH=2)
    after = {path: path.read_bytes() for path in used.rglob("*") if path.is_file()}
    assert after == {**before, used / ".lock": b""}


def test_the_record_tells_what_changed(used):
    train_small(used, resume=True, SOLVER__MAX_EPOCH=2, SEED=5, TEST__EVAL_PERIOD=0)
    sessions = json.loads((used / "run.json").read_text())["sessions"]
    assert "changed" not in sessions[0]
    assert sessions[1]["changed"]["SOLVER.MAX_EPOCH"] == [1, 2]
    config = (used / "config.yaml").read_text()
    assert "MAX_EPOCH: 2" in config and "SEED: 0" in config  # the run's own seed


def test_a_second_training_waits_and_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "WAIT", 0.1)
    caught = []

    def other():
        try:
            with sole_training(str(tmp_path)):
                pass
        except UserError as error:
            caught.append(str(error))

    with sole_training(str(tmp_path)):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "where another process is training" in caught[0]
    with sole_training(str(tmp_path)):
        assert os.path.exists(tmp_path / ".lock")
