"""Hooks around the training steps: freezing, evaluation, checkpoints, the progress line."""

import datetime
import logging
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import torch
from torch import nn

from fastreid.engine.hooks import HookBase
from fastreid.utils import comm
from fastreid.utils.events import EventWriter, get_event_storage

from ..errors import UserError
from ..runs.names import BEST, FAILED, FINAL, UNFINISHED
from ..runs.writers import NewestWriter, last_write_of
from .parallel import unwrap

logger = logging.getLogger(__name__)

_SEEN_AHEAD = 1000  # epochs behind the last one, in which a phase may begin


class FreezeLayers(HookBase):
    """Freeze named parts for the first iterations, counted over the whole run.

    FastReID counts from the start of a session, and its frozen batch norm trains again after the
    first evaluation. Here ``trainer.iter`` alone decides what is frozen.

    Args:
        model: without its DDP wrapper.
        names: patterns matched from the beginning of parameter names (``MODEL.FREEZE_LAYERS``).
        iterations: for how many iterations (``SOLVER.FREEZE_ITERS``).

    Raises:
        UserError: a pattern matches no parameter.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], iterations: int) -> None:
        patterns = [re.compile(name) for name in names]
        for pattern in patterns:
            if not any(pattern.match(name) for name, _ in model.named_parameters()):
                raise UserError(
                    f"MODEL.FREEZE_LAYERS names {pattern.pattern!r}, which no parameter starts "
                    f"with; the model's parts are {[name for name, _ in model.named_children()]}."
                )
        self.parameters = [
            parameter
            for name, parameter in model.named_parameters()
            if any(pattern.match(name) for pattern in patterns)
        ]
        # Only modules without parts: a head in evaluation mode would return no loss terms.
        self.modules = [
            module
            for name, module in model.named_modules()
            if not list(module.children()) and any(pattern.match(name) for pattern in patterns)
        ]
        self.iterations = iterations
        self._was_frozen = False

    def before_step(self) -> None:
        frozen = self.trainer.iter < self.iterations
        self.trainer._trainer.frozen = self.parameters if frozen else []
        if frozen:
            for module in self.modules:
                module.eval()
        elif self._was_frozen:
            self.trainer.model.train()
            logger.info("Iteration %d: all layers train from now on.", self.trainer.iter)
        self._was_frozen = frozen


class EvaluateAndSave(HookBase):
    """Finish an epoch: evaluate, record the results, save the best and the last weights.

    These steps are one unit. Before the evaluation, the state is saved with a note that the unit is
    pending. A run that is resumed from this state does the unit first, then it continues training.

    Args:
        evaluate: returns flat metrics; ``metric`` decides which weights are the best. It is
            called in all processes.
        save: takes a file name without suffix, ``pending`` and ``resumable``. It is called in the
            main process.
        write: writes the measurements. It is called in the main process.
        renew: computes what the last weights need if no evaluation did: the statistics of
            ``TEST.PRECISE_BN``. It is called in all processes.
        eval_period: epochs between evaluations; 0 or less: never.
        checkpoint_period: epochs between checkpoints; 0 or less: only at the end.
    """

    def __init__(
        self,
        evaluate: Callable[[], Dict[str, float]],
        save: Callable[..., None],
        write: Callable[[], None],
        renew: Callable[[], None],
        eval_period: int,
        checkpoint_period: int,
    ) -> None:
        self._evaluate = evaluate
        self._save = save
        self._write = write
        self._renew = renew
        self._eval_period = eval_period
        self._checkpoint_period = checkpoint_period

    def after_epoch(self) -> None:
        done, last = self.trainer.epoch + 1, self.trainer.epoch + 1 >= self.trainer.max_epoch
        saves = last or self._is_due(self._checkpoint_period, done)
        evaluates = self._eval_period > 0 and (last or self._is_due(self._eval_period, done))
        comm.synchronize()
        results = {}
        if evaluates:
            self._save_in_main_process(UNFINISHED, pending=True)
            results = self._evaluated()
        elif last:
            self._renew()
        if results.get("metric", float("-inf")) > self.trainer.best_metric:
            self.trainer.best_metric = results["metric"]
            self._save_in_main_process(BEST, pending=True, resumable=False)
        if comm.is_main_process():
            self._write()
        if saves:
            self._save_in_main_process(
                Path(FINAL).stem if last else f"model_{self.trainer.epoch:04d}"
            )
        comm.synchronize()

    @staticmethod
    def _is_due(period: int, done: int) -> bool:
        return period > 0 and done % period == 0

    def _save_in_main_process(self, name: str, **options: bool) -> None:
        if comm.is_main_process():
            self._save(name, **options)

    def _evaluated(self) -> Dict[str, float]:
        try:
            with self.trainer.signals.at_once():
                results = self._evaluate()
        except Exception:
            logger.error(
                "The evaluation failed; the weights are kept. Once the cause is fixed, the same "
                "command with --resume evaluates them and continues."
            )
            self._save_in_main_process(FAILED, pending=True, resumable=False)
            raise
        if results:
            self.trainer.storage.put_scalars(**results, smoothing_hint=False)
        return results


class ModelHook(HookBase):
    """Tell the model the phase of its schedule before each epoch, and call it after each update."""

    def before_train(self) -> None:
        """Warn of the phases that come only in epochs behind the last one."""
        model: Any = unwrap(self.trainer.model)  # FastReID's own models have no such methods
        if not hasattr(model, "phase_of"):
            return
        end = self.trainer.max_epoch
        come = {model.phase_of(epoch) for epoch in range(end)}
        for epoch in range(end, end + _SEEN_AHEAD):
            phase = model.phase_of(epoch)
            if phase not in come:
                come.add(phase)
                logger.warning(
                    "The phase %r of %s begins with epoch %d (from 0), and SOLVER.MAX_EPOCH is %d: "
                    "it is never trained.",
                    *(phase, type(model).__name__, epoch, end),
                )

    def before_epoch(self) -> None:
        model: Any = unwrap(self.trainer.model)  # FastReID's own models have no such methods
        if hasattr(model, "phase_of"):
            phase = model.phase_of(self.trainer.epoch)
            if phase != model.phase:
                logger.info("Epoch %d: phase %r.", self.trainer.epoch, phase)
            model.phase = phase

    def after_step(self) -> None:
        model: Any = unwrap(self.trainer.model)  # FastReID's own models have no such methods
        if hasattr(model, "after_step"):
            model.after_step()


class WriteEvents(HookBase):
    """Run the writers every ``period`` iterations; ``write`` does so at the end of each epoch.

    Args:
        build_writers: opens the files of the writers. It is called when the training begins, so a
            training that is refused leaves no empty file.
        period: iterations between two calls of the writers.
    """

    def __init__(self, build_writers: Callable[[], List[EventWriter]], period: int) -> None:
        self._build_writers = build_writers
        self._writers: List[EventWriter] = []
        self._period = max(1, period)

    def before_train(self) -> None:
        self._writers = self._build_writers()

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        ends_epoch = iteration % self.trainer.iters_per_epoch == 0
        if iteration % self._period == 0 and not ends_epoch:
            self.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.close()

    def write(self) -> None:
        """Write the measurements that are not in the files yet."""
        self.trainer._trainer.finish()
        model: Any = unwrap(self.trainer.model)
        if hasattr(model, "measures"):  # FastReID's own models have none
            for name, value in model.measures().items():
                self.trainer.storage.put_scalar(name, float(value), smoothing_hint=False)
        for writer in self._writers:
            writer.write()

    def last_write(self) -> int:
        """Return the last iteration whose measurements are in the files; -1: none."""
        for writer in self._writers:
            if isinstance(writer, NewestWriter):
                writer.flush()
        return last_write_of(self._writers)


class ProgressLine(EventWriter):
    """Log a line: remaining time, epoch, iteration, losses, speed in images per second, rate.

    ``time`` is the number of seconds that an iteration takes. ``data_time`` is the part of them in
    which it waits for the batch, with its share in percent.
    """

    def __init__(self, max_epoch: int, max_iter: int) -> None:
        self._max_epoch = max_epoch
        self._max_iter = max_iter

    def write(self) -> None:
        storage = get_event_storage()
        history = storage.histories()
        if "total_loss" not in history:
            return
        losses = [
            f"{name}: {history[name].median(20):.4g}"
            for name, (_, iteration) in storage.latest().items()
            # only values of this iteration: a term of an earlier phase is not computed any more
            if "loss" in name and iteration == storage.iter
        ]
        parts = [
            f"eta: {self._remaining(storage)}",
            f"epoch/iter: {storage.epoch + 1}/{self._max_epoch} {storage.iter + 1}/"
            f"{self._max_iter}",
            *losses,
            *self._speed(history),
        ]
        if "lr" in history:
            parts.append(f"lr: {history['lr'].latest():.2e}")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        logger.info("  ".join(parts))

    def _remaining(self, storage: Any) -> str:
        if "time" not in storage.histories():
            return "?"
        seconds = storage.history("time").median(100) * (self._max_iter - storage.iter - 1)
        return str(datetime.timedelta(seconds=int(seconds)))

    @staticmethod
    def _speed(history: Dict[str, Any]) -> List[str]:
        if "time" not in history:  # the first iterations are not timed
            return []
        step = history["time"].median(20)
        last = min(20, len(history["time"].values()))  # data_time has the first iterations, too
        data, whole = history["data_time"].avg(last), history["time"].avg(last)
        return [
            f"time: {step:.3f}",
            f"data_time: {data:.3f} ({100 * data / max(whole, 1e-9):.0f}%)",
            f"images/s: {history['images_seen'].latest() / max(step, 1e-9):.0f}",
        ]
