"""Check the weights in a checkpoint before they are used."""

from typing import Any, Dict, Mapping, Tuple

import torch
from torch import Tensor

from ..errors import CheckpointError
from .checksum import leaves

#: names under which programs keep the weights of a model
WRAPPERS = ("model", "state_dict", "model_state", "model_state_dict", "net", "teacher")
_REMEDY = "Use an intact copy of the file, or another checkpoint."
_DDP = "module."  # what DistributedDataParallel and DataParallel put before each name


def tensors_in(content: Mapping[str, Any]) -> Dict[str, Tensor]:
    """Return the tensors of a network that a checkpoint holds, under the network's own names.

    They may stand at the top or in one of :data:`WRAPPERS`, also nested, and have ``module.`` of
    DDP before all of their names.

    Args:
        content: what the checkpoint holds; it may hold other things beside them.
    """
    held: Mapping[str, Any] = content
    for wrapper in WRAPPERS:
        if isinstance(held.get(wrapper), Mapping):
            held = held[wrapper]
    tensors = {
        name: value
        for name, value in held.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    return without_ddp(tensors)


def shapes_of(tensors: Mapping[str, Tensor]) -> Dict[str, Tuple[int, ...]]:
    """Return the shape of each tensor by its name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def without_ddp(tensors: Mapping[str, Tensor]) -> Dict[str, Tensor]:
    """Return tensors by their names without ``module.``, if all names begin with it."""
    if all(name.startswith(_DDP) for name in tensors):
        return {name[len(_DDP) :]: value for name, value in tensors.items()}
    return dict(tensors)


def check_weights(weights: Any, where: str) -> Dict[str, Tensor]:
    """Return weights by their names, without the ``module.`` that DDP puts before each of them.

    Args:
        weights: what the checkpoint holds.
        where: the file and the place in it, for messages.

    Raises:
        CheckpointError: they are not a dict of tensors, or a tensor holds NaN, infinite values or
            numbers of a kind that no weights have.
    """
    if not isinstance(weights, Mapping) or not weights:
        what = "nothing" if isinstance(weights, Mapping) else f"a {type(weights).__name__}"
        raise CheckpointError(f"{where}: expected tensors by their names, found {what}. {_REMEDY}")
    for name, value in weights.items():
        if not isinstance(name, str):
            raise CheckpointError(
                f"{where}: expected names of tensors, found {name!r}, of the type "
                f"{type(name).__name__}. {_REMEDY}"
            )
        _check_kind(value, f"{where}: {name}")
    check_finite(weights, where)
    return without_ddp(weights)


def _check_kind(value: Any, where: str) -> None:
    if not isinstance(value, Tensor):
        raise CheckpointError(
            f"{where}: expected a tensor, found an object of the type {type(value).__name__}. "
            f"{_REMEDY}"
        )
    odd = next(
        (
            word
            for word, is_so in (
                ("sparse", value.layout != torch.strided),
                ("quantized", value.is_quantized),
                ("complex", value.is_complex()),
                ("without values (on the device 'meta')", value.device.type == "meta"),
            )
            if is_so
        ),
        "",
    )
    if odd:
        raise CheckpointError(
            f"{where} is {odd}. Expected an ordinary tensor of real numbers; convert it, and save "
            "the weights again."
        )


def check_kinds(own: Mapping[str, Tensor], held: Mapping[str, Tensor], where: str) -> None:
    """Raise ``CheckpointError`` if tensors of a file are of a kind that a model cannot take over.

    Args:
        own: tensors of the model.
        held: tensors of the file, under the same names; others are passed over.
        where: the file, for the message.
    """
    for name, value in held.items():
        if name not in own or own[name].dtype == value.dtype:
            continue
        if own[name].is_floating_point() and not value.is_floating_point():
            raise CheckpointError(
                f"{where}: {name} holds numbers of the type {value.dtype}, which is not the kind "
                f"of the model's {own[name].dtype}. Use a file with its real weights."
            )
        check_finite({name: value.to(own[name].dtype)}, where)  # the new type may be too small


def check_finite(content: Any, where: str) -> None:
    """Raise ``CheckpointError`` if a tensor holds NaN or infinite values, or a negative variance.

    Args:
        content: dicts and lists of tensors and of other values, which are passed over.
        where: the file and the place in it, for the message.
    """
    for name, value in leaves(content):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            continue
        if not bool(torch.isfinite(value.sum())):  # fast; finite only if every element is
            count = int((~torch.isfinite(value)).sum())
            if count:
                raise CheckpointError(
                    f"{where}: {name} holds NaN or infinite values ({count} of {value.numel()}). "
                    "The training diverged, or the file was changed. Use an earlier checkpoint."
                )
        if name.endswith("running_var") and bool((value < 0).any()):
            raise CheckpointError(
                f"{where}: {name} holds negative values, which no variance has. {_REMEDY}"
            )
