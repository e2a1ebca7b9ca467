"""MAUM through the trainer. Oracles: the uninterrupted run, bit by bit; the weights of each
checkpoint; two processes against their averaged gradients computed by hand."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import ROOT, small_cfg, small_words
from tests.engine.test_distributed import by_hand

pytestmark = pytest.mark.slow  # they look at runs of several seconds

CONFIG = "configs/maum/synthetic.yml"
OPTIONS = dict(
    SOLVER__OPT="SGD",
    SOLVER__BASE_LR=0.01,
    SOLVER__WARMUP_EPOCHS=0,
    MODEL__MAUM__ALPHA=4.0,  # of random features: no gradient drowns in it
)
# Metrics from epoch 1 on; the visible memory fills in that epoch, the infrared one never.
SCHEDULE = dict(
    MODEL__MAUM__START_EPOCH=1,
    MODEL__MAUM__VISIBLE_SIZE=2,
    MODEL__MAUM__INFRARED_SIZE=20,
    MODEL__MAUM__PUSH_INTERVAL=2,
    MODEL__MAUM__PUSH_DELAY=1,
)
EPOCHS = 3


def run(folder, epochs, resume=False, **overrides):
    words = {**OPTIONS, **SCHEDULE, **overrides}
    trainer = VIReIDTrainer(small_cfg(folder, CONFIG, SOLVER__MAX_EPOCH=epochs, **words))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def whole(tiny_root, tmp_path_factory):
    """The folder of the uninterrupted run, with a checkpoint of every epoch, and its trainer."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        return folder, run(folder, EPOCHS)


def after(folder, epoch, last=EPOCHS):
    """The weights written after ``epoch``."""
    name = "model_final" if epoch == last - 1 else f"model_{epoch:04d}"
    return read_checkpoint(folder / f"{name}.pth")["model"]


def test_memories_fill_as_the_schedule_says(whole):
    """Per epoch n steps; a snapshot after steps 2, 4, ... of the phase "metrics": by the end the
    visible memory has dropped some."""
    folder, trainer = whole
    steps = trainer.iters_per_epoch
    for epoch in range(EPOCHS):
        state = after(folder, epoch)
        pushed = epoch * steps
        for modality in ("visible", "infrared"):
            assert int(state[f"{modality}_memory.num_pushed"]) == pushed
            assert int(state[f"{modality}_memory.num_taken"]) == pushed // 2
    assert pushed // 2 > 2


def test_the_newest_snapshot_is_that_of_the_updated_weights(whole):
    """An epoch has an even number of steps, so its last one leaves a snapshot."""
    folder, trainer = whole
    assert trainer.iters_per_epoch % 2 == 0
    for epoch in range(1, EPOCHS):
        state = after(folder, epoch)
        for modality in ("visible", "infrared"):
            expected = F.normalize(state[f"{modality}_classifier.weight"], dim=1)
            snapshots = state[f"{modality}_memory.snapshots"]
            newest = (int(state[f"{modality}_memory.num_taken"]) - 1) % len(snapshots)
            assert torch.equal(snapshots[newest], expected)


def test_a_run_cut_after_every_epoch_equals_the_whole_run_bitwise(datasets, whole, tmp_path):
    """Cut where the phase changes, and inside the phase "metrics" with a full memory."""
    for epoch in range(EPOCHS):
        trainer = run(tmp_path, epoch + 1, resume=epoch > 0)
        assert trainer.start_epoch == epoch
        expected, found = after(whole[0], epoch), after(tmp_path, epoch, last=epoch + 1)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert torch.equal(value, found[name]), (epoch, name)


def test_another_size_is_refused_on_resume(datasets, whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "copy")
    other = {"resume": True, "MODEL__MAUM__VISIBLE_SIZE": 3}
    with pytest.raises(RuntimeError, match="MODEL.MAUM.VISIBLE_SIZE 2 -> 3"):
        run(tmp_path / "copy", EPOCHS + 1, **other)
    with pytest.raises(RuntimeError, match="visible_memory.snapshots"):
        run(tmp_path / "copy", EPOCHS + 1, **other, SOLVER__RESUME_OTHER_CONFIG=True)


