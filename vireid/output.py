"""Write the output of a command to any terminal, pipe or file.

``vireid report ... | head`` closes the pipe before everything is written, and the output may be a
file on a full disk. Neither shows a traceback. A terminal in ASCII or GBK cannot show some letters:
they are written as escapes, such as ``\\xb1`` for the plus-minus sign.
"""

import contextlib
import functools
import os
import sys
from typing import Any, Callable, Iterator, Optional, TextIO

NOBODY_READS, NOT_WRITTEN = 141, 2  # 141: what a shell reports for a command that SIGPIPE ended


def checks_output(command: Callable[..., int]) -> Callable[..., int]:
    """Decorate a function that returns an exit status.

    If the reader of the standard output has closed it, the status is ``NOBODY_READS``, without a
    message.
    If it cannot be written for another reason, one line says why, and the status is
    ``NOT_WRITTEN``.
    """

    @functools.wraps(command)
    def checked(*args: Any, **kwargs: Any) -> int:
        _open_closed_streams()
        _escape_letters_that_are_lacking(sys.stdout, sys.stderr)
        before = sys.stdout
        output: Any = _Output(before)
        sys.stdout = output
        try:
            try:
                return command(*args, **kwargs)
            finally:  # argparse ends with SystemExit, and hides that its help was not written
                output.flush()
                if output.failed is not None:
                    raise output.failed
        except OSError:
            if output.failed is None:
                raise
            return _give_up(before, output.failed)
        finally:
            sys.stdout = before

    return checked


def _open_closed_streams() -> None:
    """Lead a stream that the caller has closed (``>&-``) nowhere: Python makes it None."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the lowest free number: no other file gets 1 or 2
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def _escape_letters_that_are_lacking(*streams: Any) -> None:
    for stream in streams:
        if hasattr(stream, "reconfigure"):  # that of a notebook takes all letters
            stream.reconfigure(errors="backslashreplace")


class _Output:
    """The standard output; it remembers why it could not be written."""

    failed: Optional[OSError] = None

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write ``text``."""
        with self._remembering():
            return self._stream.write(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._remembering():
            self._stream.flush()

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = error
            raise


def _give_up(stream: TextIO, cause: OSError) -> int:
    """Report why ``stream`` cannot be written, and return the exit status."""
    # The rest is discarded, so that the end of the process does not fail again.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    if isinstance(cause, BrokenPipeError):
        return NOBODY_READS
    sys.stderr.write(f"error: the standard output cannot be written: {cause.strerror}.\n")
    return NOT_WRITTEN
