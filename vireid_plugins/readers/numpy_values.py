"""Read the numbers and arrays of NumPy in a pickle, without any code of NumPy's unpickling.

Training scripts save their results beside the weights: ``{"net": ..., "mAP": numpy.float64}``. A
pickle builds such values by calls to a few functions of NumPy. Harmless stand-ins take their place
here: a scalar becomes a number or a string of Python, and an array a tensor.
"""

from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import numpy as np
import torch

from .allowed import ForbiddenObjectError

_NUMBERS = {f"{kind}{size}" for kind in "fiu" for size in (2, 4, 8)} - {"i2", "u2"} | {
    *("i1", "u1", "i2", "u2", "b1")
}
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # of NumPy 1 and of NumPy 2


class _Dtype:
    """The type of numbers, such as ``f8``, or of text, such as ``U5``."""

    def __init__(self, code: str, *_: Any) -> None:
        is_text = isinstance(code, str) and code[:1] == "U" and code[1:].isdecimal()
        if code not in _NUMBERS and not is_text:
            raise ForbiddenObjectError(f"NumPy values of the type {str(code)[:20]!r}")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        """Take over the order of the bytes; refuse what only structured types have."""
        if len(state) < 5 or any(one is not None for one in state[2:5]):
            raise ForbiddenObjectError("NumPy values of a structured type")
        self.order = ">" if state[1] == ">" else "<"

    def read(self, content: Any) -> np.ndarray:
        """Return the values whose bytes are ``content``, (values,)."""
        data = content.encode("latin1") if isinstance(content, str) else content
        size = int(self.code[1:]) * (4 if self.code[0] == "U" else 1)
        if not isinstance(data, bytes) or not size or len(data) % size:
            raise ForbiddenObjectError("NumPy values without the bytes that their type needs")
        return np.frombuffer(data, f"{self.order}{self.code}")


class _Array:
    """An array; its values come by ``__setstate__``."""

    def __init__(self) -> None:
        self.tensor = torch.empty(0)

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        """Read the values: ``(version, shape, dtype, is_fortran, bytes)``."""
        shape, dtype, is_fortran, content = state[-4:]
        if not isinstance(dtype, _Dtype) or dtype.code[0] == "U" or not isinstance(content, bytes):
            raise ForbiddenObjectError("a NumPy array of other values than numbers")
        values = dtype.read(content)
        if any(not isinstance(size, int) or size < 0 for size in shape) or (
            int(np.prod(shape, dtype=object)) != values.size
        ):
            raise ForbiddenObjectError("a NumPy array without the bytes that its shape needs")
        values = values.reshape(shape, order="F" if is_fortran else "C")
        if dtype.code in ("u2", "u4", "u8"):  # older versions of PyTorch have no such types
            values = values.astype(np.int64)
        native = values.dtype.newbyteorder("=")
        self.tensor = torch.from_numpy(np.array(values, native, order="C"))  # a copy


def _scalar(dtype: Any, content: Any = None) -> Any:
    """Return a number or a string of Python."""
    values = dtype.read(content) if isinstance(dtype, _Dtype) else np.empty(0)
    if values.size != 1:
        raise ForbiddenObjectError("a NumPy scalar without the bytes that its type needs")
    return values[0].item()


def _new_array(*_: Any) -> _Array:
    """Return an empty array; the arguments are a class, a shape and a type that are replaced."""
    return _Array()


def _encode(text: str, encoding: str = "") -> bytes:
    """Return bytes, which pickles of protocol 2 write as text in Latin-1."""
    if encoding != "latin1":
        raise ForbiddenObjectError(f"text in the encoding {str(encoding)[:20]!r}")
    return text.encode(encoding)


def _no_bytes(*content: Any) -> bytes:
    """Return no bytes, which pickles of protocol 2 write as a call without arguments."""
    if content:
        raise ForbiddenObjectError("bytes that are made from something else")
    return b""


def _named(stand_in: Any, module: str, name: str) -> Any:
    """Give a stand-in the name by which a pickle, and ``safe_globals``, find what it replaces."""
    if not isinstance(stand_in, type):
        function: Callable[..., Any] = stand_in

        def stand_in(*arguments: Any) -> Any:
            return function(*arguments)

    stand_in.__module__, stand_in.__name__, stand_in.__qualname__ = module, name, name
    return stand_in


_STAND_INS: Dict[Tuple[str, str], Any] = {
    ("numpy", "dtype"): _named(_Dtype, "numpy", "dtype"),
    ("numpy", "ndarray"): _named(_Array, "numpy", "ndarray"),
    ("_codecs", "encode"): _named(_encode, "_codecs", "encode"),
}
for _module in ("builtins", "__builtin__"):  # of Python 3 and of Python 2
    _STAND_INS[_module, "bytes"] = _named(_no_bytes, _module, "bytes")
for _module in _MODULES:
    _STAND_INS[_module, "scalar"] = _named(_scalar, _module, "scalar")
    _STAND_INS[_module, "_reconstruct"] = _named(_new_array, _module, "_reconstruct")


def stand_in_for(module: str, name: str) -> Optional[Any]:
    """Return what replaces ``module.name``, a function or class of NumPy; None: nothing does."""
    return _STAND_INS.get((module, name))


def stand_ins() -> List[Any]:
    """Return all stand-ins, for ``torch.serialization.safe_globals``."""
    return list(_STAND_INS.values())


def with_tensors(content: Any, seen: Optional[Set[int]] = None) -> Any:
    """Return ``content``, in whose dicts, lists and tuples each array has become a tensor.

    A type of numbers becomes its code, such as ``"f8"``.
    """
    if isinstance(content, _Array):
        return content.tensor
    if isinstance(content, _Dtype):
        return content.code
    seen = set() if seen is None else seen
    if id(content) in seen:  # a pickle can hold a list that contains itself
        return content
    seen.add(id(content))
    if isinstance(content, dict):
        for name, value in content.items():  # in place, so that the kind of dict stays
            content[name] = with_tensors(value, seen)
    elif isinstance(content, list):
        content[:] = [with_tensors(value, seen) for value in content]
    elif type(content) is tuple:
        return tuple(with_tensors(value, seen) for value in content)
    return content
