"""A training of milliseconds with all that a run writes; and what a run has left in its folder."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from vireid_plugins import evaluation
from vireid_plugins.data.train_loader import EpochBatchSampler
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.evaluation.result import ResultRow, ResultTable, TestMetrics
from vireid_plugins.readers.checkpoint import read_checkpoint
from vireid_plugins.readers.json_file import read_json
from vireid_plugins.runs.rewind import _records
from vireid_plugins.runs.writers import NewestWriter

from tests.engine.small import small_cfg

STEPS = 4  # in an epoch
KEYS = {
    "SOLVER__MAX_EPOCH": 4,
    "SOLVER__CHECKPOINT_PERIOD": 2,
    "SOLVER__LOG_PERIOD": 3,
    "TEST__EVAL_PERIOD": 1,
}
TIMES = ("time", "data_time")


class Model(nn.Module):
    """A layer whose loss depends on weights, buffers and PyTorch's global generator."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, batch):
        out = nn.functional.dropout(self.norm(self.layer(batch["images"])), 0.5)
        return {"loss_a": out.square().mean(), "loss_b": (out - 1).square().mean()}


class Positions:
    """A sampler of all positions, in an order that depends on the epoch."""

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 4 * STEPS

    def __iter__(self):
        return iter([(7 * self.epoch + 3 * place) % len(self) for place in range(len(self))])


class Dataset(torch.utils.data.Dataset):
    """Items that depend on their seeds, as augmented images do."""

    num_classes, fingerprint, cache = 2, "tiny", None

    def __getitem__(self, request):
        values = torch.Generator().manual_seed(request.seed % 2**32)
        return {"images": torch.randn(3, generator=values) + request.position}


class TinyTrainer(VIReIDTrainer):
    """``VIReIDTrainer`` on made-up data; the evaluation computes numbers from the weights."""

    @classmethod
    def build_model(cls, cfg):
        return Model()

    @classmethod
    def build_train_loader(cls, cfg):
        batches = EpochBatchSampler(Positions(), 4, seed=cfg.SEED, rank=0)
        return torch.utils.data.DataLoader(Dataset(), batch_sampler=batches)

    @classmethod
    def build_optimizer(cls, cfg, model):
        return torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), None

    @classmethod
    def auto_scale_hyperparams(cls, cfg, num_classes):
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.HEADS.NUM_CLASSES = num_classes
        return cfg

    @classmethod
    def test(cls, cfg, model):
        value = abs(float(model.layer.weight.detach().sum())) % 1 * 100
        names = ("Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP")
        means = dict.fromkeys(names, value)
        row = ResultRow("SYSUMM01/all/single", "t2v", "each", 1, 1, 0, 1, means, means)
        found = TestMetrics()
        found.add(ResultTable([row], "f", "cosine", False))
        return found


def make_tiny(folder, trainer=TinyTrainer, **keys):
    """Return a trainer; the rehearsal of its evaluation, which reads datasets, is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "rehearse_tests", lambda cfg: None)
        return trainer(small_cfg(folder, **{**KEYS, **keys}))


def run_tiny(folder, resume=False, trainer=TinyTrainer, **keys):
    """Train as the command does; return the trainer."""
    made = make_tiny(folder, trainer, **keys)
    made.resume_or_load(resume=resume)
    made.train()
    return made


def killed(folder, point, resume=False, **keys):
    """Train in a process that kills itself at a place; return whether it came so far.

    The places are all steps, evaluations, renamed, deleted and synchronized files, numbered from 0
    in their order.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _die_at(point)
            run_tiny(folder, resume, **keys)
            os._exit(0)
        finally:
            os._exit(9)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _die_at(point):
    left = [point]
    places = [(os, "replace"), (os, "fsync"), (torch, "save"), (NewestWriter, "flush")]
    places += [(Path, "unlink"), (TinyTrainer, "run_step"), (TinyTrainer, "_evaluate")]
    for owner, name in places:
        setattr(owner, name, _dying(getattr(owner, name), left))


def _dying(function, left):
    def call(*args, **options):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return function(*args, **options)

    return call


def story(folder):
    """Return what the files of a run say, without times: to compare two runs."""
    folder = Path(folder)
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    results = read_json(folder / "results.json")
    found = {
        "metrics.json": [
            {key: value for key, value in line.items() if key not in TIMES} for line in lines
        ],
        "events": sorted(_scalars(folder)),
        "results.json": {key: results[key] for key in results if key != "finished"},
        "last_checkpoint": (folder / "last_checkpoint").read_text(),
    }
    for path in sorted(folder.glob("*.pth")):
        found[path.name] = _content(read_checkpoint(str(path)), str(folder))
    return found


def _scalars(folder):
    from tensorboard.compat.proto.event_pb2 import Event

    for path in folder.glob("events*"):
        for _, record in _records(path.read_bytes()):
            event = Event.FromString(record[12:-4])
            for value in event.summary.value:
                number = value.tensor.float_val[0] if value.tensor.float_val else value.simple_value
                if value.tag not in TIMES:
                    yield value.tag, event.step, number


def _content(state, folder):
    """Return a checkpoint as comparable values."""
    if isinstance(state, torch.Tensor):
        return state.tolist() if state.numel() < 100 else hash(state.numpy().tobytes())
    if isinstance(state, dict):
        left_out = {*TIMES, "checksum", "processes"}
        return {k: _content(v, folder) for k, v in state.items() if k not in left_out}
    if isinstance(state, (list, tuple)):
        return [_content(value, folder) for value in state]
    if isinstance(state, str):
        lines = state.replace(folder, "FOLDER").splitlines()
        return [line for line in lines if "finished" not in line]
    return state
