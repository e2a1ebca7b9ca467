"""Mixed precision: whether a training uses it, in which number format, and loss scaling."""

import logging
from typing import Any, Optional

import torch
from torch import nn

from ..errors import UserError
from ..keys import Key, declare, one_of

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_SCALED = torch.float16  # its small gradients vanish, unless the loss is scaled
_WITHOUT_GRADIENT = (nn.ReLU6, nn.Hardtanh, nn.Mish)  # in bfloat16, on a CPU, in PyTorch 1.13

declare(
    "SOLVER.AMP",
    Key("DTYPE", "float16", one_of(*DTYPES), "number type of mixed precision; float16 needs a GPU"),
)


def amp_name(cfg: Any) -> Optional[str]:
    """Return the number format that ``SOLVER.AMP`` asks for; None without mixed precision."""
    return cfg.SOLVER.AMP.DTYPE if cfg.SOLVER.AMP.ENABLED else None


def amp_dtype(name: Optional[str], device: torch.device) -> Optional[torch.dtype]:
    """Return the number format of the forward pass on ``device``; None means that of the weights.

    Raises:
        UserError: the format is unknown, or the device does not have it.
    """
    check_amp(name, device)
    if name is None:
        return None
    if device.type == "cpu" and not cpu_has_bfloat16():
        logger.warning("This CPU has no bfloat16 instructions: bfloat16 will be slow on it.")
    return DTYPES[name]


def check_amp(name: Optional[str], device: torch.device) -> None:
    """Raise ``UserError`` if the number format ``name`` is unknown, or ``device`` lacks it."""
    if name is None:
        return
    if name not in DTYPES:
        raise UserError(f"SOLVER.AMP.DTYPE is {name!r}; expected one of {sorted(DTYPES)}.")
    if name == "float16" and device.type == "cpu":
        raise UserError(
            "SOLVER.AMP.DTYPE float16 needs a GPU; on the CPU set SOLVER.AMP.DTYPE bfloat16, or "
            "SOLVER.AMP.ENABLED False."
        )


def check_gradients(model: nn.Module, dtype: Optional[torch.dtype]) -> None:
    """Raise ``UserError`` if PyTorch has no gradient of one of the model's activations on a CPU.

    Can be deleted when PyTorch 1.13 is no longer supported.

    Args:
        model: the network.
        dtype: number format of the forward pass; None: that of the weights, which has them all.
    """
    used = {type(module) for module in model.modules()} if dtype is not None else set()
    for kind in [kind for kind in _WITHOUT_GRADIENT if kind in used]:
        values = torch.ones(1, dtype=dtype, requires_grad=True)
        try:
            kind()(values).sum().backward()
        except RuntimeError as error:
            raise UserError(
                "This model cannot be trained with SOLVER.AMP.DTYPE bfloat16 on a CPU: PyTorch "
                f"{torch.__version__} lacks the gradient of {kind.__name__} ({error}). Set "
                "SOLVER.AMP.ENABLED False, or use PyTorch 2."
            ) from error


def is_scaled(name: Optional[str]) -> bool:
    """Return whether the loss is scaled in the number format ``name``, see ``amp_name``."""
    return name is not None and DTYPES[name] is _SCALED


def build_grad_scaler(dtype: Optional[torch.dtype]) -> Any:
    """Return the scaler that keeps float16 gradients from vanishing; None for other formats."""
    if dtype is not _SCALED:
        return None
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda")
    return torch.cuda.amp.GradScaler()  # PyTorch < 2.3


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU has instructions for bfloat16."""
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(ask and ask())
