"""Ctrl-C, SIGTERM and SIGHUP: how they reach a verb, and what is said at its end."""

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
    """Let SIGTERM and SIGHUP raise a ``KeyboardInterrupt``; what is ignored stays ignored.

    A process under ``nohup`` ignores SIGHUP.
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
    """Return the signal that raised ``stop`` for people."""
    number = signal_of(stop)
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def say_at_the_end(line: str, status: int) -> None:
    """Write the last line to the standard error.

    If the terminal is gone, which is what SIGHUP means, the process ends here with ``status``;
    otherwise the end of the interpreter would fail to write, and change it.
    """
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        os._exit(status)
