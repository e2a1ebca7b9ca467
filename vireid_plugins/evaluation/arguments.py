"""Check single arguments of the public functions: numbers, words, switches and arrays.

Each function returns the argument as it is used inside, or raises a ``UserError`` that names the
argument, what was expected and what came. What several arguments must share, such as the number of
rows, is checked in ``ranking/arguments.py``.
"""

import math
import numbers
import operator
from typing import Any, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

MOST_PLACES = 10_000_000  # the longest CMC curve, and the most neighbors that are named
_LARGEST = 1e150  # the square of a larger float64, summed up over a row, may be infinite
_SMALLEST = 1e-150  # the square of a smaller one may be 0


def whole_number(value: Any, name: str, least: float = 1, most: Optional[int] = None) -> int:
    """Return ``value`` as an integer from ``least`` to ``most``.

    Raises:
        UserError: it is not a whole number (2.0, True and ``"2"`` are not), or out of range.
    """
    number = None
    try:
        if isinstance(value, (numbers.Integral, np.ndarray, Tensor)) and not _is_switch(value):
            number = operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        pass  # an array of floats, or of several values
    if number is None:
        raise UserError(f"{name} must be a whole number; got {shown(value)}.")
    if number < least:
        limit = f"at least {least}" if least else "0 or more"
        raise UserError(f"{name} must be {limit}; got {number}.")
    if most is not None and number > most:
        raise UserError(f"{name} must be at most {most}; got {number}.")
    return number


def real_number(value: Any, name: str, least: float, most: float = math.inf) -> float:
    """Return ``value`` as a finite float from ``least`` to ``most``.

    Raises:
        UserError: it is not a number (True and ``"0.5"`` are not), not finite, or out of range.
    """
    is_number = not _is_switch(value)
    value = value.item() if _is_scalar(value) else value
    is_number = is_number and isinstance(value, numbers.Real)
    if not is_number or not math.isfinite(value):
        raise UserError(f"{name} must be a finite number; got {shown(value)}.")
    if not least <= value <= most:
        both = f"lie between {least:g} and {most:g}"
        limits = f"be at least {least:g}" if most == math.inf else both
        raise UserError(f"{name} must {limits}; got {shown(value)}.")
    return float(value)


def switch(value: Any, name: str) -> bool:
    """Return ``value`` if it is True or False; raise ``UserError`` for everything else."""
    if not _is_switch(value):
        raise UserError(f"{name} must be True or False; got {shown(value)}.")
    return bool(value)


def word(value: Any, name: str, choices: Sequence[str]) -> str:
    """Return ``value`` if it is one of ``choices``; raise ``UserError`` for everything else."""
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"{name} must be one of {tuple(choices)}; got {shown(value)}.")
    return value


def shown(value: Any) -> str:
    """Return ``value`` for a message: an array by its shape, a long text shortened."""
    if isinstance(value, (np.ndarray, Tensor)) and not _is_scalar(value):
        nested = getattr(value, "is_nested", False)
        return "a nested tensor" if nested else f"an array of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def array_of(values: Any, name: str) -> np.ndarray:
    """Return ``values`` as a NumPy array in the machine's own byte order; tensors go to the CPU.

    Raises:
        UserError: there is no array that holds them, such as for rows of several lengths.
    """
    if isinstance(values, Tensor):
        values = dense_tensor(values, name).cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if values is None:
        raise UserError(f"{name} is None; expected an array.")
    if np.ma.is_masked(values):
        raise UserError(f"{name} has masked entries, whose values are unknown; leave them out.")
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{name} is not an array of numbers: {error}") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def dense_tensor(values: Tensor, name: str) -> Tensor:
    """Return ``values`` without its graph; raise ``UserError`` if its entries are not in memory."""
    if values.layout != torch.strided or getattr(values, "is_nested", False):
        raise UserError(f"{name} must be a dense tensor; got {values.layout}.")
    if values.device.type == "meta" or values.is_quantized:
        raise UserError(f"{name} must hold numbers; got {values.dtype} on {values.device}.")
    return values.detach().resolve_neg()


def real_tensor(values: Any, name: str) -> Tensor:
    """Return a two-dimensional array of real numbers as a float32 or float64 tensor.

    Half precision is raised to float32; integers and booleans to float64. The tensor may share the
    memory of ``values``.

    Raises:
        UserError: ``values`` holds anything else, or is not two-dimensional.
    """
    if isinstance(values, Tensor):
        tensor = dense_tensor(values, name)
    else:
        tensor = _tensor_of_array(array_of(values, name), name)
    if tensor.dim() != 2:
        raise UserError(f"{name} must be two-dimensional (N, D); got shape {tuple(tensor.shape)}.")
    if tensor.is_complex():
        raise UserError(f"{name} must hold real numbers; got {tensor.dtype}.")
    if not tensor.is_floating_point():
        return tensor.double()
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _tensor_of_array(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.kind not in "fiub":
        raise UserError(
            f"{name} must hold real numbers; got {array.dtype}. An array of numbers is made by "
            "np.asarray(values, dtype=np.float32)."
        )
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if min(array.strides, default=0) < 0:  # PyTorch has no negative strides
        array = array.copy()
    return torch.as_tensor(array)


def device_named(device: Any, name: str = "device") -> torch.device:
    """Return a device such as ``"cuda:1"``; raise ``UserError`` if PyTorch knows no such device."""
    try:
        return torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{name} must be a device such as 'cpu' or 'cuda'; {first}") from error


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Return ``values`` on ``device``.

    Raises:
        UserError: this machine, or this PyTorch, has no such device.
    """
    if device.type == "meta":
        raise UserError("device is 'meta', which holds no numbers; use 'cpu' or 'cuda'.")
    try:
        return values.to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"device {str(device)!r} cannot be used here: {first}") from error


def check_magnitudes(features: Tensor, name: str) -> None:
    """Raise ``UserError`` if squares of float64 features (N, D) would be infinite or vanish.

    Float32 features are squared in float64, so every value fits.
    """
    if features.dtype != torch.float64 or features.numel() == 0:
        return
    greatest = torch.linalg.vector_norm(features, float("inf"), dim=1)
    strange = (greatest > _LARGEST) | ((greatest < _SMALLEST) & (greatest > 0))
    if bool(strange.any()):
        row = int(strange.nonzero()[0])
        raise UserError(
            f"{name} row {row} has values up to {float(greatest[row]):g}, which cannot be squared "
            "in float64; divide all features by one number."
        )


def _is_switch(value: Any) -> bool:
    if _is_scalar(value):
        return value.dtype in (np.bool_, torch.bool)
    return isinstance(value, (bool, np.bool_))


def _is_scalar(value: Any) -> bool:
    """Return whether ``value`` is an array or a tensor without dimensions."""
    if not isinstance(value, (np.ndarray, Tensor)) or getattr(value, "is_nested", False):
        return False
    return value.ndim == 0