def test_the_log_holds_the_terms_of_each_epochs_phase(whole):
    folder, trainer = whole
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    lines = [line for line in lines if "loss_id" in line]
    assert lines
    for line in lines:
        epoch = line["iteration"] // trainer.iters_per_epoch
        assert line["loss_modality_id"] > 0
        names = {"loss_visible_to_infrared", "loss_infrared_to_visible"}
        assert names & line.keys() == (names if epoch else set())
        assert all(line[name] > 0 for name in names if epoch > 1)


def test_the_log_says_how_far_apart_the_proxies_of_a_memory_are(whole):
    """The last line of an epoch, against the snapshots of its checkpoint: the visible memory has 2
    places, the infrared one 20; there is nothing to say before the second snapshot."""
    folder, trainer = whole
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    names = {"visible": "visible_memory_cosine", "infrared": "infrared_memory_cosine"}
    for epoch in range(EPOCHS):
        last = (epoch + 1) * trainer.iters_per_epoch - 1
        (line,) = [line for line in lines if line["iteration"] == last and "total_loss" in line]
        state = after(folder, epoch)
        for modality, name in names.items():
            snapshots = state[f"{modality}_memory.snapshots"]
            taken = int(state[f"{modality}_memory.num_taken"])
            assert (name in line) == (taken >= 2)
            if taken >= 2:
                oldest = snapshots[max(0, taken - len(snapshots)) % len(snapshots)]
                newest = snapshots[(taken - 1) % len(snapshots)]
                expected = F.cosine_similarity(oldest, newest).mean()
                assert line[name] == pytest.approx(float(expected), abs=1e-5)


def test_two_processes_hold_the_same_memories(datasets, tmp_path, monkeypatch):
    """Metrics from the first epoch on: weights and memories equal those that averaged gradients
    give; a memory of the other process that differed would bend its gradient."""
    words = {
        **OPTIONS,
        **SCHEDULE,
        "MODEL__MAUM__START_EPOCH": 0,
        "MODEL__MAUM__PUSH_DELAY": 0,
        "SOLVER__MOMENTUM": 0.0,
        "SOLVER__NESTEROV": False,
        "SOLVER__MAX_EPOCH": 1,
    }
    command = [sys.executable, str(ROOT / "tools/train_net.py"), "--num-gpus", "2"]
    command += ["--config-file", str(ROOT / CONFIG), *small_words(tmp_path / "two", **words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = after(tmp_path / "two", 0, last=1)
    monkeypatch.setattr(VIReIDTrainer, "build_optimizer", staticmethod(with_after_step))
    expected = by_hand(small_cfg(tmp_path / "one", CONFIG, **words), 1, monkeypatch)
    assert int(found["visible_memory.num_taken"]) >= 2
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)


def with_after_step(cfg, model, build=VIReIDTrainer.build_optimizer):
    """The optimizer, whose steps the model hears of, as the engine's hook lets it."""
    optimizer, _ = build(cfg, model)
    step = optimizer.step

    def step_and_tell():
        step()
        model.after_step()

    optimizer.step = step_and_tell
    return optimizer, _


def test_a_run_from_the_weights_of_another_begins_with_empty_memories(datasets, whole, tmp_path):
    weights = whole[0] / "model_final.pth"
    trainer = VIReIDTrainer(
        small_cfg(tmp_path, CONFIG, MODEL__WEIGHTS=str(weights), **OPTIONS, **SCHEDULE)
    )
    trainer.resume_or_load(resume=False)
    kept = read_checkpoint(weights)["model"]["visible_classifier.weight"]
    assert torch.equal(trainer.model.visible_classifier.weight.detach(), kept)
    assert trainer.model.visible_memory.num_held == trainer.model.infrared_memory.num_held == 0
