"""Files that are either whole or as they were before."""

import os
from pathlib import Path
from typing import Any, Callable


def write_atomically(target: Path, write: Callable[[Any], Any]) -> None:
    """Call ``write(file)`` on a new file and put it in the place of ``target`` once it is whole."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        if partial.exists():
            partial.unlink()
