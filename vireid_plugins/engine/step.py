"""One training step, in any precision and on any device, that stops on a bad loss."""

import contextlib
import logging
import time
from typing import Any, Dict, List

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastreid.engine.train_loop import SimpleTrainer

from ..errors import UserError
from ..keys import Key, declare, one_of
from .loss_report import LossReport, log_losses

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}

declare(
    "SOLVER.AMP",
    Key("DTYPE", "float16", one_of(*DTYPES), "mixed precision; bfloat16 also on a CPU that has it"),
)


class StepTrainer(SimpleTrainer):
    """Takes the place of FastReID's ``SimpleTrainer`` and ``AMPTrainer``.

    Args:
        model: batch to named loss terms.
        data_loader: one pass over it is one epoch.
        optimizer: over the model's parameters.
        amp: None, ``"float16"`` or ``"bfloat16"``.
        accumulation: batches whose gradients are averaged before each update; the last update of
            an epoch takes what is left. Above 1 the loader has a length.

    Raises:
        ValueError: a precision that is unknown or that the device does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        amp: Any = None,
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
        self._batches_left = 0  # of the epoch; counted where gradients are accumulated
        self.amp_dtype = _amp_dtype(amp, self.device)
        self.grad_scaler = _grad_scaler() if self.amp_dtype is torch.float16 else None
        self.reads_late = self.device.type != "cpu"  # see loss_report.py
        self._unread: List[LossReport] = []

    def start_epoch(self, epoch: int) -> None:
        """Begin the pass over the data that belongs to ``epoch``."""
        self.data_loader.batch_sampler.set_epoch(epoch)
        self._data_loader_iter = iter(self.data_loader)
        if self.accumulation > 1:
            self._batches_left = len(self.data_loader)

    def run_step(self) -> None:
        """Load batches, compute losses and gradients, update the weights once.

        Raises:
            NonFiniteError: a loss term is not finite; names it and the images. Where terms
                are read late (``reads_late``), those of the step before.
        """
        num_batches = self._next_group()
        self.optimizer.zero_grad(set_to_none=True)
        reports = []
        for place in range(num_batches):
            with self._synchronised(place == num_batches - 1):
                reports.append(self._add_gradients(num_batches))
        self._report(reports)
        for parameter in self.frozen:
            parameter.grad = None
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()

    def _next_group(self) -> int:
        """How many batches the next update is made of."""
        if self.accumulation == 1:
            return 1
        size = min(self.accumulation, self._batches_left)
        self._batches_left -= size
        return size

    def _synchronised(self, last: bool) -> Any:
        """Processes exchange gradients once for each update, in its last backward pass."""
        if last or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _add_gradients(self, num_batches: int) -> LossReport:
        """Add to the gradients those of one batch, divided by ``num_batches``."""
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        batch = to_device(batch, self.device)
        with self._precision():
            terms = self.model(batch)
            total = sum(terms.values())
        report = LossReport(terms, batch, data_time, self.iter)
        if not self.reads_late:
            report.check(taken_up=False)
        if num_batches > 1:
            total = total / num_batches
        if self.grad_scaler is not None:
            total = self.grad_scaler.scale(total)
        total.backward()
        return report

    def _precision(self) -> Any:
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)

    def _report(self, reports: List[LossReport]) -> None:
        """Log the batches of an update; where terms are read late, those of the one before."""
        self.finish()
        if self.reads_late:
            self._unread = reports
        else:
            log_losses(reports)

    def finish(self) -> None:
        """Read the terms that are still unread: before the log, an evaluation or a checkpoint.

        Raises:
            NonFiniteError: as ``run_step``.
        """
        reports, self._unread = self._unread, []
        for report in reports:
            report.check(taken_up=True)
        if reports:
            log_losses(reports)


def to_device(batch: Dict[str, Any], device: torch.device) -> Dict[str, Any]:
    """A new batch whose tensors are on ``device``."""
    return {
        key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for key, value in batch.items()
    }


def _amp_dtype(name: Any, device: torch.device) -> Any:
    if name is None:
        return None
    if name not in DTYPES:
        raise UserError(f"SOLVER.AMP.DTYPE is {name!r}; expected one of {sorted(DTYPES)}.")
    if name == "float16" and device.type == "cpu":
        raise UserError(
            "SOLVER.AMP.DTYPE float16 needs a GPU; on the CPU set SOLVER.AMP.DTYPE bfloat16, or "
            "SOLVER.AMP.ENABLED False."
        )
    if device.type == "cpu" and not _cpu_has_bfloat16():
        logger.warning("This CPU has no bfloat16 instructions: bfloat16 will be slow on it.")
    return DTYPES[name]


def _cpu_has_bfloat16() -> bool:
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(ask and ask())


def _grad_scaler() -> Any:
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda")
    return torch.cuda.amp.GradScaler()  # PyTorch < 2.3
