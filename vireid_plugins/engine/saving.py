"""Save the state of a run: after an epoch or, when a signal stops it, between two steps.

Besides the weights and the optimizer state, a checkpoint holds the position of the run: whether the
end of the epoch is still pending, and which measurements are in the files. It also holds the last
measurements, so that the files of a resumed run equal those of a run that was never stopped.
"""

import os
from typing import Any, Dict, List

from fastreid.utils import comm

from ..data.datasets.build import split_facts
from ..data.reading import range_facts
from ..runs.history import storage_state
from ..runs.names import FACTS, RESUME, UNFINISHED
from ..runs.rewind import read_results
from ..version import __version__
from .encoder import trained_on
from .same_rendering import rendered_facts


def facts_of(trainer: Any) -> Dict[str, Any]:
    """Return what a checkpoint says about itself: numbers, strings and lists of strings."""
    dataset = trainer.data_loader.dataset
    return {
        "version": __version__,
        "config": trainer.cfg.dump(),
        "seed": trainer.seed,
        "num_classes": num_classes(trainer.data_loader),
        "train_datasets": trained_on(trainer.cfg),
        **split_facts(trainer.cfg),
        **range_facts(trainer.cfg),
        "fingerprint": dataset.fingerprint,
        **rendered_facts(getattr(trainer.data_loader, "sources", ())),
        "iters_per_epoch": trainer.iters_per_epoch,
    }


def num_classes(loader: Any) -> int:
    """Return how many classes a classifier has: identities, or the most clusters."""
    return int(getattr(loader, "num_classes", loader.dataset.num_classes))


def save_after_epoch(trainer: Any, name: str, pending: bool, resumable: bool) -> None:
    """Write ``<name>.pth`` after all steps of an epoch; see ``VIReIDTrainer.save``."""
    words = f"after epoch {trainer.epoch + 1} of {trainer.max_epoch}"
    _save(
        trainer, name, trainer.epoch, words, resumable, _describe_position(trainer, pending, 0, [])
    )


def save_between_steps(trainer: Any, random: List[Dict[str, Any]]) -> None:
    """Write ``model_resume.pth`` after a step.

    Args:
        trainer: a ``VIReIDTrainer``.
        random: states of the global generators in each process.
    """
    if trainer.steps_done == trainer.iters_per_epoch:
        save_after_epoch(trainer, UNFINISHED, trainer.end_pending, resumable=True)
        return
    words = (
        f"after {trainer.steps_done} of the {trainer.iters_per_epoch} iterations of epoch "
        f"{trainer.epoch + 1} of {trainer.max_epoch}"
    )
    position = _describe_position(trainer, False, trainer.steps_done, random)
    _save(trainer, UNFINISHED, trainer.epoch - 1, words, True, position)


def _save(
    trainer: Any, name: str, epoch: int, words: str, resumable: bool, position: Dict[str, Any]
) -> None:
    entries = {FACTS: trainer.facts(), RESUME: position}
    trainer.checkpointer.save(
        name, resumable=resumable, epoch=epoch, best_metric=trainer.best_metric, **entries
    )
    if resumable:
        path = os.path.join(trainer.cfg.OUTPUT_DIR, f"{name}.pth")
        trainer.kept = f"The state {words} is saved in {path}."
        trainer.kept_state = (getattr(trainer, "iter", 0), position["pending"])


def _describe_position(
    trainer: Any, pending: bool, iterations: int, random: List[Dict[str, Any]]
) -> Dict[str, Any]:
    """Return the entry of a checkpoint that ``resume.read_position`` reads.

    Args:
        trainer: the trainer, after all steps that the checkpoint holds.
        pending: see ``resume.Continuation``.
        iterations: see ``resume.Continuation``.
        random: states of the global generators in each process; empty at the end of an epoch.
    """
    storage = getattr(trainer, "storage", None)
    return {
        "pending": pending,
        "iterations": iterations,
        "processes": comm.get_world_size(),
        "random": random,
        "last_write": trainer.last_write(),
        "measurements": {} if storage is None else storage_state(storage),
        "results": read_results(trainer.cfg.OUTPUT_DIR),
    }
