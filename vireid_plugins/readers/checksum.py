"""Checksums of the tensors in a checkpoint: one CRC-32 for each, by its name.

A checksum covers a tensor's shape, its type, and its bytes in the order of the elements. The device
and the layout in memory make no difference.
"""

import zlib
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Set, Tuple

import torch
from torch import Tensor

from ..errors import CheckpointError

CHECKSUM = "checksum"  # the entry of a checkpoint that holds the checksums of its tensors


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Return the bytes of ``tensor`` in the order of its elements."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if flat.numel() and flat.stride(0) != 1:  # one element; contiguous() keeps its other stride
        flat = flat.new_empty(flat.shape).copy_(flat)
    return flat.view(torch.uint8).numpy().data


def tensor_sums(content: Mapping[str, Any]) -> Dict[str, int]:
    """Return the checksum of each tensor in ``content``, by names such as ``"model.conv.bias"``."""
    return {
        name: _sum(tensor)
        for name, tensor in leaves(content)
        if isinstance(tensor, Tensor) and _has_bytes(tensor)
    }


def check_sums(content: Mapping[str, Any], path: str, entries: Sequence[str]) -> None:
    """Raise ``CheckpointError`` if a tensor does not match its checksum.

    A checkpoint without checksums passes, and so does one from which tensors were removed.

    Args:
        content: what the file holds.
        path: path of the file, for the message.
        entries: the entries of ``content`` whose tensors are checked.
    """
    sums = content.get(CHECKSUM)
    if sums is None:
        return
    if not isinstance(sums, Mapping):
        raise CheckpointError(
            f"{path}: its entry {CHECKSUM!r} is of the type {type(sums).__name__}; expected a "
            "dict of numbers, as training writes it. Use an intact copy of the file."
        )
    held = {entry: content[entry] for entry in entries if entry in content and entry != CHECKSUM}
    for name, tensor in leaves(held):
        if name not in sums:
            continue
        known = isinstance(tensor, Tensor) and _has_bytes(tensor)
        if known and sums[name] == _sum(tensor):
            continue
        finite = not known or bool(torch.isfinite(tensor).all())
        raise CheckpointError(
            f"{path}: {name} {'' if finite else 'holds NaN or infinite values and '}does not match "
            "its checksum: the file is damaged. Use an intact copy. If you changed the tensor on "
            f"purpose, delete the entry {CHECKSUM!r} from the dict before you save it."
        )


def leaves(content: Any) -> Iterator[Tuple[str, Any]]:
    """Yield the name and the value of everything in nested dicts, lists and tuples."""
    pending: List[Tuple[str, Any]] = [("", content)]
    seen: Set[int] = set()
    while pending:
        name, value = pending.pop()
        if not isinstance(value, (dict, list, tuple)):
            yield name, value
            continue
        if id(value) in seen:  # a dict that holds itself
            continue
        seen.add(id(value))
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, inside in reversed(items):
            pending.append((f"{name}.{key}" if name else str(key), inside))


def _has_bytes(tensor: Tensor) -> bool:
    return (
        tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type != "meta"
    )


def _sum(tensor: Tensor) -> int:
    kind = f"{tensor.dtype} {list(tensor.shape)}".encode()
    return zlib.crc32(tensor_bytes(tensor), zlib.crc32(kind))
