"""Read checkpoints without running code that may be in them, and verify what they hold."""

import collections
import contextlib
import pickle
import types
from typing import Any, Dict, Iterator, Optional, Sequence

import torch

from ..errors import CheckpointError, MissingFileError, without_colors
from .allowed import ForbiddenObjectError, check_allowed
from .archive import check_archive, check_legacy
from .checksum import CHECKSUM, check_sums
from .container import ZIP, container_of
from .numpy_values import stand_in_for, stand_ins, with_tensors
from .text import is_utf8, shown


def read_checkpoint(path: str, entries: Optional[Sequence[str]] = None) -> Dict[str, Any]:
    """Return what a checkpoint holds: a dict of tensors, numbers, strings, lists and dicts.

    Tensors are on the CPU. A ``collections.Counter`` is allowed too, because FastReID's checkpoints
    keep the milestones of MultiStepLR in one; and numbers, strings and arrays of NumPy, in which
    training scripts save their results: they become numbers, strings and tensors.

    Args:
        path: path of the file, as ``torch.save`` writes it.
        entries: names of the entries whose tensors will be used; None: all. Only these are
            verified. If PyTorch and the file format allow it, the other tensors stay on the disk:
            copy a tensor that you need after the file is closed or deleted.

    Raises:
        MissingFileError: there is no such file.
        CheckpointError: the file cannot be read, is damaged or truncated, is not a checkpoint,
            holds other objects, or is not a dict whose keys are strings.
    """
    try:
        content = _read(path, entries)
    except (CheckpointError, MissingFileError):
        raise
    except OSError as error:
        kind = MissingFileError if isinstance(error, FileNotFoundError) else CheckpointError
        raise kind(f"{shown(path)} cannot be read: {error.strerror or error}.") from error
    except ForbiddenObjectError as error:
        raise CheckpointError(
            f"{path} was not loaded: it holds {error}. Expected only plain tensors, numbers, "
            "strings, lists and dicts, since other objects could run code. If you trust the file, "
            "load it yourself with weights_only=False and save its tensors: "
            "torch.save({'model': state_dict}, 'weights.pth')."
        ) from error
    except Exception as error:  # PyTorch and pickle raise errors of many types for a damaged file
        # without the colors and the advice of PyTorch
        reason = without_colors(str(error)).strip().split("\n")[0].split(". ")[0]
        raise CheckpointError(
            f"{path} was not loaded ({type(error).__name__}: {reason}). It is damaged, or not a "
            "PyTorch checkpoint. Use an intact copy of it."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds an object of the type {type(content).__name__}; expected a dict of "
            "weights by their names. Save one: torch.save({'model': model.state_dict()}, PATH)."
        )
    strange = [key for key in content if not isinstance(key, str)]
    if strange:
        raise CheckpointError(
            f"{path} has an entry named {strange[0]!r}, of the type {type(strange[0]).__name__}; "
            "expected names that are strings. Save the dict with such names."
        )
    check_sums(content, path, list(content) if entries is None else entries)
    return content


def _read(path: str, entries: Optional[Sequence[str]]) -> Any:
    zipped = container_of(path) == ZIP
    if zipped:
        check_archive(path, None if entries is None else [*entries, CHECKSUM])
    else:
        check_legacy(path)
    if hasattr(torch.serialization, "safe_globals"):
        with torch.serialization.safe_globals([collections.Counter, *stand_ins()]):
            # PyTorch can map only a file whose name is UTF-8
            mapped = zipped and entries is not None and is_utf8(path)
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            return with_tensors(content)
    with _restricted_pickle():
        return with_tensors(torch.load(path, map_location="cpu"))


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        stand_in = stand_in_for(module, name)
        if stand_in is not None:
            return stand_in
        check_allowed(module, name)
        return super().find_class(module, name)


@contextlib.contextmanager
def _restricted_pickle() -> Iterator[None]:
    """Let ``torch.load`` of PyTorch < 2.5 read the allowed classes and no others.

    The safe loader of these versions does not accept a Counter, and that of 1.13 not even a float.
    PyTorch 1.13 ignores ``pickle_module``, so the module that it imported is replaced. Delete this
    when PyTorch 2.5 is the oldest supported version.
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
