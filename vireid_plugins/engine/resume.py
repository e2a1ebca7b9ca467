"""Continue a run from its checkpoint, which ``saving.py`` wrote."""

import logging
import os
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from fastreid.utils import comm
from fastreid.utils.events import EventStorage

from ..errors import CheckpointError
from ..runs.history import restore_storage
from ..runs.names import BEST, FACTS, FAILED, FINAL, RESUME
from ..runs.rewind import cut_measurements, restore_results
from .parallel import unwrap
from .seeding import set_random_states, with_seed
from .sequences import training_batches

logger = logging.getLogger(__name__)

# Files that an earlier version named in last_checkpoint before the end of an epoch was done.
_UNFINISHED_BEFORE = (f"{BEST}.pth", f"{FAILED}.pth")
_DAMAGES = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass
class Continuation:
    """Where a run continues.

    Attributes:
        epochs: number of epochs whose steps are all done.
        iterations: number of steps that are done in the epoch after these.
        pending: whether the last of these epochs still lacks its end: evaluation, record, saving.
        last_write: the last iteration whose measurements are in the files; -1: none.
        file: name of the checkpoint; empty: the run begins.
        cuts: whether to delete from the files what was written after ``last_write``.
    """

    epochs: int = 0
    iterations: int = 0
    pending: bool = False
    last_write: int = -1
    file: str = ""
    cuts: bool = False
    measurements: Dict[str, Any] = field(default_factory=dict)
    results: Optional[str] = None  # content of results.json
    random: List[Dict[str, Any]] = field(default_factory=list)  # of each process, inside an epoch

    @property
    def is_complete(self) -> bool:
        """Return whether the run came to an end, and has saved its final weights."""
        return self.file == FINAL and not self.pending

    def require_end(self, max_epoch: int) -> None:
        """Mark the end of the last epoch as pending, for a run that was stopped or shortened.

        Raises:
            CheckpointError: the state is inside an epoch that the run does not have.
        """
        if self.iterations:
            raise CheckpointError(
                f"{self.file} is inside epoch {self.epochs + 1}, and SOLVER.MAX_EPOCH is "
                f"{max_epoch}. Set SOLVER.MAX_EPOCH to {self.epochs + 1} or more."
            )
        self.pending = True

    def begin(self, trainer: Any) -> None:
        """Set the measurements and the files of ``trainer`` to those of the checkpoint."""
        restore_storage(trainer.storage, self.measurements)
        folder = trainer.cfg.OUTPUT_DIR
        if self.cuts and comm.is_main_process() and os.path.isdir(folder):
            cut_measurements(folder, self.last_write)
            restore_results(folder, self.epochs, self.results)

    def set_random_states(self) -> None:
        """Set the global generators to their states between the two steps."""
        if len(self.random) != comm.get_world_size():
            return
        try:
            set_random_states(self.random[comm.get_rank()])
        except _DAMAGES as error:
            raise _damaged(self.file, error) from error


def continue_from(trainer: Any, rest: Dict[str, Any], path: str) -> None:
    """Set the epoch, seed and learning rates of ``trainer`` to those of a loaded checkpoint.

    Args:
        trainer: a ``VIReIDTrainer``.
        rest: the entries of the checkpoint besides weights and optimizer.
        path: its path.

    Raises:
        CheckpointError: its entry about the run is damaged.
    """
    trainer.continuation = place = read_position(rest, path, trainer.iters_per_epoch)
    trainer.start_epoch = place.epochs
    trainer.best_metric = rest.get("best_metric", trainer.best_metric)
    seed = rest.get(FACTS, {}).get("seed", trainer.seed)
    if seed != trainer.seed:
        if trainer.cfg.SEED >= 0:
            logger.warning(
                "SEED is %d; the run began with %d and continues with it.", trainer.seed, seed
            )
        trainer.seed = seed
        loader = trainer.build_train_loader(with_seed(trainer.cfg, seed))
        model = unwrap(trainer.model)
        trainer.use_batches(training_batches(trainer.cfg, loader, model, seed))
    iteration = place.epochs * trainer.iters_per_epoch + place.iterations
    trainer.kept, trainer.kept_state = f"{path} is kept.", (iteration, place.pending)
    trainer.scheduler["lr_sched"].set(iteration)
    logger.info("Resumed %s: epoch %d of %d.", path, place.epochs, trainer.max_epoch)


def read_position(rest: Dict[str, Any], path: str, iters_per_epoch: int) -> Continuation:
    """Return where the run of a checkpoint continues.

    Args:
        rest: the entries of the checkpoint besides weights and optimizer.
        path: its path.
        iters_per_epoch: steps in an epoch.

    Raises:
        CheckpointError: the entry is damaged.
    """
    epochs, file = int(rest.get("epoch", -1)) + 1, os.path.basename(path)
    entry = rest.get(RESUME)
    if entry is None:
        logger.warning(
            "%s was written by an earlier version and does not hold the measurements. The first "
            "losses in metrics.json are medians over fewer iterations than without a stop.",
            path,
        )
        last = epochs * iters_per_epoch - 1
        return Continuation(epochs, 0, file in _UNFINISHED_BEFORE, last, file, cuts=True)
    try:
        found = Continuation(
            epochs=epochs,
            iterations=int(entry["iterations"]),
            pending=bool(entry["pending"]),
            last_write=int(entry["last_write"]),
            file=file,
            cuts=True,
            measurements=dict(entry["measurements"]),
            results=entry["results"],
            random=list(entry["random"]),
        )
        if entry["processes"] != comm.get_world_size():
            _note_processes(int(entry["processes"]))
        restore_storage(EventStorage(), found.measurements)  # finds damages now
    except _DAMAGES as error:
        raise _damaged(path, error) from error
    if not 0 <= found.iterations < iters_per_epoch:
        raise CheckpointError(
            f"{path} cannot be resumed: it is {found.iterations} steps into an epoch, and an epoch "
            f"has {iters_per_epoch}. Write the name of an earlier checkpoint into last_checkpoint."
        )
    return found


def _damaged(path: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be resumed: its entry {RESUME!r} is damaged ({error!r}). Write the name of "
        "an earlier checkpoint into last_checkpoint."
    )


def _note_processes(processes: int) -> None:
    logger.warning(
        "The run was stopped with %d processes and continues with %d: its images come in the same "
        "order, their augmentation and the other random choices differ from those of a run that "
        "was never stopped.",
        *(processes, comm.get_world_size()),
    )
