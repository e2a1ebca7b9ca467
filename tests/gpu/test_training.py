"""Whole trainings on the GPU: number formats, memory order, compilation, checkpoints, resuming.

Oracles: the same training in float32 and, for what is stored, the CPU.
"""

import json

import pytest
import torch

from vireid_plugins import FeatureExtractor
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.runtime import _missing_for_compilation
from vireid_plugins.readers.checkpoint import read_checkpoint

from tests.engine.small import small_cfg

pytestmark = pytest.mark.gpu
# Plain SGD: Adam would turn the rounding of a gradient near zero into a whole step.
KEYS = {"SOLVER__OPT": "SGD", "SOLVER__BASE_LR": 0.001, "SOLVER__WARMUP_EPOCHS": 0}


def train(folder, device, epochs=1, resume=False, **keys):
    """Return a trainer after ``epochs``, and the total loss of each step that its log has."""
    keys = {**KEYS, "SOLVER__LOG_PERIOD": 1, "SOLVER__MAX_EPOCH": epochs, **keys}
    trainer = VIReIDTrainer(small_cfg(folder, MODEL__DEVICE=device, **keys))
    trainer.resume_or_load(resume=resume)
    trainer.train()
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return trainer, {line["iteration"]: line["total_loss"] for line in lines}


@pytest.fixture(scope="module")
def plain(device, tiny_root, tmp_path_factory):
    """Return folder, trainer and losses of two epochs in float32."""
    folder = tmp_path_factory.mktemp("plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(tiny_root))
        return (folder, *train(folder, device, epochs=2))


def close(losses, expected, rel):
    """Check that the steps of a training have losses like those of another."""
    assert losses and set(losses) <= set(expected)
    assert losses == pytest.approx({step: expected[step] for step in losses}, rel=rel)


def test_the_model_is_on_the_device(device, plain):
    _, trainer, _ = plain
    assert {value.device.type for value in trainer.model.parameters()} == {device.split(":")[0]}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_follows_float32(dtype, device, plain, datasets, tmp_path):
    if dtype == "float16" and device == "cpu":
        pytest.skip("float16 needs a GPU")
    keys = {"SOLVER__AMP__ENABLED": True, "SOLVER__AMP__DTYPE": dtype}
    trainer, losses = train(tmp_path, device, **keys)
    assert losses[0] == pytest.approx(
        plain[2][0], rel=0.02
    )  # later, other examples are the hardest
    assert losses[0] != plain[2][0]  # or nothing was half
    stored = read_checkpoint(f"{tmp_path}/model_final.pth")
    state = stored["model"]
    assert all(value.isfinite().all() for value in state.values())
    assert all(value.dtype != torch.float16 for value in state.values())
    scaler = trainer._trainer.grad_scaler
    assert (scaler is not None) == (dtype == "float16")
    if scaler is not None:
        assert scaler.get_scale() >= 1024  # it starts at 65,536 and halves where a step overflows
        assert stored["grad_scaler"]["scale"] == scaler.get_scale()


def test_channels_last_changes_low_order_bits_alone(device, plain, datasets, tmp_path):
    trainer, losses = train(tmp_path, device, RUNTIME__CHANNELS_LAST=True)
    close(losses, plain[2], rel=5e-3)
    weights = [value for value in trainer.model.parameters() if value.dim() == 4]
    order = torch.channels_last
    assert weights and all(value.is_contiguous(memory_format=order) for value in weights)


def test_compiled_training_follows_the_plain_one(device, plain, datasets, tmp_path):
    missing = _missing_for_compilation(device)
    if missing or device == "cpu":
        pytest.skip(missing or "tests/engine/test_runtime.py compiles for the CPU")
    _, losses = train(tmp_path, device, RUNTIME__COMPILE=True)
    close(losses, plain[2], rel=5e-3)


def test_a_resumed_training_goes_on_as_if_it_had_not_stopped(device, plain, datasets, tmp_path):
    """The order of sums may differ on a GPU; another batch or a lost momentum differs by more."""
    train(tmp_path, device, epochs=1)
    trainer, losses = train(tmp_path, device, epochs=2, resume=True)
    assert losses.keys() == plain[2].keys()
    close(losses, plain[2], rel=5e-3)
    states = [state for state in trainer.optimizer.state.values() if "momentum_buffer" in state]
    kinds = {state["momentum_buffer"].device.type for state in states}
    assert kinds == {device.split(":")[0]}


def test_a_checkpoint_of_the_device_gives_the_same_features_on_the_cpu(device, plain, datasets):
    """And the CPU needs no GPU to open it: its tensors are stored as the CPU's."""
    folder, _, _ = plain
    weights = folder / "model_final.pth"
    images = sorted(map(str, datasets.rglob("*.jpg")))[:8]
    here = FeatureExtractor(weights, device=device)(images, "infrared")
    expected = FeatureExtractor(weights, device="cpu")(images, "infrared")
    assert here.shape == expected.shape and len(images) == 8
    assert torch.allclose(torch.as_tensor(here).cpu(), torch.as_tensor(expected), atol=1e-4)
    state = read_checkpoint(str(weights))["model"]
    assert {value.device.type for value in state.values()} == {"cpu"}


def test_an_evaluation_gives_the_cpus_metrics(device, plain, datasets):
    folder, trainer, _ = plain
    words = dict(MODEL__WEIGHTS=folder / "model_final.pth", **KEYS)
    here = VIReIDTrainer.test(small_cfg(folder, MODEL__DEVICE=device, **words), trainer.model)
    model = trainer.model.to("cpu")
    try:
        expected = VIReIDTrainer.test(small_cfg(folder, MODEL__DEVICE="cpu", **words), model)
    finally:
        model.to(device)
    assert len(expected) and dict(here) == pytest.approx(dict(expected), abs=0.5)
