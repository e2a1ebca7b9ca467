"""Kills and stops of a training. Oracle: everything that a run which was never stopped leaves."""

import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader

from vireid_plugins.data.train_loader import EpochBatchSampler
from vireid_plugins.engine.interrupts import StopSignals, TrainingStopped
from vireid_plugins.engine.resume import Continuation
from vireid_plugins.engine.step import StepTrainer

from tests.engine.tiny import Dataset, Model, Positions, TinyTrainer, killed, run_tiny, story

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process of its own")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run leaves that is never stopped: its folder and its story."""
    folder = tmp_path_factory.mktemp("whole")
    run_tiny(folder)
    return folder, story(folder)


def assert_same(folder, whole):
    """The same files with the same content, whatever the kills."""
    found = story(folder)
    for name, content in whole[1].items():
        assert found[name] == content, name
    own = ("events.out", "earlier-")  # of each session; what came before the first checkpoint
    names = [
        {path.name for path in one.iterdir() if not path.name.startswith(own)}
        for one in (folder, whole[0])
    ]
    assert names[0] == names[1]


def test_a_whole_run_tells_its_story(whole):
    """16 steps; lines after steps 3, 4, 6, 8, 9, 12, 15, 16; an evaluation after each epoch."""
    lines = whole[1]["metrics.json"]
    assert [line["iteration"] for line in lines] == [2, 3, 5, 7, 8, 11, 14, 15]
    assert ["metric" in line for line in lines] == [False, True] * 4
    assert whole[1]["last_checkpoint"] == "model_final.pth"


@needs_fork
@pytest.mark.parametrize("point", [30, 44, 77])
def test_a_killed_run_ends_as_the_whole_one(whole, tmp_path, point):
    """Killed before the first checkpoint, inside the writing of one, and at the very end."""
    assert killed(tmp_path, point)
    run_tiny(tmp_path, resume=True)
    assert_same(tmp_path, whole)


@needs_fork
@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_the_whole_one(whole, tmp_path):
    """Each process comes a bit further; kills fall on steps, evaluations and writes."""
    kills = 0
    while killed(tmp_path, 25 + kills, resume=True):
        kills += 1
    assert kills >= 3
    assert_same(tmp_path, whole)


def stopping(name, calls, number):
    """A trainer whose method ``name`` gets a signal when it is called for the ``calls``-th time."""
    left = [calls]

    def call(self, *args, **options):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(number)
        return getattr(TinyTrainer, name)(self, *args, **options)

    return type("Stopping", (TinyTrainer,), {name: call})


@pytest.mark.parametrize(
    "name,calls,number,kept",
    [
        ("run_step", 2, "SIGINT", "after 2 of the 4 iterations of epoch 1 of 4"),
        ("run_step", 11, "SIGTERM", "after 3 of the 4 iterations of epoch 3 of 4"),
        ("run_step", 8, "SIGHUP", "after epoch 2 of 4"),
        ("_evaluate", 1, "SIGINT", "after epoch 1 of 4"),
        ("_evaluate", 4, "SIGTERM", "after epoch 4 of 4"),
        ("save", 3, "SIGINT", "after epoch 2 of 4"),
    ],
)
def test_a_stopped_run_keeps_its_state_and_goes_on(whole, tmp_path, name, calls, number, kept):
    number = getattr(signal, number, None) or pytest.skip(f"this system has no {number}")
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=f"The state {kept} is saved in") as stop:
        run_tiny(tmp_path, trainer=stopping(name, calls, number))
    assert isinstance(stop.value, TrainingStopped) and stop.value.number == number
    assert signal.getsignal(number) == before
    run_tiny(tmp_path, resume=True)
    assert_same(tmp_path, whole)


def test_an_evaluation_that_was_done_is_not_done_again(whole, tmp_path):
    """The signal comes when the best weights are saved, at the end of an epoch without other."""
    with pytest.raises(KeyboardInterrupt, match="after epoch 1 of 4"):
        run_tiny(tmp_path, trainer=stopping("save", 2, signal.SIGINT))
    done = []

    class Counting(TinyTrainer):
        def _evaluate(self):
            done.append(self.epoch)
            return super()._evaluate()

    run_tiny(tmp_path, resume=True, trainer=Counting)
    assert done == [1, 2, 3]
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_resumed_epoch_draws_as_the_whole_run_does():
    """A loader whose processes stay draws from PyTorch's generator in its first epoch only."""

    def drawn(epochs):
        batches = EpochBatchSampler(Positions(), 4, seed=0, rank=0)
        loader = DataLoader(
            Dataset(), batch_sampler=batches, num_workers=1, persistent_workers=True
        )
        model = Model()
        stepper = StepTrainer(model, loader, torch.optim.SGD(model.parameters(), 0.1))
        for epoch in epochs:
            torch.manual_seed(epoch)
            stepper.start_epoch(epoch)
            list(stepper._data_loader_iter)
        return torch.rand(3).tolist()

    assert drawn([0, 1]) == drawn([1])


def test_a_second_signal_ends_at_once(tmp_path):
    """The step during which both come is not finished."""

    class Twice(TinyTrainer):
        def run_step(self):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the step continues")

    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path, trainer=Twice)
    assert not list(tmp_path.glob("*.pth"))


def test_a_process_of_the_run_leaves_a_signal_to_the_main_process():
    """Ctrl-C in a terminal reaches every process, those that load images too."""
    with StopSignals() as signals:
        signals._pid += 1  # as in a process that was forked
        signal.raise_signal(signal.SIGINT)
        assert signals.requested is None
        signals._pid -= 1
        signal.raise_signal(signal.SIGINT)
        assert signals.requested == signal.SIGINT


def test_a_signal_before_an_evaluation_ends_it_before_it_begins():
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(TrainingStopped) as stop, signals.at_once():
            raise AssertionError("the evaluation begins")
    assert stop.value.number == signal.SIGTERM


def test_final_weights_of_an_epoch_whose_end_is_pending_are_no_end():
    assert Continuation(epochs=4, file="model_final.pth").is_complete
    assert not Continuation(epochs=4, file="model_final.pth", pending=True).is_complete
    assert not Continuation(epochs=4, file="model_best.pth").is_complete


def test_an_ignored_signal_stays_ignored(whole, tmp_path, monkeypatch):
    """As under ``nohup``."""
    number = getattr(signal, "SIGHUP", signal.SIGTERM)  # Windows has no SIGHUP
    before = signal.signal(number, signal.SIG_IGN)
    try:
        run_tiny(tmp_path, trainer=stopping("run_step", 2, number))
    finally:
        signal.signal(number, before)
    assert_same(tmp_path, whole)


def test_an_evaluation_that_raised_is_done_when_its_cause_is_fixed(whole, tmp_path):
    """The last one, after whose weights ``model_final.pth`` is still to come."""

    class Failing(TinyTrainer):
        def _evaluate(self):
            if self.epoch == 3:
                raise RuntimeError("no matches")
            return super()._evaluate()

    with pytest.raises(RuntimeError, match="no matches"):
        run_tiny(tmp_path, trainer=Failing)
    assert (tmp_path / "last_checkpoint").read_text() == "model_resume.pth"
    kept = tmp_path / "model_before_failed_evaluation.pth"
    assert kept.is_file() and not (tmp_path / "model_final.pth").exists()
    run_tiny(tmp_path, resume=True)
    kept.unlink()
    assert_same(tmp_path, whole)
