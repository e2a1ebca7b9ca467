"""Keep a second process out of a folder. A lock ends with its process, also if that is killed."""

import contextlib
from pathlib import Path
from typing import Iterator

from filelock import FileLock, Timeout

from .errors import UserError

LOCK = ".lock"  # the file in the folder


@contextlib.contextmanager
def sole_use(folder: Path, refusal: UserError) -> Iterator[None]:
    """Hold the lock of ``folder`` inside the block.

    Args:
        folder: an existing folder.
        refusal: the error to raise if another process holds the lock; it says what the user can do.
    """
    lock = FileLock(str(folder / LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise refusal from None
    try:
        yield
    finally:
        lock.release()
