"""Training: weights move, runs repeat bitwise, resume goes on exactly, bad losses stop."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.checkpoint import AtomicCheckpointer
from vireid_plugins.engine.hooks import EvaluateAndSave, FreezeLayers
from vireid_plugins.engine.step import StepTrainer
from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.files import write_atomically
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.solver.amp import build_grad_scaler

from fastreid.utils.events import EventStorage

from tests.engine.small import ROOT, small_cfg, small_words


def trained(cfg, resume=False):
    """Train as the command line does; the trainer, its losses by iteration attached."""
    trainer = VIReIDTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.results = trainer.train()
    return trainer


def losses(trainer):
    """(value, iteration) of every step of this process."""
    return trainer.storage.history("total_loss").values()


def same_state(a, b):
    """Bitwise equality of nested states."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b


def checkpoint(folder, name):
    return read_checkpoint(os.path.join(folder, f"{name}.pth"))


def test_one_epoch_moves_every_trainable_weight(datasets, tmp_path):
    trainer = VIReIDTrainer(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1))
    before = copy.deepcopy(dict(trainer.model.named_parameters()))
    trainer.train()
    still = [
        name
        for name, p in trainer.model.named_parameters()
        if p.requires_grad and torch.equal(before[name], p)
    ]
    assert not still


class Linear(torch.nn.Module):
    """A model of one layer: bfloat16 is emulated, and slow, on a CPU without it."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, batch):
        self.seen = self.layer(batch["images"])
        return {"loss_a": self.seen.float().square().mean()}


class Loader:
    batch_sampler = type("Sampler", (), {"set_epoch": lambda self, epoch: None})()

    def __iter__(self):
        return iter([{"images": torch.ones(2, 4)}] * 2)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_only_float16_has_its_loss_scaled(dtype):
    assert build_grad_scaler(dtype) is None


def test_each_epoch_draws_its_own_batches(monkeypatch):
    """2 + 2 epochs would also equal 4 if all of them repeated the first."""
    told = []
    sampler = type("Sampler", (), {"set_epoch": lambda self, epoch: told.append(epoch)})()
    monkeypatch.setattr(Loader, "batch_sampler", sampler)
    model = Linear()
    stepper = StepTrainer(model, Loader(), torch.optim.SGD(model.parameters(), 0.1))
    for epoch in (0, 1, 5):
        stepper.start_epoch(epoch)
    assert told == [0, 1, 5]


def test_an_activation_without_a_gradient_in_bfloat16_is_named(monkeypatch):
    """PyTorch 1.13 has none for ReLU6 on a CPU."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU6())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    StepTrainer(model, Loader(), optimizer)

    def without_kernel(self, values):
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(nn.ReLU6, "forward", without_kernel)
    with pytest.raises(UserError, match="lacks the gradient of ReLU6 .*SOLVER.AMP.ENABLED False"):
        StepTrainer(model, Loader(), optimizer, "bfloat16")


