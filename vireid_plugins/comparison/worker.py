"""Do one run in a process of its own: train, evaluate ``model_final``, write ``result.json``.

    python -m vireid_plugins.comparison.worker FOLDER '{"name": "agw", "config_file": "agw.yml"}'

``FOLDER/settings.yaml`` says what is run. The facts are copied into ``result.json``. If the process
is started again, the run continues from its last checkpoint.
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Sequence

import torch

from .. import evaluation
from ..engine import VIReIDTrainer
from ..engine.encoder import check_encoder
from ..engine.loading import open_checkpoint
from ..engine.parallel import unwrap
from ..engine.setup import build_config, set_up_run
from ..errors import UserError, is_foreseen, report
from ..files import write_json
from ..readers.rendering import rendering
from ..runs.environment import environment
from ..runs.names import COMPARED, SETTINGS
from ..runs.record import record_session, source_commit, utc_now
from .measure import count_parameters, flops_per_image, peak_memory
from .progress import Progress
from .runs import GIVEN

WEIGHTS = "model_final"
END_WITH_STDIN = "--end-with-stdin"
_ERROR_LENGTH = 200  # characters


class TimedTrainer(VIReIDTrainer):
    """A trainer that keeps the time of each epoch, without the time of its checkpoint."""

    handles_signals = False  # a run continues from an epoch's end, so that each is timed whole
    progress: Progress

    def before_epoch(self) -> None:
        self._epoch_began = time.perf_counter()
        super().before_epoch()

    def after_epoch(self) -> None:
        seconds = time.perf_counter() - self._epoch_began
        device = next(self.model.parameters()).device
        self.progress.end_epoch(self.epoch, seconds, peak_memory(device))
        super().after_epoch()


def run(folder: Path, facts: Dict[str, Any]) -> None:
    """Train what ``folder/settings.yaml`` describes, evaluate it, and write the result.

    A run that was interrupted continues from its last checkpoint.

    Args:
        folder: folder of the run.
        facts: other entries of ``result.json``; under ``GIVEN``, keys and values that an encoder
            must agree with, which are no such entry.
    """
    facts = dict(facts)
    given = facts.pop(GIVEN, [])
    progress = Progress(folder)
    commit = source_commit()
    progress.begin_session(commit)
    cfg = build_config(str(folder / SETTINGS), given)
    cfg.OUTPUT_DIR = str(folder)
    check_encoder(cfg, resume=True)
    cfg.freeze()
    changed = set_up_run(cfg, resume=True)
    record_session(str(folder), facts.get("config_file", ""), "train", changed)
    trainer = TimedTrainer(cfg)
    trainer.progress = progress
    costs = _costs(unwrap(trainer.model), cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
    scores = evaluate_final(folder)
    write_json(
        folder / COMPARED,
        {
            **facts,
            "seed": cfg.SEED,
            **scores,
            **_training_facts(trainer, progress),
            **costs,
            "peak_memory_mib": progress.peak_memory_mib,
            "device": torch.device(cfg.MODEL.DEVICE).type,
            "environment": environment(),
            "commit": ", ".join(name for name in progress.commits if name),
            "sessions": progress.sessions,
            "finished": utc_now(),
            "config": cfg.dump(),
        },
    )


def _costs(model: torch.nn.Module, cfg: Any) -> Dict[str, Any]:
    """Measure the model before training, so that a model that cannot be counted fails at once."""
    total, trainable = count_parameters(model)
    flops = flops_per_image(model, tuple(cfg.INPUT.SIZE_TEST))
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return {"parameters": total, "trainable_parameters": trainable, "flops_per_image": flops}


def _training_facts(trainer: TimedTrainer, progress: Progress) -> Dict[str, Any]:
    """Return size and time of the training; the time is None if that of a session was lost."""
    whole = len(progress.epoch_seconds) == trainer.max_epoch
    seconds = sum(progress.epoch_seconds) if whole else None
    dataset = trainer.data_loader.dataset
    points = "" if dataset.keypoints is None else dataset.keypoints.fingerprint
    # Rows with other key points are trained on the same images.
    images = dataset.fingerprint[: -len(f"-{points}")] if points else dataset.fingerprint
    return {
        "iterations": trainer.max_iter,
        "epochs": trainer.max_epoch,
        "images_per_batch": trainer.cfg.SOLVER.IMS_PER_BATCH,
        "train_seconds": seconds,
        "seconds_per_iteration": None if seconds is None else seconds / trainer.max_iter,
        "train_fingerprint": images,
        "train_keypoints": points,
        "train_identities": dataset.num_classes,
        "train_images": len(dataset),
    }


def evaluate_final(folder: Path) -> Dict[str, Any]:
    """Return metrics and protocols of ``model_final.pth``, read back as ``--eval-only`` does."""
    checkpoint = open_checkpoint(
        str(folder / f"{WEIGHTS}.pth"), str(folder / SETTINGS), ["OUTPUT_DIR", str(folder)]
    )
    cfg, model = checkpoint.cfg, checkpoint.model
    found = evaluation.TestMetrics()
    seconds, rendered = 0.0, {}
    for name in cfg.DATASETS.TESTS:
        loader, dataset = VIReIDTrainer.build_test_loader(cfg, name)
        began = time.perf_counter()
        features = evaluation.extract_features(model, loader, **evaluation.flip_options(cfg))
        table = evaluation.evaluate(cfg, name, dataset, features)
        seconds += time.perf_counter() - began
        found.add(table)
        rendered[name] = rendering(getattr(dataset, "dataset_dir", ""))
    return {
        "weights": WEIGHTS,
        "metrics": found,
        "protocols": [facts for table in found.tables for facts in table.protocol_facts()],
        "rendered": rendered,
        "test_sets": found.test_sets(),
        "evaluation_seconds": seconds,
    }


def describe_error(error: BaseException) -> str:
    """Return the class and the first line of ``error``, shortened."""
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    line = f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
    return line if len(line) <= _ERROR_LENGTH else f"{line[:_ERROR_LENGTH]} ..."


def _end_with_the_parent() -> None:
    """End this process when its standard input is closed: the parent may have been killed."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(words: Sequence[str]) -> int:
    """Do the run. If it fails, keep the error in ``progress.json``, and raise it.

    Args:
        words: the folder, the facts as JSON and, if this process is to end when its standard input
            is closed, ``END_WITH_STDIN``.
    """
    folder, facts, *more = words
    if END_WITH_STDIN in more:
        _end_with_the_parent()
    try:
        run(Path(folder), json.loads(facts))
    except Exception as error:
        with contextlib.suppress(UserError):  # a full disk: the reason still stands in the output
            Progress(Path(folder)).fail(describe_error(error))
        if not is_foreseen(error):
            raise
        report(error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
