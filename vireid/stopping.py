"""Let Ctrl-C, SIGTERM and SIGHUP stop a verb, and write the last line."""

import contextlib
import os
import signal
import sys
from typing import Any, Dict, Iterator

STOPPED = 130  # exit status after Ctrl-C
_SIGNALS = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class StoppedBySignal(KeyboardInterrupt):
    """A signal other than Ctrl-C has stopped the verb; ``number`` is that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise a ``KeyboardInterrupt`` inside the block.

    A signal that the process ignores, such as SIGHUP under ``nohup``, stays ignored.
    """

    def stop(number: int, frame: Any) -> None:
        raise StoppedBySignal(number)

    stop.ends_the_command = True  # type: ignore[attr-defined]  # see engine/interrupts.py
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before: Dict[int, Any] = {}
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def signal_of(stop: KeyboardInterrupt) -> int:
    """Return the number of the signal that raised ``stop``."""
    return getattr(stop, "number", 0) or signal.SIGINT


def name_of(stop: KeyboardInterrupt) -> str:
    """Return the name of the signal that raised ``stop``, for a message."""
    number = signal_of(stop)
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def say_at_the_end(line: str, status: int) -> None:
    """Write the last line to the standard error.

    After SIGHUP the terminal may be closed. Then the process ends here with ``status``, because the
    interpreter would fail to write at its end and change the status.
    """
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        os._exit(status)
