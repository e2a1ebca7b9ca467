"""List what the pickle in a checkpoint may name: plain tensors and containers, no code.

The list is the part of PyTorch's own safe list that checkpoints need.
"""

import pickle

import torch

_ALLOWED = {
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch.nn.parameter", "Parameter"),  # of PyTorch < 0.4, as in files of torchvision
}
# classes of memory -> bytes of an element
STORAGES = {
    "BFloat16Storage": 2,
    "BoolStorage": 1,
    "ByteStorage": 1,
    "CharStorage": 1,
    "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8,
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "IntStorage": 4,
    "LongStorage": 8,
    "ShortStorage": 2,
    "UntypedStorage": 1,
}


class ForbiddenObjectError(pickle.UnpicklingError):
    """A pickle names something other than plain tensors and containers."""


def is_dtype(module: str, name: str) -> bool:
    """Return whether ``module.name`` is a number type of PyTorch."""
    return module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)


def is_storage(module: str, name: str) -> bool:
    """Return whether ``module.name`` is a class for the memory of tensors."""
    return module in ("torch", "torch.storage") and name in STORAGES


def check_allowed(module: str, name: str) -> None:
    """Raise ``ForbiddenObjectError`` if a pickle must not name ``module.name``."""
    if not ((module, name) in _ALLOWED or is_dtype(module, name) or is_storage(module, name)):
        raise ForbiddenObjectError(f"{module}.{name}")
