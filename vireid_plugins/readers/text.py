"""Read text: UTF-8 with or without a byte order mark, whatever the locale is."""

import codecs
import os
import stat
from typing import Union

from ..errors import FileContentError, MissingFileError, UserError

AnyPath = Union[str, "os.PathLike[str]"]
_SNIFFED = 65536  # bytes that tell a text from a picture or a checkpoint
_MARKS = (  # UTF-32 comes first, because its mark begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_SIGNATURES = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"PK\x03\x04", "a ZIP archive, such as a checkpoint of PyTorch"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"MATLAB 5.0 MAT-file", "a .mat file"),
    (b"%PDF", "a PDF document"),
    (b"\x80\x02", "a pickled Python object, such as an old checkpoint of PyTorch"),
)


def read_text(path: AnyPath, remedy: str = "") -> str:
    """Return the content of a text file in UTF-8, without its byte order mark.

    Line ends are not changed.

    Args:
        path: a file.
        remedy: a sentence that says how to fix wrong bytes; empty: advice on encodings.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: its bytes are not UTF-8 text.
        UserError: it is not a file, or it cannot be read.
    """
    return decode(read_bytes(path, sniff=True, remedy=remedy), os.fspath(path), remedy)


def read_bytes(path: AnyPath, sniff: bool = False, remedy: str = "") -> bytes:
    """Return the bytes of a file.

    Args:
        path: a file.
        sniff: refuse a file that begins like a binary one before all of it is read.
        remedy: how to fix a binary file, a sentence.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: the file is binary, with ``sniff``.
        UserError: it is not a file, or it cannot be read.
    """
    where = shown(path)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{where} is a folder; expected a file.")
        if not stat.S_ISREG(mode):
            raise UserError(f"{where} is a device or a pipe; expected a file.")
        with open(path, "rb") as file:
            begin = file.read(_SNIFFED)
            if sniff:
                _check_text(begin, where, remedy)
            return begin + file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingFileError(f"There is no file {where}.") from error
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}.") from error
    except MemoryError as error:
        raise UserError(f"{where} is too large to be read into memory.") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise MissingFileError(f"{where!r} is not a valid file name: {error}.") from error


def decode(content: bytes, source: AnyPath, remedy: str = "") -> str:
    """Return bytes in UTF-8 as text, without a byte order mark at the beginning.

    Args:
        content: the bytes of a whole text.
        source: the file that they come from, for messages.
        remedy: how to fix wrong bytes, a sentence; empty: advice on encodings.

    Raises:
        FileContentError: the bytes are not UTF-8 text.
    """
    where = shown(source)
    _check_text(content, where, remedy)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FileContentError(
            f"{where}, line {line}: expected text in UTF-8, found the byte "
            f"0x{content[error.start]:02x}. "
            + (remedy or "Save it as UTF-8 (it may be in GBK or Latin-1).")
        ) from error


def shown(path: AnyPath) -> str:
    """Return a path for messages: control characters and bytes that are not UTF-8 are escaped.

    An empty path is shown as ``''``.
    """
    text = readable(os.fspath(path))
    found = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return found or "''"


def readable(text: str) -> str:
    """Return text that can be written in UTF-8.

    Python represents bytes that it cannot decode in a file name or a command-line argument as
    surrogates. They are decoded here if the bytes are UTF-8; otherwise they become escapes, such as
    ``\\xff``.
    """
    try:
        content = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        content = text.encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def _check_text(content: bytes, where: str, remedy: str) -> None:
    """Raise ``FileContentError`` if ``content`` holds what no text in UTF-8 holds."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            raise FileContentError(
                f"{where}: expected text in UTF-8, found {name}. {remedy or 'Save it as UTF-8.'}"
            )
    place = content.find(b"\0")
    if place < 0:
        return
    for signature, name in _SIGNATURES:
        if content.startswith(signature):
            raise FileContentError(
                f"{where}: expected text in UTF-8, found {name}. "
                f"{remedy or 'Was another file meant?'}"
            )
    raise FileContentError(
        f"{where}: expected text in UTF-8, found a NUL byte (byte {place} of the file): "
        f"it is binary, damaged or in UTF-16. {remedy or 'Name another file or save it as UTF-8.'}"
    )


def is_text(path: AnyPath) -> bool:
    """Return whether a path is text: under the locale, or else because its bytes are UTF-8."""
    try:
        os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return False
    return True


def is_utf8(path: AnyPath) -> bool:
    """Return whether a path has the same bytes for the system as in UTF-8.

    This is so in a usual locale, except for names that are not UTF-8.
    """
    try:
        return os.fsencode(path) == os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        return False


def name_of(path: AnyPath) -> str:
    """Return the last part of a path for messages."""
    return shown(os.path.basename(os.fspath(path)))
