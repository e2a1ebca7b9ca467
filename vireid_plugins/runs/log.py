"""The log of a run: each line once on the console, and once in the run's own ``log.txt``.

FastReID's ``setup_logger`` adds handlers that nothing ever removes, so a second run in the same
process would be logged twice, and into the first run's file. Here the handlers of a run are closed
before the next one opens its own. Handlers that others have added stay as they are.
"""

import contextlib
import copy
import logging
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

from termcolor import colored

from fastreid.utils.logger import _ColorfulFormatter

from ..errors import UserError, message_of, plain, without_colors
from ..files import writing
from .names import LOG

LOGGED = ("fastreid", "vireid_plugins")  # names of the loggers

_open: List[Tuple[str, int]] = []  # folder and rank of the log that is open, if any
_before: Dict[str, Tuple[bool, int]] = {}  # of each logger: propagation and level, to be restored


class _Plain(logging.Handler):
    """A handler whose lines have no colors and no control characters inside their messages."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record; the record itself stays as it is, for other handlers."""
        own = copy.copy(record)
        own.msg, own.args = plain(without_colors(record.getMessage())), ()
        return super().format(own)


class _Console(_Plain, logging.StreamHandler):
    """The standard output. It escapes letters that it cannot show, and ignores a closed pipe."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        try:
            line = self.format(record) + self.terminator
            encoding = getattr(self.stream, "encoding", None) or "utf-8"
            self.stream.write(line.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()
        except OSError:  # such as | head
            self.setLevel(logging.CRITICAL + 1)
        except Exception:
            self.handleError(record)


class _LogFile(_Plain, logging.FileHandler):
    """``log.txt``. A full disk is reported once, and the run continues."""

    def __init__(self, path: Path) -> None:
        self._path, self._said = path, False
        super().__init__(str(path), encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once, on the standard error, that lines are missing."""
        if isinstance(sys.exc_info()[1], OSError):
            self._say(sys.exc_info()[1])
        else:
            super().handleError(record)

    def close(self) -> None:
        """Close the file, also if its last lines do not fit on the disk."""
        try:
            super().close()
        except OSError as error:
            self._say(error)

    def _say(self, error: "BaseException | None") -> None:
        if self._said or error is None:
            return
        self._said = True
        try:
            with writing(self._path):
                raise error
        except (UserError, OSError) as told:
            text = f"warning: lines of the log are missing: {message_of(told)}\n"
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)


def open_log(folder: str, rank: int = 0) -> None:
    """Log to the console and to ``log.txt`` in ``folder``, and to no file of an earlier run.

    Args:
        folder: an existing folder.
        rank: number of this process. Only process 0 writes on the console; each of the others has
            a file of its own, ``log.txt.rank1``, ...

    Raises:
        UnwritableError: the file cannot be written.
    """
    close_log()
    path = _path(folder, rank)
    with writing(path):
        file = _LogFile(path)
    file.setFormatter(
        logging.Formatter(
            "[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt="%m/%d %H:%M:%S"
        )
    )
    for name in LOGGED:
        _take_over(name, [*_console(name, rank), file])
    _open.append((folder, rank))


def reopen_log() -> None:
    """Begin the open log again if its file was moved; otherwise do nothing."""
    for folder, rank in _open[:1]:
        if not _path(folder, rank).exists():
            open_log(folder, rank)


def log_to_console(rank: int = 0) -> None:
    """Log to the console, unless a log is open or the user has set up handlers."""
    for name in LOGGED:
        if not logging.getLogger(name).handlers:
            _take_over(name, _console(name, rank))


def close_log() -> None:
    """Close the log that is open, if any, and leave the loggers as they were before it."""
    _open.clear()
    for name in LOGGED:
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            if isinstance(handler, (_Console, _LogFile)):
                logger.removeHandler(handler)
                handler.close()
        if name in _before:
            logger.propagate, logger.level = _before.pop(name)
            logger.setLevel(logger.level)  # forgets which levels it found enabled


@contextlib.contextmanager
def run_log(folder: str, rank: int = 0) -> Iterator[None]:
    """Log as ``open_log`` inside the block, and close the log at its end."""
    open_log(folder, rank)
    try:
        yield
    finally:
        close_log()


def _path(folder: str, rank: int) -> Path:
    return Path(folder) / (LOG if rank == 0 else f"{LOG}.rank{rank}")


def _take_over(name: str, handlers: List[logging.Handler]) -> None:
    logger = logging.getLogger(name)
    _before.setdefault(name, (logger.propagate, logger.level))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)


def _console(name: str, rank: int) -> List[logging.Handler]:
    """Return the handler of the console, which only process 0 has."""
    if rank != 0:
        return []
    handler = _Console(sys.stdout)
    handler.setFormatter(
        _ColorfulFormatter(
            colored("[%(asctime)s %(name)s]: ", "green") + "%(message)s",
            datefmt="%m/%d %H:%M:%S",
            root_name=name,
            abbrev_name=name,
        )
    )
    return [handler]