@pytest.mark.parametrize("amp,seen", [(None, torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_step_moves_the_weights_in_each_precision(amp, seen):
    model = Linear()
    before = model.layer.weight.clone()
    stepper = StepTrainer(model, Loader(), torch.optim.SGD(model.parameters(), 0.1), amp)
    stepper.start_epoch(0)
    with EventStorage():
        stepper.run_step()
    assert model.seen.dtype is seen and model.layer.weight.dtype is torch.float32
    assert not torch.equal(before, model.layer.weight)


@pytest.mark.slow
def test_the_same_seed_gives_bitwise_the_same_run(datasets, tmp_path):
    """Whatever the number of loading processes; another seed gives another run."""
    first = trained(small_cfg(tmp_path / "a", TEST__EVAL_PERIOD=1))
    again = trained(small_cfg(tmp_path / "b", TEST__EVAL_PERIOD=1, DATALOADER__NUM_WORKERS=2))
    other = trained(small_cfg(tmp_path / "c", SEED=1))
    assert losses(first) == losses(again) != losses(other)
    assert same_state(first.model.state_dict(), again.model.state_dict())
    assert first.results == again.results and first.results["SYSUMM01/all/single/mAP"] > 0


@pytest.mark.slow
def test_two_and_two_epochs_equal_four(datasets, tmp_path):
    """Weights, optimizer, schedule and losses, through a checkpoint, with an evaluation inside."""
    options = dict(TEST__EVAL_PERIOD=2, INPUT__REA__ENABLED=True)
    whole = trained(small_cfg(tmp_path / "whole", SOLVER__MAX_EPOCH=4, **options))
    trained(small_cfg(tmp_path / "parts", SOLVER__MAX_EPOCH=2, **options))
    resumed = trained(small_cfg(tmp_path / "parts", SOLVER__MAX_EPOCH=4, **options), resume=True)
    assert resumed.start_epoch == 2
    assert losses(resumed) == losses(whole)[len(losses(whole)) // 2 :]
    a, b = (checkpoint(tmp_path / name, "model_final") for name in ("whole", "parts"))
    for key in ("model", "optimizer", "lr_sched", "epoch", "best_metric"):
        assert same_state(a[key], b[key]), key


@pytest.mark.slow
def test_the_best_metric_survives_a_resume(datasets, tmp_path):
    first = trained(small_cfg(tmp_path, TEST__EVAL_PERIOD=1))
    best = first.best_metric
    assert best > 0
    resumed = VIReIDTrainer(small_cfg(tmp_path, SOLVER__MAX_EPOCH=3, TEST__EVAL_PERIOD=1))
    resumed.resume_or_load(resume=True)
    assert resumed.best_metric == best
    end = next(hook for hook in resumed._hooks if isinstance(hook, EvaluateAndSave))
    end._evaluate = lambda: {"metric": best - 1}  # a worse model
    kept = (tmp_path / "model_best.pth").read_bytes()
    resumed.train()
    same = (tmp_path / "model_best.pth").read_bytes() == kept
    assert same  # pytest would take gigabytes to show where the bytes of two files differ


@pytest.mark.slow
def test_a_finished_run_resumes_to_nothing(datasets, tmp_path, capsys):
    trained(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1))
    again = trained(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1), resume=True)
    assert again.results == {} and "Nothing to train: epoch 1 of 1" in capsys.readouterr().out


@pytest.mark.slow
def test_a_changed_learning_rate_holds_on_resume(datasets, tmp_path):
    trained(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1, SOLVER__WARMUP_EPOCHS=0))
    options = dict(SOLVER__MAX_EPOCH=2, SOLVER__WARMUP_EPOCHS=0, SOLVER__BASE_LR=0.25)
    with pytest.raises(CheckpointError, match="SOLVER.BASE_LR .* -> 0.25.*RESUME_OTHER_CONFIG"):
        VIReIDTrainer(small_cfg(tmp_path, **options)).resume_or_load(resume=True)
    allowed = small_cfg(tmp_path, SOLVER__RESUME_OTHER_CONFIG=True, **options)
    resumed = VIReIDTrainer(allowed)
    resumed.resume_or_load(resume=True)
    assert {group["lr"] for group in resumed.optimizer.param_groups} == {0.25}


@pytest.mark.slow
def test_other_data_are_refused_on_resume(datasets, tmp_path):
    trained(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1))
    other = small_cfg(tmp_path, DATASETS__NAMES='("RegDB",)', DATASETS__TESTS='("RegDB",)')
    with pytest.raises(RuntimeError, match="fingerprint"):
        VIReIDTrainer(other).resume_or_load(resume=True)


@pytest.mark.slow
def test_a_kill_during_a_write_leaves_the_last_good_checkpoint(datasets, tmp_path):
    """A process dies half-way through writing its second checkpoint; the next resumes the first."""
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
import vireid_plugins, torch
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.setup import build_config
cfg = build_config({str(ROOT / "configs/agw/synthetic.yml")!r}, {small_words(tmp_path)!r})
trainer = VIReIDTrainer(cfg)
save = torch.save
def die_on_second(data, file):
    if data["epoch"] == 1:
        file.write(b"half a checkpoint"); file.flush(); os._exit(9)
    save(data, file)
torch.save = die_on_second
trainer.train()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert list(tmp_path.glob(".*.partial"))
    resumed = trained(small_cfg(tmp_path), resume=True)
    assert resumed.start_epoch == 1
    assert not list(tmp_path.glob(".*.partial"))
    assert checkpoint(tmp_path, "model_final")["epoch"] == 1


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    target = tmp_path / "x.pth"
    write_atomically(target, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"new, in part")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, fail)
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["x.pth"]


def test_a_last_checkpoint_that_is_gone_is_named(tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0007.pth")
    checkpointer = AtomicCheckpointer(torch.nn.Linear(1, 1), str(tmp_path))
    with pytest.raises(FileNotFoundError, match="names 'model_0007.pth', which does not exist"):
        checkpointer.has_checkpoint()


def test_a_loss_that_becomes_nan_stops_with_its_name_and_images(datasets, tmp_path):
    trainer = VIReIDTrainer(small_cfg(tmp_path))
    term = trainer.model.loss_terms["WeightedTripletLoss"]
    term.forward = lambda *tensors: tensors[0].sum() * float("nan")
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    message = str(error.value)
    assert message.startswith("loss_weighted_triplet became infinite or NaN at iteration 0")
    assert message.count(".jpg") == 16
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.slow
def test_a_failed_evaluation_keeps_the_weights(datasets, tmp_path, monkeypatch):
    def fail(cfg, model):
        raise RuntimeError("no matches")

    monkeypatch.setattr(VIReIDTrainer, "test", staticmethod(fail))
    with pytest.raises(RuntimeError, match="no matches"):
        trained(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1))
    assert checkpoint(tmp_path, "model_before_failed_evaluation")["epoch"] == 0


