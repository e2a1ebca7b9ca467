"""Read the arrays of an ``.npz`` file of NumPy."""

import io
import tokenize
import zipfile
import zlib
from typing import Dict, Sequence

import numpy as np

from ..errors import FileContentError
from .text import AnyPath, read_bytes, shown

_MOST_BYTES = 1 << 30  # of one array
# What NumPy and zipfile raise while they read damaged bytes; a property test looks for more.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    ArithmeticError,
    AttributeError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


def read_npz(
    path: AnyPath, names: Sequence[str], remedy: str = "", *, also: Sequence[str] = ()
) -> Dict[str, np.ndarray]:
    """Return arrays of an ``.npz`` file; arrays of objects, which are pickled, are refused.

    Args:
        path: a file.
        names: the arrays that it must have.
        remedy: how to fix a damaged file, a sentence.
        also: arrays that it may have.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is damaged, or an array is missing.
        UserError: it cannot be read.
    """
    where = shown(path)
    content = io.BytesIO(read_bytes(path))
    try:
        with zipfile.ZipFile(content) as archive:
            there = set(archive.namelist())
            wanted = [*names, *(name for name in also if f"{name}.npy" in there)]
            return {name: _read(archive, f"{name}.npy") for name in wanted}
    except _DAMAGED as error:
        told = " ".join(str(error).split())[:100] or type(error).__name__
        raise FileContentError(f"{where} is damaged ({told}). {remedy}".rstrip()) from error


def _read(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    if archive.getinfo(name).file_size > _MOST_BYTES:
        raise ValueError(f"{name} is too large")
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{name} is of the version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            raise ValueError(f"{name} holds objects")
        values = np.frombuffer(file.read(_MOST_BYTES), dtype)
    return values.reshape(shape, order="F" if fortran else "C")
