"""Check the arguments of the public functions, with messages that name both sides."""

import numbers
from typing import Any, List, Sequence, Union

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..arguments import array_of, device_named, shown
from ..rules import Labels, RankRules
from ..similarity import Array

Device = Union[str, torch.device, None]


def device_of(device: Device, *features: Any) -> torch.device:
    """Return ``device``; if it is None, the device of the first tensor, or else the CPU.

    Raises:
        UserError: PyTorch knows no such device.
    """
    if device is not None and str(device):
        return device_named(device)
    tensors = [item for item in features if isinstance(item, Tensor)]
    return tensors[0].device if tensors else torch.device("cpu")


def labels_of(
    targets: Union[Array, Sequence[int]],
    camids: Union[Array, Sequence[int], None],
    length: int,
    of: str,
    rules: RankRules,
    prefix: str = "",
) -> Labels:
    """Return the labels of ``length`` images as int64.

    Args:
        targets: (length,) identities.
        camids: (length,) camera numbers; None only if ``rules`` need none.
        length: the number of images.
        of: the name of what has that length, for the message.
        rules: decide whether cameras are needed.
        prefix: the beginning of the arguments' names in messages, such as ``"query_"``.

    Raises:
        UserError: a length differs, labels are not integers, or needed cameras are missing.
    """
    checked = _integers(targets, f"{prefix}targets", length, of)
    if camids is not None:
        return Labels(checked, _integers(camids, f"{prefix}camids", length, of))
    if rules.needs_cameras:
        raise UserError(
            f"{prefix}camids is missing, but skip_camera_pairs={rules.skip_camera_pairs} and "
            f"skip_same_camera={rules.skip_same_camera} need camera numbers."
        )
    return Labels(checked)


def _integers(values: Any, name: str, length: int, of: str) -> np.ndarray:
    array = integers(values, name)
    if array.shape != (length,):
        raise UserError(
            f"{name} has shape {array.shape}, but {of} has {length} rows; expected ({length},)."
        )
    return array


def integers(values: Any, name: str) -> np.ndarray:
    """Return an array of labels as int64, in its own shape.

    Raises:
        UserError: a label is not an integer, or does not fit into 64 bits.
    """
    array = array_of(values, name)
    if array.size == 0 and array.dtype.kind in "fiub":  # an empty list makes float64
        return array.astype(np.int64)
    if array.dtype.kind == "O" and all(_is_integer(value) for value in array.flat):
        _refuse_long(max(array.flat, key=abs), name)
    elif array.dtype.kind not in "iub":
        raise UserError(
            f"{name} must hold integers; got {array.dtype}. Words and other numbers become "
            "integers by np.unique(labels, return_inverse=True)[1]."
        )
    if array.dtype.kind == "u":
        _refuse_long(int(array.max()), name)
    return array.astype(np.int64)


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _refuse_long(label: int, name: str) -> None:
    if not -(2**63) <= label < 2**63:
        raise UserError(
            f"{name} holds {label}, which does not fit into 64 bits. Renumber the labels: "
            "np.unique(labels, return_inverse=True)[1]."
        )


def rows_of(values: Any, name: str, length: int) -> np.ndarray:
    """Return row numbers (R,) as int64; None stands for all ``length`` rows.

    Raises:
        UserError: they are not row numbers, or a number is out of range.
    """
    if values is None:
        return np.arange(length)
    if array_of(values, name).dtype.kind == "b":
        raise UserError(f"{name} must hold row numbers; got a mask: use np.flatnonzero(mask).")
    rows = integers(values, name)
    if rows.ndim != 1:
        raise UserError(f"{name} must be a list of row numbers; got shape {rows.shape}.")
    if len(rows) and not (0 <= rows.min() and rows.max() < length):
        raise UserError(
            f"{name} holds row numbers from {rows.min()} to {rows.max()}; there are {length} rows."
        )
    return rows


def check_rules(rules: Any) -> None:
    """Raise ``UserError`` unless ``rules`` are ``RankRules``."""
    if not isinstance(rules, RankRules):
        raise UserError(f"rules must be RankRules; got {shown(rules)}.")


def trials_of(trials: Any) -> List[Any]:
    """Return trials as a list; raise ``UserError`` unless each has ``query`` and ``gallery``."""
    try:
        found = list(trials)
    except (TypeError, RuntimeError):  # a nested tensor raises RuntimeError
        raise UserError(f"trials must be a list of trials; got {shown(trials)}.") from None
    for number, trial in enumerate(found):
        for name in ("query", "gallery"):
            if getattr(trial, name, None) is None:
                raise UserError(f"trials[{number}] has no {name}: row numbers of the features.")
    return found
