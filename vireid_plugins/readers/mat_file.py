"""Read a variable from a ``.mat`` file of MATLAB: numbers, and cell arrays of them.

The format is that of MathWorks, "MAT-File Format", level 5. SciPy reads more of it, but one wrong
byte can end the whole process in ``scipy.io.loadmat`` (a segmentation fault, seen with SciPy 1.17),
so that the few kinds of values that a dataset needs are read here.
"""

import math
import struct
import zlib
from typing import Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import FileContentError
from .text import AnyPath, read_bytes, shown

_HEADER = b"MATLAB 5.0 MAT-file"  # that of the versions 5, 6 and 7
_HEADER_LENGTH = 128
_MOST_BYTES = 1 << 28  # of a variable that is stored compressed
_DEEPEST = 8  # cells within cells
_MATRIX, _COMPRESSED, _CELL = 14, 15, 1
_COMPLEX = 0x800
# the number of a type of data -> its type in NumPy, without the order of its bytes
_DATA = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC = range(6, 16)  # classes of arrays: double, single, int8, ..., uint64
_OTHER = {2: "structs", 3: "objects", 4: "text", 5: "a sparse matrix", 16: "a function"}


class _DamagedError(Exception):
    """What is wrong with the bytes, as words that follow the name of the file."""


class _Element(NamedTuple):
    kind: int  # the number of the type of data
    content: memoryview


def read_mat(path: AnyPath, variable: str, remedy: str = "") -> np.ndarray:
    """Return a variable of a ``.mat`` file.

    Args:
        path: a file of version 5, 6 or 7 (not 7.3, which is HDF5).
        variable: the name of the variable, which holds real numbers or cells of such.
        remedy: how to fix a damaged file, a sentence.

    Returns:
        An array with at least two dimensions, of the type in which the numbers are stored. A cell
        array is an array of objects, each of which is such an array.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: the file is no ``.mat`` file, is damaged or lacks the variable.
        UserError: it cannot be read.
    """
    content = read_bytes(path)
    try:
        return _find(content, variable)
    except _DamagedError as error:
        raise FileContentError(f"{shown(path)} {error}. {remedy}".rstrip()) from error


def _find(content: bytes, variable: str) -> np.ndarray:
    if not content.startswith(_HEADER) or len(content) < _HEADER_LENGTH:
        raise _DamagedError(f"is no .mat file of MATLAB version 5 to 7; it is {_kind(content)}")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise _DamagedError("is damaged: its header does not give the order of bytes")
    others: List[str] = []
    for element in _elements(memoryview(content)[_HEADER_LENGTH:], order):
        matrix = _unpacked(element, order)
        name = _name(matrix.content, order)
        if name == variable:
            return _array(matrix.content, order)
        others.append(name)
    told = ", ".join(others[:5]) or "none"
    raise _DamagedError(f"has no variable {variable!r}; its variables: {told}")


