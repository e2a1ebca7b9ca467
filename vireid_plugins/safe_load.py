"""Load checkpoints without running code that may be in them."""

import collections
import contextlib
import pickle
import types
import zipfile
from typing import Any, Iterator

import torch

from .errors import CheckpointError, MissingFileError


def load_weights_only(file: Any, mapped: bool = False) -> Any:
    """Load a checkpoint that holds only tensors, numbers, strings, lists and dicts, on the CPU.

    Also a ``collections.Counter``, in which FastReID's checkpoints keep MultiStepLR's milestones.

    Args:
        file: path, or a file that is open for reading.
        mapped: read a tensor from the disk only when it is used, if PyTorch and the format of the
            file allow it. Use it where only a part of the file is needed, and copy what must
            outlive the file.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file cannot be read, is no checkpoint, is cut short, or holds other
            objects.
    """
    try:
        if hasattr(torch.serialization, "safe_globals"):
            with torch.serialization.safe_globals([collections.Counter]):
                mmap = mapped and isinstance(file, str) and zipfile.is_zipfile(file)
                return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
        with _restricted_pickle():
            return torch.load(file, map_location="cpu")
    except OSError as error:
        kind = MissingFileError if isinstance(error, FileNotFoundError) else CheckpointError
        raise kind(f"{file} cannot be read: {error.strerror or error}.") from error
    except Exception as error:
        reason = str(error).strip().split("\n")[0].split(". ")[0]  # PyTorch's advice is left out
        raise CheckpointError(
            f"{file} was not loaded ({type(error).__name__}: {reason}). It is not a whole "
            "PyTorch checkpoint, or it holds Python objects that could run code. If you trust "
            "it, load it yourself with weights_only=False and save its tensors: "
            "torch.save({'model': state_dict}, 'weights.pth')."
        ) from error


# What PyTorch's own safe loader allows, as far as checkpoints hold it.
_ALLOWED = {
    ("collections", "OrderedDict"),
    ("collections", "Counter"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        is_storage = module in ("torch", "torch.storage") and name.endswith("Storage")
        if (module, name) in _ALLOWED or is_dtype or is_storage:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


@contextlib.contextmanager
def _restricted_pickle() -> Iterator[None]:
    """Let ``torch.load`` read no class but the allowed ones, on PyTorch < 2.5.

    Its safe loader knows no Counter, that of 1.13 not even a float, and 1.13 ignores
    ``pickle_module``: so the module it holds is exchanged. Goes when PyTorch 2.5 is the oldest
    that is supported.
    """
    module: Any = types.ModuleType("restricted_pickle")
    module.Unpickler = _RestrictedUnpickler
    module.load = lambda file, **options: _RestrictedUnpickler(file, **options).load()
    module.UnpicklingError = pickle.UnpicklingError
    torch.serialization.pickle = module
    try:
        yield
    finally:
        torch.serialization.pickle = pickle
