"""Keep sums that overflow half precision in float32, also under autocast."""

import contextlib
from typing import Any, ContextManager

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """Return a float16 or bfloat16 tensor as float32; leave float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def without_autocast(tensor: Tensor) -> ContextManager[Any]:
    """Return a context in which autocast is off, so products of ``tensor`` keep its precision."""
    device_type = tensor.device.type
    if device_type not in ("cpu", "cuda"):  # PyTorch 1.13 knows autocast on these only
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)
