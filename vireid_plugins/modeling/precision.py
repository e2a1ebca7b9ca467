"""Keep sums that overflow half precision in float32, also under autocast."""

import contextlib
from typing import Any, ContextManager

import torch
from torch import Tensor


def raised(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def without_autocast(tensor: Tensor) -> ContextManager[Any]:
    """A context in which products of ``tensor`` keep its own precision."""
    device_type = tensor.device.type
    if device_type not in ("cpu", "cuda"):  # PyTorch 1.13 knows autocast on these only
        return contextlib.nullcontext()
    return torch.autocast(device_type, enabled=False)
