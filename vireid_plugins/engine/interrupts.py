"""Let Ctrl-C, SIGTERM and SIGHUP end a training between two steps, so that its state can be saved.

The first signal is only noted, and the training loop checks for it after each step. Where nothing
can be lost, such as in an evaluation, it ends the work at once. A second signal of the same kind is
handled as if this module did not exist, so a second Ctrl-C ends the process at once.
"""

import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from ..runs.last import last_checkpoint

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
STOP_STATUSES = tuple(128 + getattr(signal, name, 0) for name in NAMES)  # of a stopped process
_NOTICE = b"Stopping after this step; the state is saved. Send the signal again to stop at once.\n"


class TrainingStopped(KeyboardInterrupt):
    """A signal has ended the training. The message says what was saved.

    Args:
        number: number of the signal.
        message: what was saved, as sentences.
    """

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number = number


def what_is_kept(folder: str) -> str:
    """Return a sentence that names the checkpoint from which a run can be resumed.

    Args:
        folder: ``OUTPUT_DIR``.
    """
    kept = last_checkpoint(Path(folder))
    return f"{kept} is kept." if kept else "Nothing was saved: no step was finished."


class StopSignals:
    """Note signals that ask to stop, inside a ``with`` block of the main thread.

    A signal that the process ignores (under ``nohup``), or that another library handles, is left
    alone. In other threads nothing is done.
    """

    def __init__(self) -> None:
        self.requested: Optional[int] = None  # number of the signal
        self._at_once = False
        self._before: Dict[int, Any] = {}
        self._pid = os.getpid()

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler) or getattr(
                handler, "ends_the_command", False
            ):
                self._before[number] = handler
                signal.signal(number, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self._pid:  # a process that loads images; the main process will end it
            return
        self.requested = number
        signal.signal(number, self._before[number])
        if hasattr(
            signal, "SIGCHLD"
        ):  # processes that load images may end first, which is not an error
            self._before.setdefault(signal.SIGCHLD, signal.getsignal(signal.SIGCHLD))
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._at_once:
            raise TrainingStopped(number)
        with contextlib.suppress(OSError):
            os.write(2, _NOTICE)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let a signal inside the block raise ``TrainingStopped`` at once."""
        self._at_once = True
        try:
            if self.requested is not None:
                raise TrainingStopped(self.requested)
            yield
        finally:
            self._at_once = False
