"""Check the arguments of the public functions, with messages that name both sides."""

from typing import Optional, Sequence, Union

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..rules import Labels, RankRules
from ..similarity import Array

Device = Union[str, torch.device, None]


def device_of(device: Device, *features: Array) -> torch.device:
    """Return ``device``; if it is None, the device of the first tensor, or else the CPU."""
    if device is not None and str(device):
        return torch.device(device)
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


def _integers(values: Union[Array, Sequence[int]], name: str, length: int, of: str) -> np.ndarray:
    array = _to_numpy(values)
    if array.ndim != 1 or len(array) != length:
        raise UserError(
            f"{name} has shape {array.shape}, but {of} has {length} rows; expected ({length},)."
        )
    if array.size and not np.can_cast(array.dtype, np.int64, casting="same_kind"):
        raise UserError(f"{name} must hold integers; got {array.dtype}.")
    return array.astype(np.int64)


def rows_of(values: Optional[Array], name: str, length: int) -> np.ndarray:
    """Return row numbers as int64; None stands for all ``length`` rows.

    Raises:
        UserError: a number is out of range.
    """
    if values is None:
        return np.arange(length)
    rows = _to_numpy(values).astype(np.int64, copy=False).reshape(-1)
    if len(rows) and not (0 <= rows.min() and rows.max() < length):
        raise UserError(
            f"{name} holds row numbers from {rows.min()} to {rows.max()}; there are {length} rows."
        )
    return rows


def _to_numpy(values: Union[Array, Sequence[int]]) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