def _elements(view: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements that stand one after another in ``view``."""
    start = 0
    while start < len(view):
        if len(view) - start < 8:
            raise _DamagedError("is cut off or damaged")
        kind, length = struct.unpack_from(f"{order}II", view, start)
        if kind >> 16:  # a short element, whose content stands in its own head
            kind, length, begin, end = kind & 0xFFFF, kind >> 16, start + 4, start + 8
            if length > 4:
                raise _DamagedError("is damaged: a short element is longer than four bytes")
        else:
            begin = start + 8
            end = begin + length + (0 if kind == _COMPRESSED else -length % 8)
        if begin + length > len(view):
            raise _DamagedError("is cut off or damaged")
        yield _Element(kind, view[begin : begin + length])
        start = end


def _unpacked(element: _Element, order: str) -> _Element:
    """Return the matrix that an element of the file is, or that it holds compressed."""
    if element.kind == _COMPRESSED:
        stream = zlib.decompressobj()
        try:
            content = stream.decompress(element.content, _MOST_BYTES)
        except zlib.error as error:
            raise _DamagedError(f"is damaged ({error})") from error
        if not stream.eof:
            raise _DamagedError("is damaged: a compressed variable has no end or is too large")
        element = next(_elements(memoryview(content), order), _Element(0, element.content))
    if element.kind != _MATRIX:
        raise _DamagedError(f"is damaged: an element of the type {element.kind} is not a variable")
    return element


def _head(view: memoryview, order: str) -> Tuple[int, Tuple[int, ...], str, Iterator[_Element]]:
    """Return flags with the class, dimensions and name of a matrix, and its further elements."""
    elements = _elements(view, order)
    flags, sizes, name = (next(elements, _Element(0, view[:0])) for _ in range(3))
    if flags.kind != 6 or len(flags.content) != 8 or sizes.kind != 5 or name.kind != 1:
        raise _DamagedError("is damaged: a variable has no proper head")
    shape = tuple(int(size) for size in _numbers(sizes, order))
    if len(shape) < 2 or len(shape) > 32 or min(shape) < 0:
        raise _DamagedError(f"is damaged: a variable has the shape {shape}")
    words = bytes(name.content).decode("ascii", "backslashreplace")
    return int(_numbers(flags, order)[0]), shape, words, elements


def _name(view: memoryview, order: str) -> str:
    return _head(view, order)[2]


def _numbers(element: _Element, order: str) -> np.ndarray:
    """Return the numbers of an element, in one dimension."""
    if element.kind not in _DATA:
        raise _DamagedError(f"is damaged: an element of the type {element.kind} holds no numbers")
    dtype = np.dtype(order + _DATA[element.kind])
    if len(element.content) % dtype.itemsize:
        raise _DamagedError("is damaged: a number is cut off")
    return np.frombuffer(element.content, dtype).astype(dtype.newbyteorder("="))


def _array(view: memoryview, order: str, depth: int = 0) -> np.ndarray:
    """Return the value of a matrix."""
    if not len(view):  # an empty cell
        return np.zeros((0, 0))
    flags, shape, _, elements = _head(view, order)
    kind = flags & 0xFF
    if kind == _CELL:
        return _cells(shape, elements, order, depth)
    if kind not in _NUMERIC or flags & _COMPLEX:
        other = "complex numbers" if kind in _NUMERIC else _OTHER.get(kind, f"the class {kind}")
        raise _DamagedError(f"holds {other} where real numbers or cells are expected")
    part: Optional[_Element] = next(elements, None)
    values = np.zeros(0) if part is None else _numbers(part, order)
    if values.size != math.prod(shape):
        raise _DamagedError(f"is damaged: {values.size} numbers for the shape {shape}")
    return _shaped(values, shape)


def _cells(
    shape: Tuple[int, ...], elements: Iterator[_Element], order: str, depth: int
) -> np.ndarray:
    if depth >= _DEEPEST:
        raise _DamagedError("holds cells that are nested too deeply")
    found = []
    for element in elements:
        if element.kind != _MATRIX:
            raise _DamagedError(f"is damaged: a cell of the type {element.kind}")
        found.append(_array(element.content, order, depth + 1))
    if len(found) != math.prod(shape):
        raise _DamagedError(f"is damaged: {len(found)} cells for the shape {shape}")
    cells = np.empty(len(found), dtype=object)
    for place, value in enumerate(found):  # at once, NumPy would make one array of equal shapes
        cells[place] = value
    return _shaped(cells, shape)


def _shaped(values: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    try:
        return values.reshape(shape, order="F")
    except ValueError as error:  # no numbers, and further dimensions beyond the memory
        raise _DamagedError(f"is damaged: a variable has the shape {shape}") from error


def _kind(content: bytes) -> str:
    if not content:
        return "empty"
    if content.startswith((b"MATLAB 7.3", b"\x89HDF")):
        return "of version 7.3 (HDF5); save it in MATLAB with the option -v7"
    if content.startswith((b"\x80", b"PK")):
        return "a pickled Python object or a checkpoint"
    begin = " ".join(content[:30].decode("utf-8", "replace").split())
    if begin.isprintable() and "\ufffd" not in begin[:-1]:
        return f"text: {begin!r}"
    return f"something else, which begins with the bytes {content[:8].hex(' ')}"
