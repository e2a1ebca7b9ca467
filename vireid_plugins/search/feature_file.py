"""Keep features on the disk: a growing file of float32 rows that is mapped and never loaded."""

import contextlib
import os
from pathlib import Path
from typing import Any, ContextManager

import numpy as np

from ..errors import UserError
from ..files import write_atomically
from ..locks import sole_use

_ROW_BLOCK = 1 << 14  # rows copied at once


class FeatureFile:
    """The file of rows (R, D) in the folder of an index.

    The catalog says how many rows are valid; ``trim`` cuts off what a killed process wrote after
    them.

    Args:
        folder: folder of the index.
        generation: number of the file; when rows of deleted images are dropped, a new file is
            written.
        size: D.
    """

    def __init__(self, folder: Path, generation: int, size: int) -> None:
        self.folder, self.generation, self.size = folder, generation, size
        self.path = folder / f"features-{generation}.f32"

    def trim(self, rows: int) -> None:
        """Keep only the first ``rows`` rows, and remove other generations.

        Raises:
            UserError: rows are missing.
        """
        others = [*self.folder.glob("features-*"), *self.folder.glob(".features-*.partial")]
        for other in others:
            if other != self.path:
                with contextlib.suppress(OSError):  # Windows: another process reads it
                    other.unlink()
        with open(self.path, "ab") as file:
            self._check(rows)
            file.truncate(rows * self.size * 4)

    def append(self, rows: int, features: np.ndarray) -> None:
        """Write ``features`` (M, D) after the first ``rows`` rows, and wait for the disk."""
        with open(self.path, "r+b") as file:
            file.seek(rows * self.size * 4)
            file.write(np.ascontiguousarray(features, dtype="<f4").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def read(self, rows: int) -> np.ndarray:
        """Return the first ``rows`` rows (R, D), mapped from the disk.

        Raises:
            UserError: rows are missing.
        """
        if rows == 0:
            return np.zeros((0, self.size), np.float32)
        self._check(rows)
        return np.memmap(self.path, "<f4", "r", shape=(rows, self.size))

    def _check(self, rows: int) -> None:
        held = self.path.stat().st_size if self.path.is_file() else 0
        if held < rows * self.size * 4:
            raise UserError(
                f"{self.path} has {held} bytes; its {rows} rows of {self.size} features need "
                f"{rows * self.size * 4}. Delete {self.folder} and make the index anew."
            )

    def compacted(self, total: int, rows: np.ndarray) -> "FeatureFile":
        """Return a new generation of the file, with only ``rows`` of the first ``total`` rows."""
        other = FeatureFile(self.folder, self.generation + 1, self.size)
        features = self.read(total)

        def write(file: Any) -> None:
            for begin in range(0, len(rows), _ROW_BLOCK):
                file.write(features[rows[begin : begin + _ROW_BLOCK]].tobytes())

        write_atomically(other.path, write)
        return other


def sole_writer(folder: Path) -> ContextManager[None]:
    """Keep a second process from writing into ``folder``, inside the block.

    Raises:
        UserError: another process is writing.
    """
    return sole_use(
        folder,
        UserError(
            f"Another process is writing into {folder}. Wait for it, or give another folder."
        ),
    )
