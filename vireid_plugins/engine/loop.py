"""Run the loop over epochs and steps, from the current position to the end or to a signal.

It replaces the loop of FastReID's ``TrainerBase``, which can only start at the first step of an
epoch.
"""

import contextlib
import logging
import signal
from typing import Any

from fastreid.utils import comm
from fastreid.utils.events import EventStorage

from ..errors import UserError, is_foreseen
from .interrupts import StopSignals, TrainingStopped
from .saving import save_between_steps
from .seeding import random_states

logger = logging.getLogger(__name__)


def run_epochs(trainer: Any) -> None:
    """Do the pending end of the last epoch, and train the epochs that are left.

    Args:
        trainer: a ``VIReIDTrainer``.

    Raises:
        TrainingStopped: a signal asked to stop; the message says what was saved.
    """
    place = trainer.continuation
    trainer.epoch = place.epochs - 1
    trainer.iter = trainer.start_iter = place.epochs * trainer.iters_per_epoch + place.iterations
    trainer.signals = signals = StopSignals()
    try:
        _run_watched(trainer, signals)
    except Exception as error:
        # When one process of a run fails, the others lose their connection to it, and a signal ends
        # them. The signal may arrive after this error was raised; then it is the reason.
        if signals.requested is None or isinstance(error, UserError):
            raise
        raise TrainingStopped(signals.requested, trainer.kept) from error


def _run_watched(trainer: Any, signals: StopSignals) -> None:
    """Run the epochs that are left, while signals are noted."""
    place = trainer.continuation
    watched = signals if trainer.handles_signals else contextlib.nullcontext()
    with EventStorage(max(0, trainer.iter - 1)) as trainer.storage, watched:
        trainer.storage.epoch = max(0, trainer.epoch)
        trainer._trainer.stop_requested = lambda: signals.requested is not None
        try:
            place.begin(trainer)
            trainer.before_train()
            if place.pending:
                trainer.finish_epoch()
            for epoch in range(place.epochs, trainer.max_epoch):
                _run_epoch(trainer, epoch, place.iterations if epoch == place.epochs else 0)
        except TrainingStopped as stop:
            raise TrainingStopped(stop.number, trainer.kept) from None
        except Exception as error:
            _raise_stopped(trainer, error)
            # A mistake that the user can mend needs no traceback, in the log neither.
            traceback = None if is_foreseen(error) else error
            logger.error("The training ended early: %s", error, exc_info=traceback)
            raise
        finally:
            trainer.after_train()


def _run_epoch(trainer: Any, epoch: int, done: int) -> None:
    """Train one epoch after its first ``done`` steps, and do its end (evaluate, record, save)."""
    trainer.epoch, trainer.steps_done, trainer.end_pending = epoch, done, True
    trainer.before_epoch()
    if done:
        trainer.continuation.set_random_states()
    while trainer.steps_done < trainer.iters_per_epoch:
        trainer.before_step()
        trainer.run_step()
        trainer.after_step()
        trainer.iter += 1
        trainer.steps_done += 1
        if _must_stop(trainer, trainer.iter - 1):
            _stop(trainer)
    trainer.after_epoch()
    trainer.end_pending = False
    if epoch + 1 < trainer.max_epoch and _must_stop(trainer, trainer.iter):
        _stop(trainer)


def _must_stop(trainer: Any, iteration: int) -> bool:
    """Return whether all processes stop now; they agree through the report of each step."""
    if comm.get_world_size() == 1:
        return trainer.signals.requested is not None
    last = trainer._trainer.stop_after
    return last is not None and iteration >= last


def _stop(trainer: Any) -> None:
    """Save the state, unless a checkpoint holds it already, and raise ``TrainingStopped``."""
    trainer._trainer.finish()
    pending = trainer.end_pending and trainer.steps_done == trainer.iters_per_epoch
    if trainer.kept_state != (trainer.iter, pending):
        states = comm.gather(random_states())
        if comm.is_main_process():
            save_between_steps(trainer, states)
        comm.synchronize()
    raise TrainingStopped(trainer.signals.requested or signal.SIGTERM)  # or another process was


def _raise_stopped(trainer: Any, error: Exception) -> None:
    """Raise ``TrainingStopped`` if ``error`` is a consequence of a signal.

    The same signal may have ended the processes that load images, or other processes of the run.
    """
    number = trainer.signals.requested
    if number is None or isinstance(error, UserError):
        return
    logger.warning("While the training was being stopped: %s", error)
    if comm.get_world_size() == 1 and not trainer._trainer.is_inside_step:
        try:
            _stop(trainer)
        except TrainingStopped:
            pass
    raise TrainingStopped(number, trainer.kept) from error
