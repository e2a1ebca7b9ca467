"""The list of images that an indexing could not read."""

import csv
import os
from pathlib import Path
from typing import List

from ..cells import safe_cells

BROKEN = "broken.csv"


class BrokenList:
    """The list ``broken.csv``: what could not be read, and why.

    ``finish`` replaces the list of the last run.

    Args:
        folder: folder of the index.
    """

    def __init__(self, folder: Path) -> None:
        self._target, self._partial = folder / BROKEN, folder / f".{BROKEN}.partial"
        self._file = open(  # noqa: SIM115  closed by finish
            self._partial, "w", newline="", encoding="utf-8", errors="surrogateescape"
        )
        self._rows = csv.writer(self._file)
        self._rows.writerow(["image", "reason"])
        self.folders: List[bytes] = []
        self.number = 0

    def add(self, name: bytes, reason: str, is_folder: bool = False) -> None:
        """Add an image, or a folder, that cannot be read."""
        self._rows.writerow(safe_cells([os.fsdecode(name), reason]))
        self._file.flush()
        self.number += 1
        if is_folder:
            self.folders.append(name)

    def finish(self) -> None:
        """Replace the last list by this one."""
        self._file.close()
        os.replace(self._partial, self._target)

    def abandon(self) -> None:
        """Drop this list, and keep the last one."""
        self._file.close()
        self._partial.unlink(missing_ok=True)
