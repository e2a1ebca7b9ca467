"""Mutual prediction through the trainer. Oracles: the uninterrupted run, bit by bit; weights of
the checkpoints of each epoch; two processes against their averaged gradients computed by hand."""

import json
import subprocess
import sys

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import ROOT, small_cfg, small_words
from tests.engine.test_distributed import by_hand

pytestmark = pytest.mark.slow  # they look at runs of several seconds

CONFIG = "configs/mutual_prediction/synthetic.yml"
# a last map of 2 x 1; weights move fast, with momentum and decay
OPTIONS = dict(
    MODEL__BACKBONE__LAST_STRIDE=1,
    MODEL__HEADS__NUM_STRIPES=2,
    MODEL__HEADS__STRIPE_DIM=8,
    SOLVER__OPT="SGD",
    SOLVER__BASE_LR=0.01,
    SOLVER__WEIGHT_DECAY=0.01,
    SOLVER__WARMUP_EPOCHS=0,
)
# epochs: 0 shared, 1 and 2 own, 3 and 4 crossed, 5 own
SCHEDULE = dict(MODEL__MUTUAL_PREDICTION__START_EPOCH=1, MODEL__MUTUAL_PREDICTION__PERIOD=2)
EPOCHS, CROSSED = 6, (3, 4)


def run(folder, epochs, resume=False):
    trainer = VIReIDTrainer(
        small_cfg(folder, CONFIG, SOLVER__MAX_EPOCH=epochs, **OPTIONS, **SCHEDULE)
    )
    trainer.resume_or_load(resume=resume)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def whole(tiny_root, tmp_path_factory):
    """The folder of the uninterrupted run, with a checkpoint of every epoch."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        run(folder, EPOCHS)
    return folder


def after(folder, epoch, last=EPOCHS):
    """The checkpoint written after ``epoch``."""
    name = "model_final" if epoch == last - 1 else f"model_{epoch:04d}"
    return read_checkpoint(folder / f"{name}.pth")


def test_a_run_cut_after_every_epoch_equals_the_whole_run_bitwise(datasets, whole, tmp_path):
    """Cut at each boundary of two phases (0|1, 2|3, 4|5) and inside both (1|2, 3|4)."""
    for epoch in range(EPOCHS):
        trainer = run(tmp_path, epoch + 1, resume=epoch > 0)
        assert trainer.start_epoch == epoch
        a, b = after(whole, epoch), after(tmp_path, epoch, last=epoch + 1)
        assert a["model"].keys() == b["model"].keys()
        for name, value in a["model"].items():
            assert torch.equal(value, b["model"][name]), (epoch, name)
        momenta_a, momenta_b = (c["optimizer"]["state"] for c in (a, b))
        assert momenta_a.keys() == momenta_b.keys()
        for key, state in momenta_a.items():
            assert torch.equal(state["momentum_buffer"], momenta_b[key]["momentum_buffer"])


def test_the_modality_classifiers_stand_still_while_crossed(whole):
    """They move in the phase "own" only; the rest of the model moves in each epoch."""
    states = [after(whole, epoch)["model"] for epoch in range(EPOCHS)]
    for epoch in range(1, EPOCHS):
        for name in (
            "visible_classifier.weight",
            "infrared_classifier.bias",
            "heads.classifier.weight",
            "heads.stripe_convs.0.weight",
            "backbone.visible.stem.conv1.weight",
        ):
            still = torch.equal(states[epoch - 1][name], states[epoch][name])
            assert still == ("_classifier" in name and epoch in CROSSED), (epoch, name)


def test_the_log_holds_the_terms_of_each_epochs_phase(whole):
    lines = [json.loads(line) for line in (whole / "metrics.json").read_text().splitlines()]
    per_epoch = max(line["iteration"] + 1 for line in lines) // EPOCHS
    for line in lines:
        if "loss_id" not in line:
            continue
        epoch = line["iteration"] // per_epoch
        found = {name for name in line if "prediction" in name}
        expected = "crossed" if epoch in CROSSED else "own"
        assert found == ({f"loss_{expected}_prediction"} if epoch else set()), epoch


def test_two_processes_train_through_the_phases(datasets, tmp_path, monkeypatch):
    """Epoch 0, "own", equals the averaged gradients; in 1, "crossed", classifiers are unused."""
    words = dict(
        OPTIONS,
        SOLVER__MOMENTUM=0.0,
        SOLVER__NESTEROV=False,
        MODEL__MUTUAL_PREDICTION__START_EPOCH=0,
        SOLVER__MAX_EPOCH=2,
    )
    command = [sys.executable, str(ROOT / "tools/train_net.py"), "--num-gpus", "2"]
    command += ["--config-file", str(ROOT / CONFIG), *small_words(tmp_path / "two", **words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    first, second = (after(tmp_path / "two", epoch, last=2)["model"] for epoch in (0, 1))
    expected = by_hand(small_cfg(tmp_path / "one", CONFIG, **words), 1, monkeypatch)
    for name, value in expected.items():
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=1e-4, msg=name)
    for name in ("visible_classifier.weight", "infrared_classifier.bias"):
        assert torch.equal(first[name], second[name])
    assert not torch.equal(first["heads.classifier.weight"], second["heads.classifier.weight"])
