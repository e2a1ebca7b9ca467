"""Mistakes that a user can fix, as types, and how a command line reports them.

Raise :class:`UserError`, or a subclass, where a config, a file, a word of a command line or an
argument is wrong: the message names what is wrong, what was expected, what came and how to fix
it, and a command shows it in one line. Any other exception is a fault of the program and keeps its
traceback.
"""

import os
import re
import sys
from typing import Optional

_COLOR = re.compile(r"\x1b\[[0-9;]*m")
# without tab and line feed; the last two ranges turn the direction of writing
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class UserError(ValueError):
    """A mistake that the user can fix by the message alone."""


class UnknownNameError(UserError, KeyError):
    """A name that nothing is registered under, or a config key that does not exist."""

    def __str__(self) -> str:
        """Return the message itself; ``KeyError`` would put quotes around it."""
        return str(self.args[0]) if self.args else ""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that the user named and that is not there."""


class NoKeyPointsError(MissingFileError):
    """A file of key points that is needed and is not there."""


class FileContentError(UserError):
    """A file that is there and whose content is not what it must be."""


class ExistingFileError(UserError, FileExistsError):
    """A file or folder that is there already and must not be replaced."""


class UnwritableError(UserError, OSError):
    """A file that the system refused to write: a full disk, a read-only folder, ...

    ``number`` is the system's number of the error, such as ``errno.ENOSPC``.
    """

    def __init__(self, message: str, number: Optional[int] = None) -> None:
        super().__init__(message)
        self.number = number


class MissingLibraryError(UserError, RuntimeError):
    """An optional library that is not installed, and that what the user asked for needs."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be read, or that belongs to another model."""


class NonFiniteError(UserError, FloatingPointError):
    """A loss or a feature that is not a finite number."""


class SmallMapError(UserError):
    """A feature map that has fewer rows than a part of the model needs."""


class ReportError(UserError):
    """A report that cannot be made as asked."""


class PlanError(UserError):
    """A comparison that cannot be run as asked; nothing was started."""


class PlotError(UserError):
    """A picture that cannot be drawn as asked."""


def is_foreseen(error: BaseException) -> bool:
    """Return whether ``error`` is a user's mistake; never when ``VIREID_TRACEBACK`` is set.

    A file or folder to which the system denies access is one: before Python 3.14, the mere
    question whether it exists raises ``PermissionError``.
    """
    is_mistake = isinstance(error, UserError) or _is_denied(error)
    return is_mistake and not os.environ.get("VIREID_TRACEBACK")


def _is_denied(error: BaseException) -> bool:
    """Return whether the system denied access to a file that ``error`` names."""
    return isinstance(error, PermissionError) and isinstance(error.filename, (str, bytes))


def message_of(error: BaseException) -> str:
    """Return what ``error`` says; a ``KeyError`` without the quotes that Python adds."""
    if isinstance(error, PermissionError) and _is_denied(error):
        return (
            f"{os.fsdecode(error.filename)}: permission denied. Change the permissions of it and "
            "of the folders above it, or name another path."
        )
    return str(error.args[0] if error.args and isinstance(error, KeyError) else error)


def plain(text: str) -> str:
    """Return text for a terminal, with control characters as escapes, such as ``\\x1b``.

    The name of a file may hold any character. Line ends and tabs stay.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_colors(text: str) -> str:
    """Return text without the sequences that color it in a terminal."""
    return _COLOR.sub("", text)


def one_line(error: BaseException) -> str:
    """Return what ``error`` says on one line; of a long text the beginning and the end."""
    line = " ".join(without_colors(message_of(error)).split()) or type(error).__name__
    return line if len(line) <= 500 else f"{line[:150]} ... {line[-300:]}"


def report(error: BaseException) -> None:
    """Write ``error`` to the standard error as one line, without a traceback."""
    sys.stderr.write(f"error: {' '.join(plain(message_of(error)).splitlines())}\n")
    sys.stderr.flush()
