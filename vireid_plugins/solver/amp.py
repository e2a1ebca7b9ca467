"""Mixed precision: whether a training uses it, in which number format, and loss scaling."""

import logging
import platform
from typing import Any, Optional

import torch
from torch import nn

from ..errors import UserError
from ..keys import Key, declare, one_of, with_values

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
AUTO = "auto"
_SCALED = torch.float16  # its small gradients vanish, unless the loss is scaled
_FAST_ON_X86 = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # in torch.cpu
_WITHOUT_GRADIENT = (nn.ReLU6, nn.Hardtanh, nn.Mish)  # in bfloat16, on a CPU, in PyTorch 1.13

declare(
    "SOLVER.AMP",
    Key(
        "DTYPE",
        "float16",
        one_of(*DTYPES, AUTO),
        "number type of mixed precision; float16 needs a GPU; auto: bfloat16 in NHWC order if the "
        "device has its instructions, or else no mixed precision",
    ),
)


def with_precision(cfg: Any) -> Any:
    """Return ``cfg`` with what ``SOLVER.AMP.DTYPE auto`` means on ``MODEL.DEVICE``, and log it.

    Where the device has instructions for bfloat16, that is mixed precision in bfloat16 and NHWC
    order, which belong together; elsewhere it is float32. Other configs are returned as they are.
    """
    if amp_name(cfg) != AUTO:
        return cfg
    device = torch.device(cfg.MODEL.DEVICE)
    name = "this GPU" if device.type == "cuda" else f"this {device.type.upper()}"
    if not has_bfloat16(device):
        logger.info("SOLVER.AMP.DTYPE auto: float32, because %s has no bfloat16 units.", name)
        return with_values(cfg, {"SOLVER.AMP.ENABLED": False, "SOLVER.AMP.DTYPE": "float16"})
    logger.info(
        "SOLVER.AMP.DTYPE auto: bfloat16 and NHWC order, because %s has bfloat16 units.", name
    )
    return with_values(cfg, {"SOLVER.AMP.DTYPE": "bfloat16", "RUNTIME.CHANNELS_LAST": True})


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


def has_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` computes in bfloat16 by instructions of its own."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and cpu_has_bfloat16()


def cpu_has_bfloat16() -> bool:
    """Return whether this CPU has instructions for bfloat16.

    oneDNN also takes bfloat16 where it has to imitate it by AVX-512; that does not count.
    """
    ask = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    if not (ask and ask()):
        return False
    own = [getattr(torch.cpu, name) for name in _FAST_ON_X86 if hasattr(torch.cpu, name)]
    if platform.machine() not in ("x86_64", "AMD64") or not own:  # own: since PyTorch 2.6
        return True
    return any(known() for known in own)
