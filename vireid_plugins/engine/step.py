"""One training step, in any precision and on any device, that stops on a bad loss."""

import contextlib
import logging
import time
from typing import Any, Dict, List

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastreid.engine.train_loop import SimpleTrainer
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class StepTrainer(SimpleTrainer):
    """Takes the place of FastReID's ``SimpleTrainer`` and ``AMPTrainer``.

    Args:
        model: batch to named loss terms.
        data_loader: one pass over it is one epoch.
        optimizer: over the model's parameters.
        amp: None, ``"float16"`` or ``"bfloat16"``.

    Raises:
        ValueError: a precision that is unknown or that the device does not have.
    """

    def __init__(
        self, model: nn.Module, data_loader: Any, optimizer: torch.optim.Optimizer, amp: Any = None
    ) -> None:
        model.train()
        self.model = model
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.device = next(model.parameters()).device
        self.frozen: List[nn.Parameter] = []  # these get no gradient; see hooks.FreezeLayers
        self.iter = 0
        self._data_loader_iter: Any = iter(())
        self.amp_dtype = _amp_dtype(amp, self.device)
        self.grad_scaler = _grad_scaler() if self.amp_dtype is torch.float16 else None

    def start_epoch(self, epoch: int) -> None:
        """Begin the pass over the data that belongs to ``epoch``."""
        self.data_loader.batch_sampler.set_epoch(epoch)
        self._data_loader_iter = iter(self.data_loader)

    def run_step(self) -> None:
        """Load a batch, compute the losses and their gradients, update the weights.

        Raises:
            FloatingPointError: a loss term is not finite; names it and the images.
        """
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        batch = to_device(batch, self.device)
        with self._precision():
            terms = self.model(batch)
            total = sum(terms.values())
        self._report(terms, batch, data_time)
        self.optimizer.zero_grad(set_to_none=True)
        if self.grad_scaler is None:
            total.backward()
        else:
            self.grad_scaler.scale(total).backward()
        for parameter in self.frozen:
            parameter.grad = None
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()

    def _precision(self) -> Any:
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)

    def _report(self, terms: Dict[str, Tensor], batch: Dict[str, Any], data_time: float) -> None:
        """Log the terms, averaged over all processes, or stop if one of them is not finite."""
        local = torch.stack([term.detach().float() for term in terms.values()])
        mean = local.clone()
        if comm.get_world_size() > 1:
            dist.all_reduce(mean)
            mean /= comm.get_world_size()
        values = dict(zip(terms, mean.tolist()))
        if not torch.isfinite(mean).all():
            raise FloatingPointError(self._bad_loss(dict(zip(terms, local.tolist())), batch))
        if comm.is_main_process():
            storage = get_event_storage()
            storage.put_scalar("data_time", data_time)
            storage.put_scalar("images_seen", len(batch["images"]) * comm.get_world_size())
            storage.put_scalar("total_loss", sum(values.values()))
            if len(values) > 1:
                storage.put_scalars(**values)

    def _bad_loss(self, values: Dict[str, float], batch: Dict[str, Any]) -> str:
        bad = [name for name, value in values.items() if not abs(value) < float("inf")]
        if not bad:
            return f"A loss became infinite or NaN at iteration {self.iter} on another process."
        paths = batch.get("img_paths", [])
        return (
            f"{' and '.join(bad)} became infinite or NaN at iteration {self.iter} (all terms: "
            f"{values}). Weights are those of the step before; nothing was saved. Lower "
            "SOLVER.BASE_LR, lengthen SOLVER.WARMUP_EPOCHS, set SOLVER.CLIP_GRADIENTS.ENABLED "
            "True, or look at the images of this batch:\n  " + "\n  ".join(map(str, paths))
        )


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
        raise ValueError(f"SOLVER.AMP.DTYPE is {name!r}; expected one of {sorted(DTYPES)}.")
    if name == "float16" and device.type == "cpu":
        raise ValueError(
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
