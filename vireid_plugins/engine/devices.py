"""Check the devices that a config names."""

from typing import Any

import torch

from ..errors import UserError


def check_devices(cfg: Any) -> None:
    """Raise ``UserError`` if PyTorch cannot compute on ``MODEL.DEVICE`` or on ``TEST.DEVICE``."""
    check_device(cfg.MODEL.DEVICE, "MODEL.DEVICE")
    if cfg.TEST.DEVICE:
        check_device(cfg.TEST.DEVICE, "TEST.DEVICE")


def check_device(name: str, key: str) -> None:
    """Raise ``UserError``, which names ``key``, if PyTorch cannot compute on a device."""
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"{key} is {name!r}; expected cpu, cuda, or cuda:N for the GPU number N, from 0."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"{key} is {name!r} and PyTorch {torch.__version__} sees no GPU. Add: {key} cpu"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{key} is {name!r}; PyTorch sees {torch.cuda.device_count()} GPU(s), numbered from 0."
        )
    if device.type == "cpu" and device.index:
        raise UserError(f"{key} is {name!r}; the CPU is not numbered. Add: {key} cpu")
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, NotImplementedError, AssertionError, ImportError) as error:
        raise UserError(
            f"{key} is {name!r}, on which PyTorch {torch.__version__} cannot compute here. Add: "
            f"{key} cpu"
        ) from error
