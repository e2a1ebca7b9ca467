"""Two processes on the CPU, over gloo, against the same computed by hand in one."""

import json
import os
import subprocess
import sys

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.loading import open_checkpoint
from vireid_plugins.engine.seeding import seed_everything
from vireid_plugins.engine.step import to_device
from vireid_plugins.readers.checkpoint import read_checkpoint

from fastreid.utils import comm

from tests.engine.small import ROOT, small_cfg, small_words

TOOL = str(ROOT / "tools/train_net.py")
CONFIG = ["--config-file", str(ROOT / "configs/agw/synthetic.yml")]
# float64 tells a real difference from rounding; no momentum, so that an error is not hidden
OPTIONS = dict(SOLVER__MOMENTUM=0.0, SOLVER__NESTEROV=False, TEST__EVAL_PERIOD=1)


def two_processes(command, folder, **overrides):
    words = [*command, *CONFIG, *small_words(folder, **{**OPTIONS, **overrides})]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return read_checkpoint(folder / "model_final.pth")["model"]


def rank_loader(cfg, rank, monkeypatch):
    """The loader that process ``rank`` of two builds."""
    with monkeypatch.context() as patch:
        patch.setattr(comm, "get_rank", lambda: rank)
        patch.setattr(comm, "get_world_size", lambda: 2)
        patch.setattr(comm, "all_gather", lambda value, group=None: [value])
        return VIReIDTrainer.build_train_loader(cfg)


def by_hand(cfg, epochs, monkeypatch):
    """The documented expectation: each step averages the two processes' gradients.

    Each half of the batch is normalized by its own statistics; the running ones kept are those
    of process 0, as its checkpoint holds them.
    """
    seed_everything(cfg.SEED)
    trainer = VIReIDTrainer(cfg)
    model, optimizer = trainer.model, trainer.optimizer
    loaders = [rank_loader(cfg, rank, monkeypatch) for rank in (0, 1)]
    for epoch in range(epochs):
        for loader in loaders:
            loader.set_epoch(epoch)
        for i, batches in enumerate(zip(*loaders)):
            trainer.scheduler["lr_sched"].set(epoch * len(loaders[0]) + i)
            gradients = []
            for rank in (1, 0):  # process 0 last: its running statistics are kept
                kept = {k: v.clone() for k, v in model.named_buffers()}
                optimizer.zero_grad()
                sum(model(to_device(batches[rank], torch.device("cpu"))).values()).backward()
                gradients.append([p.grad for p in model.parameters() if p.grad is not None])
                if rank == 1:
                    for name, buffer in model.named_buffers():
                        buffer.copy_(kept[name])
            trainable = [p for p in model.parameters() if p.grad is not None]
            for parameter, a, b in zip(trainable, *gradients):
                parameter.grad = (a + b) / 2
            optimizer.step()
    return model.state_dict()


def assert_evaluated_as_by_one(folder, alone):
    """One process finds for the last checkpoint the metrics that two wrote."""
    weights = str(folder / "model_final.pth")
    checkpoint = open_checkpoint(weights, opts=["OUTPUT_DIR", str(alone)])
    expected = VIReIDTrainer.test(checkpoint.cfg, checkpoint.model)
    lines = (folder / "metrics.json").read_text().splitlines()
    written = json.loads([line for line in lines if "metric" in json.loads(line)][-1])
    assert expected["metric"] > 0
    assert all(written[name] == pytest.approx(expected[name], abs=1e-3) for name in expected)


@pytest.mark.slow
def test_two_processes_equal_the_documented_expectation(datasets, tmp_path, monkeypatch):
    found = two_processes([sys.executable, TOOL, "--num-gpus", "2"], tmp_path / "two")
    expected = by_hand(small_cfg(tmp_path / "one", **OPTIONS), 2, monkeypatch)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)
    assert_evaluated_as_by_one(tmp_path / "two", tmp_path / "alone")
    log = (tmp_path / "two" / "log.txt").read_text()
    assert log.count("SYSUMM01/all/single") >= 2  # evaluated in the middle and at the end
    assert (tmp_path / "two" / "log.txt.rank1").exists()


@pytest.mark.slow
def test_torchrun_gives_the_same(datasets, tmp_path):
    ours = two_processes(
        [sys.executable, TOOL, "--num-gpus", "2"],
        tmp_path / "a",
        SOLVER__MAX_EPOCH=1,
        TEST__EVAL_PERIOD=0,
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    theirs = two_processes(
        [*command, "--master_port", "29611", TOOL],
        tmp_path / "b",
        SOLVER__MAX_EPOCH=1,
        TEST__EVAL_PERIOD=0,
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_batch_that_does_not_divide_is_refused(datasets, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="IMS_PER_BATCH"):
        rank_loader(small_cfg(tmp_path, SOLVER__IMS_PER_BATCH=12), 0, monkeypatch)


BROKEN = """
import sys, vireid_plugins
from vireid_plugins.engine.step import StepTrainer
from vireid.cli import main
from fastreid.utils import comm

run_step = StepTrainer.run_step

def broken(self):
    if comm.get_rank() == 1:
        raise OSError("the disk of process 1 is gone")
    run_step(self)

StepTrainer.run_step = broken
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.mark.slow
def test_a_crash_in_one_process_ends_all_with_its_message(datasets, tmp_path):
    """Process 0 waits in an exchange for what process 1 will never send."""
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)
    words = ["train", *CONFIG, "--num-gpus", "2", *small_words(tmp_path / "run", **OPTIONS)]
    done = subprocess.run(
        [sys.executable, str(script), *words],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1
    assert "error in process 1 of 2" in done.stderr
    assert "OSError: the disk of process 1 is gone" in done.stderr
    assert "error in process 0" not in done.stderr  # it would only say that process 1 is gone
    assert not (tmp_path / "run" / "model_final.pth").exists()
