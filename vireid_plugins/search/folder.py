"""Find the images below a folder, in bounded memory and in natural order.

Names are handled as bytes, relative to the folder and with ``/``: a name that is not UTF-8 is a
file like any other.
"""

import os
import re
import sqlite3
import stat
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple, Optional, Set, Tuple

from ..errors import UserError
from ..readers.image import is_image_name

_DIGITS = re.compile(rb"\d+")
_BLOCK = 5_000  # rows handed to the database at once


class FoundImage(NamedTuple):
    """An image file by its name; it has not been opened."""

    name: bytes  # relative to the folder
    size: int  # bytes
    mtime: int  # nanoseconds


#: a function that is called with a name that cannot be read, the reason, and if it is a folder
OnProblem = Callable[[bytes, str, bool], None]


def natural_key(name: bytes) -> bytes:
    """Return a key that sorts ``frame2`` before ``frame10``, and the files of a folder together.

    A number becomes its number of digits followed by the digits.
    """

    def spelled(match: "re.Match[bytes]") -> bytes:
        digits = match.group().lstrip(b"0")
        return b"0" + bytes([min(len(digits), 255)]) + digits

    return _DIGITS.sub(spelled, name).replace(b"/", b"\x00")


def check_image_folder(folder: Path) -> None:
    """Raise ``UserError`` unless ``folder`` is a folder that can be listed."""
    if not folder.exists():
        raise UserError(f"--images {folder} does not exist.")
    if not folder.is_dir():
        raise UserError(f"--images {folder} is a file; expected a folder. One image: --image.")
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise UserError(f"--images {folder} cannot be read ({error.strerror}).") from error


def scan_images(
    folder: Path, on_problem: OnProblem, skip: Optional[Path] = None
) -> Iterator[FoundImage]:
    """Yield every image file below ``folder``, in no particular order.

    Hidden files and folders are skipped. Links are followed; a folder that is reached a second
    time, by a link or a loop of links, is skipped.

    Args:
        on_problem: called for what cannot be read.
        skip: a folder to skip.
    """
    seen: Set[Tuple[int, int]] = set()
    waiting = [b""]
    if skip is not None and skip.is_dir():
        seen.add(_identity(os.fsencode(skip)))
    root = os.fsencode(folder)
    while waiting:
        inside = waiting.pop()
        path = os.path.join(root, inside) if inside else root
        try:
            identity = _identity(path)
            if identity in seen:
                continue
            seen.add(identity)
            with os.scandir(path) as entries:
                for entry in entries:
                    name = inside + b"/" + entry.name if inside else entry.name
                    if entry.name.startswith(b"."):
                        continue
                    if _is_folder(entry):
                        waiting.append(name)
                    elif is_image_name(os.fsdecode(entry.name)):
                        yield from _looked_at(entry, name, on_problem)
        except OSError as error:
            on_problem(inside, f"the folder cannot be read ({error.strerror})", True)


def _identity(path: bytes) -> Tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _is_folder(entry: "os.DirEntry[bytes]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; it is reported as a file
        return False


def _looked_at(
    entry: "os.DirEntry[bytes]", name: bytes, on_problem: OnProblem
) -> Iterator[FoundImage]:
    try:
        status = entry.stat()
    except OSError as error:  # a link to nothing, or a file removed since
        on_problem(name, f"cannot be opened ({error.strerror})", False)
        return
    if stat.S_ISREG(status.st_mode):
        yield FoundImage(name, status.st_size, status.st_mtime_ns)


def fill_seen(connection: sqlite3.Connection, found: Iterable[FoundImage]) -> int:
    """Put ``found`` into a new temporary table ``seen``; return the number of images.

    A large table is kept on the disk. It has ``name``, ``size``, ``mtime`` and ``key``, the key of
    the natural order.
    """
    connection.execute("DROP TABLE IF EXISTS temp.seen")
    connection.execute(
        "CREATE TEMP TABLE seen (name BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, key BLOB)"
        " WITHOUT ROWID"
    )
    images, number = iter(found), 0
    while True:
        rows = [(*image, natural_key(image.name)) for image in islice(images, _BLOCK)]
        if not rows:
            connection.commit()
            return number
        connection.executemany("INSERT INTO temp.seen VALUES (?, ?, ?, ?)", rows)
        number += len(rows)


def sorted_images(folder: Path, on_problem: OnProblem) -> Iterator[bytes]:
    """Yield the names of the images below ``folder`` in natural order."""
    connection = sqlite3.connect("")  # a temporary database, on disk if it grows
    try:
        fill_seen(connection, scan_images(folder, on_problem))
        for (name,) in connection.execute("SELECT name FROM temp.seen ORDER BY key, name"):
            yield name
    finally:
        connection.close()


def shown_name(name: bytes) -> str:
    """Return a name for display: control characters and bytes that are not UTF-8 are escaped."""
    text = name.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
