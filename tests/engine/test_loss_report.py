"""Loss terms read a step late say the same, and a bad one still stops before anything is saved."""

import re

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.hooks import ProgressLine
from vireid_plugins.engine.step import StepTrainer

from fastreid.utils.events import EventStorage

from tests.engine.small import small_cfg


def trainer_of(folder, late, **options):
    trainer = VIReIDTrainer(small_cfg(folder, **options))
    trainer._trainer.reads_late = late
    return trainer


def test_a_cpu_reads_at_once():
    model = torch.nn.Linear(1, 1)
    stepper = StepTrainer(model, [], torch.optim.SGD(model.parameters(), 0.1))
    assert not stepper.reads_late


@pytest.mark.slow
def test_the_log_is_the_same_late_or_at_once(datasets, tmp_path, capsys):
    """Every term of every iteration under its own number; each progress line shows its own."""
    lines, histories = [], []
    for name, late in (("a", False), ("b", True)):
        trainer = trainer_of(tmp_path / name, late, SOLVER__LOG_PERIOD=1)
        trainer.train()
        keys = ("total_loss", "loss_weighted_triplet", "images_seen")
        histories.append({key: trainer.storage.history(key).values() for key in keys})
        out = capsys.readouterr().out
        lines.append(re.findall(r"(epoch/iter: \S+ \S+).*?(total_loss: \S+)", out))
    assert histories[0] == histories[1]
    assert lines[0] == lines[1] and len(lines[0]) == len(histories[0]["total_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("bad_step", [0, 3, 4, 7])
def test_a_bad_loss_read_late_stops_before_anything_is_saved(bad_step, datasets, tmp_path):
    """Two epochs of four steps with a checkpoint each; the names are those of the bad batch."""
    trainer = trainer_of(tmp_path, True, SOLVER__LOG_PERIOD=100)
    assert trainer.iters_per_epoch == 4
    term = trainer.model.loss_terms["WeightedTripletLoss"]
    good, calls = term.forward, []

    def forward(*tensors):
        calls.append(None)
        factor = float("nan") if len(calls) == bad_step + 1 else 1.0
        return good(*tensors) * factor

    term.forward = forward
    seen = []

    def forward_of_model(batch, forward=trainer.model.forward):
        seen.append(batch["img_paths"])
        return forward(batch)

    trainer.model.forward = forward_of_model
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    message = str(error.value)
    name = "loss_weighted_triplet"
    assert message.startswith(f"{name} became infinite or NaN at iteration {bad_step} ")
    assert "The weights have been updated by it" in message
    assert message.splitlines()[1:] == [f"  {path}" for path in seen[bad_step]]
    saved = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert saved == (["model_0000.pth"] if bad_step >= 4 else [])


def test_the_progress_line_shows_the_share_of_data_time():
    """By hand: 0.25 s of 1 s is a quarter."""
    with EventStorage() as storage:
        for _ in range(3):
            storage.put_scalars(time=1.0, data_time=0.25, images_seen=16)
        words = ProgressLine._speed(storage.histories())
    assert words == ["time: 1.000", "data_time: 0.250 (25%)", "images/s: 16"]


def test_the_share_of_data_time_is_of_the_iterations_that_are_timed():
    with EventStorage(0) as storage:
        for data, timed in ((9.0, {}), (9.0, {}), (0.5, {"time": 1.0}), (0.5, {"time": 1.0})):
            storage.put_scalars(data_time=data, images_seen=16, **timed)
            storage.step()
        words = ProgressLine._speed(storage.histories())
    assert words[1] == "data_time: 0.500 (50%)"
