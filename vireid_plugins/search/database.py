"""Turn an error of SQLite into a sentence with a remedy, and wait for another process's lock.

Each cause has its own remedy: wait for a lock, free space on a full disk, and make a new index only
if the file is damaged.
"""

import contextlib
import functools
import logging
import sqlite3
from pathlib import Path
from typing import Any, Callable, Iterator, TypeVar

from ..errors import UserError
from ..locks import openers

logger = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds to wait for another process's transaction
_QUIET = 3.0  # seconds after which waiting is reported

Method = TypeVar("Method", bound=Callable[..., Any])


class CatalogError(UserError):
    """A catalog of an index that cannot be read or written now."""


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the database ``path``.

    Args:
        path: an existing file.
        mode: ``"ro"`` to read it, also from a read-only disk; ``"rw"`` to write.

    Raises:
        CatalogError: another process has locked it for a minute, or it is not a database.
    """
    uri = f"{path.resolve().as_uri()}?mode={mode}"
    with reported(path):
        connection = sqlite3.connect(uri, uri=True, timeout=min(_QUIET, PATIENCE))
        try:
            _read_once(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _read_once(connection: sqlite3.Connection, path: Path) -> None:
    """Read a page of the file, and wait as long as another process has locked it."""
    question = "SELECT count(*) FROM sqlite_master"
    try:
        connection.execute(question).fetchone()
    except sqlite3.OperationalError as error:
        if not _is_locked(error):
            raise
        logger.warning("%s is locked%s; waiting for it.", path, _by(path))
        connection.execute(f"PRAGMA busy_timeout = {int(1000 * PATIENCE)}")
        connection.execute(question).fetchone()
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * PATIENCE)}")


@contextlib.contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn an error of SQLite inside the block into a ``CatalogError`` about ``path``."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: a damaged name of a table
        raise CatalogError(_sentence(error, path)) from error


def reporting(method: Method) -> Method:
    """Decorate a method of an object with a ``path``: errors of SQLite become ``CatalogError``."""

    @functools.wraps(method)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        with reported(self.path):
            return method(self, *args, **kwargs)

    return checked  # type: ignore[return-value]  # it has the method's arguments and result


def _sentence(error: Exception, path: Path) -> str:
    said = str(error)
    if _is_locked(error):
        return (
            f"{path} is locked{_by(path)}, and was not released within {PATIENCE:.0f} seconds. "
            "Nothing is lost: wait for that process, or end it, and give the same command again."
        )
    if "full" in said:
        return (
            f"{path} cannot be written: the disk is full ({said}). Earlier results "
            "are kept. Free some space, and give the same command again."
        )
    if "readonly" in said or "unable to open" in said:
        return (
            f"{path} cannot be opened for this ({said}). Check the permissions of the file and of "
            "its folder."
        )
    return (
        f"{path} cannot be read as the catalog of an index ({said}). The file is damaged or is "
        "not a catalog. Make a new index in another folder."
    )


def damaged(path: Path, what: str) -> CatalogError:
    """Return the error for a damaged file of an index; ``what`` says how it is damaged."""
    return CatalogError(f"{path} is damaged: {what}. Make a new index in another folder.")


def _is_locked(error: Exception) -> bool:
    return "locked" in str(error) or "busy" in str(error)


def _by(path: Path) -> str:
    return f" by {openers(path) or 'another process'}"
