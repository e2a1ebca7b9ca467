"""Measure what a model costs: parameters, operations, memory."""

import sys
from pathlib import Path
from typing import Any, Optional, Tuple

import torch
from torch import nn

from ..evaluation.features import evaluation_mode
from ..keypoints import standing_person
from ..modality import Modality

FlopCounterMode: Any
try:
    from torch.utils import flop_counter
except ImportError:  # PyTorch < 2.1
    FlopCounterMode = None
else:
    FlopCounterMode = flop_counter.FlopCounterMode

_MIB = 2**20
_STATUS = Path("/proc/self/status")


def count_parameters(model: nn.Module) -> Tuple[int, int]:
    """Return the numbers of all parameters and of those that require a gradient."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)


def flops_per_image(model: nn.Module, size: Tuple[int, int]) -> Optional[float]:
    """Return the floating-point operations of one test image, two for each multiply-add.

    Convolutions and matrix products are counted, for a batch of one visible and one infrared image,
    and halved.

    Args:
        model: ``model(batch)`` returns features in evaluation mode.
        size: height and width of a test image, in pixels.

    Returns:
        None if PyTorch cannot count (before 2.1).
    """
    if FlopCounterMode is None:
        return None
    device = next(model.parameters()).device
    noise = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(2, dtype=torch.int64, device=device)
    modalities = torch.tensor([Modality.VISIBLE, Modality.INFRARED], device=device)
    batch = {
        "images": (255 * noise).to(device),
        "keypoints": standing_person(2, size).to(device),
        "modalities": modalities,
        "targets": zeros,
        "camids": zeros,
        "index": torch.arange(2, device=device),
    }
    with evaluation_mode(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch)
    return counter.get_total_flops() / 2


def peak_memory(device: torch.device) -> Optional[float]:
    """Return the largest memory so far in MiB; None if the system does not say.

    On a GPU it is what PyTorch allocated; on a CPU it is the resident set of this process, without
    the processes that load images.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MIB
    return _own_peak() or _reported_peak()


def _own_peak() -> Optional[float]:
    """Return the peak of this program on Linux.

    ``getrusage`` would include the program that ran in this process before.
    """
    if not _STATUS.is_file():
        return None
    text = _STATUS.read_text(encoding="utf-8", errors="replace")
    lines = [line.split() for line in text.splitlines()]
    return next((int(line[1]) * 1024 / _MIB for line in lines if line[:1] == ["VmHWM:"]), None)


def _reported_peak() -> Optional[float]:
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MIB