@pytest.mark.slow
def test_frozen_layers_stand_still_also_after_a_resume(datasets, tmp_path):
    """Trap 7: the host's counter restarts on resume and its frozen batch norm trains again."""
    iterations = len(VIReIDTrainer(small_cfg(tmp_path / "x")).data_loader)
    options = {
        "MODEL__FREEZE_LAYERS": '["backbone"]',
        "SOLVER__FREEZE_ITERS": 2 * iterations,
        "TEST__EVAL_PERIOD": 1,
        "SOLVER__WEIGHT_DECAY": 0.1,
    }
    start = copy.deepcopy(VIReIDTrainer(small_cfg(tmp_path, **options)).model.backbone.state_dict())
    trained(small_cfg(tmp_path, SOLVER__MAX_EPOCH=1, **options))
    second = trained(small_cfg(tmp_path, SOLVER__MAX_EPOCH=2, **options), resume=True)
    assert same_state(second.model.backbone.state_dict(), start)
    third = trained(small_cfg(tmp_path, SOLVER__MAX_EPOCH=3, **options), resume=True)
    assert not same_state(third.model.backbone.state_dict(), start)


def test_freezing_nothing_is_an_error():
    with pytest.raises(ValueError, match="FREEZE_LAYERS names 'trunk'.*'weight'|no parameter"):
        FreezeLayers(torch.nn.Linear(1, 1), ["trunk"], 5)


def test_half_precision_on_a_cpu_names_the_alternative(datasets, tmp_path):
    with pytest.raises(ValueError, match="SOLVER.AMP.DTYPE bfloat16"):
        VIReIDTrainer(small_cfg(tmp_path, SOLVER__AMP__ENABLED=True))


def test_too_few_classes_are_refused(datasets, tmp_path):
    with pytest.raises(ValueError, match="NUM_CLASSES is 3 and the training set has 8"):
        VIReIDTrainer(small_cfg(tmp_path, MODEL__HEADS__NUM_CLASSES=3))


@pytest.mark.slow
def test_what_a_run_leaves_behind(datasets, tmp_path):
    """Checkpoints under the host's names, metrics with their keys, events, the config."""
    trainer = trained(small_cfg(tmp_path, TEST__EVAL_PERIOD=1, TEST__RETRIEVAL_PICTURES=2))
    names = set(os.listdir(tmp_path))
    assert {"model_0000.pth", "model_final.pth", "model_best.pth", "last_checkpoint"} <= names
    assert any(name.startswith("events.out") for name in names)
    assert (tmp_path / "retrieval").is_dir() and list((tmp_path / "retrieval").iterdir())
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    final = {key: value for line in lines for key, value in line.items()}
    for mode in ("all", "indoor"):
        for name in ("Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP"):
            key = f"SYSUMM01/{mode}/single/{name}"
            assert 0 <= final[key] <= 100 and final[f"{key}_std"] >= 0
    first = "SYSUMM01/all/single"
    expected = (final[f"{first}/Rank-1"] + final[f"{first}/mAP"]) / 2
    assert trainer.results["metric"] == pytest.approx(expected)
    facts = checkpoint(tmp_path, "model_final")["vireid"]
    assert facts["num_classes"] == 8 and facts["regdb_trial"] == 1 and facts["fingerprint"]


@pytest.mark.slow
def test_a_stock_config_runs_in_this_trainer_too(datasets, tmp_path):
    """FastReID's baseline, dataset and sampler: one modality, the Market-1501 protocol."""
    from vireid_plugins import add_vireid_config

    from fastreid.config import get_cfg

    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.merge_from_list(
        small_words(
            tmp_path,
            MODEL__DEVICE="cpu",
            MODEL__BACKBONE__DEPTH="18x",
            MODEL__BACKBONE__FEAT_DIM=512,
            MODEL__HEADS__WITH_BNNECK=True,
            MODEL__LOSSES__NAME='("CrossEntropyLoss", "TripletLoss")',
            DATALOADER__SAMPLER_TRAIN="NaiveIdentitySampler",
            SOLVER__MAX_EPOCH=1,
            SOLVER__WARMUP_ITERS=0,
            TEST__EVAL_PERIOD=1,
        )
    )
    trainer = trained(cfg)
    assert [k for k in trainer.results if k.startswith("Market1501") and k.endswith("/mAP")]
