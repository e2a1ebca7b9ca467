"""One training step, in any precision and on any device; it stops if a loss is not finite."""

import contextlib
import time
from typing import Any, Callable, ContextManager, Dict, List, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastreid.engine.train_loop import SimpleTrainer

from ..solver.amp import amp_dtype, build_grad_scaler, check_gradients
from .loss_report import LossReport, log_losses


class StepTrainer(SimpleTrainer):
    """Compute training steps, in the place of FastReID's ``SimpleTrainer`` and ``AMPTrainer``.

    Args:
        model: returns named loss terms for a batch.
        data_loader: one pass over it is one epoch.
        optimizer: over the model's parameters.
        amp: number format of the forward pass, see ``solver/amp.py``; None: that of the weights.
        accumulation: batches whose gradients are averaged before each update; the last update of
            an epoch takes what is left. If it is above 1, the loader must have a length.

    Raises:
        UserError: the precision is unknown, or the device does not have it for this model.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        amp: Optional[str] = None,
        accumulation: int = 1,
    ) -> None:
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.device = next(model.parameters()).device
        self.frozen: List[nn.Parameter] = []  # these get no gradient; see hooks.FreezeLayers
        self.iter = 0
        self._data_loader_iter: Any = iter(())
        self.accumulation = accumulation
        self._batches_left = 0  # in this epoch; counted only if gradients are accumulated
        self.amp_dtype = amp_dtype(amp, self.device)
        if self.device.type == "cpu":
            check_gradients(model, self.amp_dtype)
        self.grad_scaler = build_grad_scaler(self.amp_dtype)
        self.reads_late = self.device.type != "cpu"  # see loss_report.py
        self._unread: List[LossReport] = []
        self.is_inside_step = False  # whether a step has begun to change the model
        self.stop_requested: Callable[[], bool] = lambda: False  # see interrupts.py
        self.stop_after: Optional[int] = None  # iteration after which all processes stop

    def start_epoch(self, epoch: int, done: int = 0) -> None:
        """Begin the pass over the data that belongs to ``epoch``, after its first ``done`` steps.

        A loader without this package's batch sampler reads the batches of these steps again.
        """
        batches, sampler = done * self.accumulation, self.data_loader.batch_sampler
        sampler.set_epoch(epoch)
        skips = bool(batches) and hasattr(sampler, "skip")
        if skips:
            sampler.skip(batches)
        state = torch.get_rng_state()
        self._data_loader_iter = iter(self.data_loader)
        if epoch > 0 and getattr(self.data_loader, "persistent_workers", False):
            # Only the first pass of a session draws from PyTorch's generator. In a run that was
            # never stopped that is the pass of epoch 0.
            torch.set_rng_state(state)
        for _ in range(0 if skips else batches):
            next(self._data_loader_iter)
        if self.accumulation > 1:
            self._batches_left = len(self.data_loader) - batches

    def run_step(self) -> None:
        """Load batches, compute losses and gradients, update the weights once.

        Raises:
            NonFiniteError: a loss term is not finite; the message names it and the images. Where
                terms are read late (``reads_late``), it is raised in the next step.
        """
        self.is_inside_step = False  # until the first batch has been read
        num_batches = self._next_group()
        self.optimizer.zero_grad(set_to_none=True)
        reports = []
        for place in range(num_batches):
            with self._synchronized(place == num_batches - 1):
                reports.append(self._add_gradients(num_batches, *self._load()))
        self._report(reports)
        for parameter in self.frozen:
            parameter.grad = None
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        self.is_inside_step = False

    def _next_group(self) -> int:
        """Return how many batches the next update averages over."""
        if self.accumulation == 1:
            return 1
        size = min(self.accumulation, self._batches_left)
        self._batches_left -= size
        return size

    def _synchronized(self, last: bool) -> ContextManager[Any]:
        """Return a context in which processes exchange gradients only if the batch is the last."""
        if last or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _load(self) -> Tuple[Dict[str, Any], float]:
        """Return the next batch on the device, and the seconds that the step waited for it."""
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        self.is_inside_step = True
        return to_device(batch, self.device), data_time

    def _add_gradients(
        self,
        num_batches: int,
        batch: Dict[str, Any],
        data_time: float,
        weights_updated: bool = False,
        **options: Any,
    ) -> LossReport:
        """Add the gradients of one batch, divided by ``num_batches``, to the accumulated ones.

        Args:
            num_batches: batches of the update.
            batch: on the device.
            data_time: see :meth:`_load`.
            weights_updated: whether another turn has changed weights by this batch.
            options: what the model is called with besides the batch.
        """
        with self._precision():
            terms = self.model(batch, **options)
            total = sum(terms.values())
        report = LossReport(
            terms, batch, data_time, self.iter, self.stop_requested(), not weights_updated
        )
        if not self.reads_late:
            report.check(weights_updated=weights_updated)
        if num_batches > 1:
            total = total / num_batches
        if self.grad_scaler is not None:
            total = self.grad_scaler.scale(total)
        total.backward()
        return report

    def _precision(self) -> ContextManager[Any]:
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)

    def _report(self, reports: List[LossReport]) -> None:
        """Log the terms of an update or, if terms are read late, those of the update before."""
        self.finish()
        if self.reads_late:
            self._unread = reports
        else:
            log_losses(reports)
            self._note_stop(reports)

    def finish(self) -> None:
        """Check and log the terms that are still unread.

        Call it before the log is written, before an evaluation and before a checkpoint.

        Raises:
            NonFiniteError: as ``run_step``.
        """
        reports, self._unread = self._unread, []
        for report in reports:
            report.check(weights_updated=True)
        if reports:
            log_losses(reports)
            self._note_stop(reports)

    def _note_stop(self, reports: List[LossReport]) -> None:
        """Set ``stop_after``, to the same iteration in all processes, if one was asked to stop."""
        if any(report.is_last for report in reports):
            # Process 0 may read a report before the others, which have begun the next step then.
            self.stop_after = reports[0].iteration + self.reads_late


def to_device(batch: Dict[str, Any], device: torch.device) -> Dict[str, Any]:
    """Return a new batch whose tensors are on ``device``."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }
