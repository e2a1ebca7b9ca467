"""Keep a second process out of a folder. A lock ends with its process, also if that is killed."""

import contextlib
import os
import socket
import time
from pathlib import Path
from typing import Iterator

from filelock import FileLock, Timeout

from .errors import UserError
from .files import writing

LOCK = ".lock"  # the file in the folder
_HOLDER = ".lock.holder"  # beside it: who holds it. Windows lets nobody else read the lock itself


@contextlib.contextmanager
def sole_use(folder: Path, refusal: UserError, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of ``folder`` inside the block.

    Args:
        folder: an existing folder.
        refusal: the error to raise if another process holds the lock; its message says what the
            user can do. The name of that process is added to it.
        wait: seconds to wait for the other process before that.

    Raises:
        UnwritableError: the lock cannot be made.
    """
    lock = FileLock(str(folder / LOCK))
    try:
        with writing(folder / LOCK):
            lock.acquire(timeout=wait, poll_interval=0.2)
    except Timeout:
        raise type(refusal)(f"{refusal}{_holder(folder)}") from None
    holder = folder / _HOLDER
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # a full disk; the lock holds without it
            holder.write_text(
                f"process {os.getpid()} on {socket.gethostname()}, since {now}", encoding="utf-8"
            )
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink()
        lock.release()


def _holder(folder: Path) -> str:
    """Return a sentence that says which process holds the lock; empty: it is not known."""
    try:
        who = (folder / _HOLDER).read_text(encoding="utf-8", errors="replace")
    except OSError:
        who = ""
    return f" It is {who[:200]}." if who else ""


def openers(path: Path) -> str:
    """Return which processes have a lock on ``path``, such as ``"process 123 (python)"``.

    The text is empty if there is no lock, or if the system is not Linux.
    """
    try:
        inode = str(path.stat().st_ino)
        lines = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return ""
    # number: kind, way, access, process, device:device:inode, from, to
    words = [line.split() for line in lines if "->" not in line]
    found = {word[4] for word in words if len(word) >= 6 and word[5].split(":")[-1] == inode}
    return ", ".join(sorted(_named(process) for process in found if process.isdigit()))


def _named(process: str) -> str:
    try:
        command = Path("/proc", process, "comm").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"process {process}"
    return f"process {process} ({command.strip()})"
