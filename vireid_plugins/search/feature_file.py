"""Keep features on the disk, in a growing file of float32 rows that is mapped into memory.

Shapes: R rows of D features; S checksums, one for each ``PAGE`` rows.
"""

import contextlib
import os
import zlib
from pathlib import Path
from typing import Any, ContextManager, Dict, Optional, Tuple, Union

import numpy as np

from ..errors import UserError
from ..files import write_atomically
from ..locks import sole_use
from .database import damaged

PAGE = 16  # rows that share a checksum; a search reads and checks whole pages
_ROW_BLOCK = 1 << 14  # rows copied at once; a multiple of PAGE


class FeatureFile:
    """The file of rows (R, D) in the folder of an index.

    The catalog says how many rows are valid, and keeps their checksums; ``trim`` cuts off what a
    killed process wrote after them.

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

    def append(self, rows: int, features: np.ndarray, last_sum: int = 0) -> Dict[int, int]:
        """Write ``features`` (M, D) after the first ``rows`` rows, and wait for the disk.

        Args:
            rows: the number of rows before them.
            features: the new rows.
            last_sum: the checksum of the page that row ``rows - 1`` has begun; 0: a new page
                begins.

        Returns:
            The checksums of the pages that the new rows are in, by the number of the page.
        """
        content = np.ascontiguousarray(features, dtype="<f4")
        with open(self.path, "r+b") as file:
            file.seek(rows * self.size * 4)
            file.write(content.tobytes())
            file.flush()
            os.fsync(file.fileno())
        return page_sums(content, rows, last_sum)

    def read(self, rows: int, sums: Optional[np.ndarray] = None) -> "CheckedRows":
        """Return the first ``rows`` rows (R, D), mapped from the disk.

        Args:
            rows: R.
            sums: (S,) their checksums; None: they are not known and nothing is checked.

        Raises:
            UserError: rows are missing.
        """
        if rows == 0:
            return CheckedRows(self.path, np.zeros((0, self.size), np.float32), None)
        self._check(rows)
        mapped = np.memmap(self.path, "<f4", "r", shape=(rows, self.size))
        return CheckedRows(self.path, mapped, sums)

    def _check(self, rows: int) -> None:
        held = self.path.stat().st_size if self.path.is_file() else 0
        if held < rows * self.size * 4:
            raise UserError(
                f"{self.path} has {held} bytes; its {rows} rows of {self.size} features need "
                f"{rows * self.size * 4}. It was truncated. Make a new index in another folder."
            )

    def compacted(
        self, features: "CheckedRows", rows: np.ndarray
    ) -> Tuple["FeatureFile", Dict[int, int]]:
        """Write ``rows`` of ``features`` to a new generation; return it and its checksums."""
        other = FeatureFile(self.folder, self.generation + 1, self.size)
        sums: Dict[int, int] = {}

        def write(file: Any) -> None:
            for begin in range(0, len(rows), _ROW_BLOCK):
                block = features[rows[begin : begin + _ROW_BLOCK]]
                file.write(block.tobytes())
                sums.update(page_sums(block, begin))

        write_atomically(other.path, write)
        return other, sums


class CheckedRows:
    """Rows (R, D) of a file, which are compared with their checksums before they are returned.

    Each page is checked once.

    Args:
        path: the file, for messages.
        mapped: its rows (R, D).
        sums: (S,) uint32; None: they are not known.
    """

    def __init__(self, path: Path, mapped: np.ndarray, sums: Optional[np.ndarray]) -> None:
        self._path, self._mapped, self._sums = path, mapped, sums
        self.shape, self.dtype = mapped.shape, mapped.dtype
        self._checked = np.zeros(-(-len(mapped) // PAGE), bool)

    def __len__(self) -> int:
        return len(self._mapped)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """Return all rows, for NumPy."""
        return np.asarray(self[:], dtype)

    def __getitem__(self, rows: Union[int, slice, np.ndarray]) -> np.ndarray:
        """Return a row by its number, or rows by a slice or by their numbers.

        Raises:
            UserError: their content has changed since they were written.
        """
        if self._sums is not None:
            numbers = np.arange(len(self))[rows]
            pages = np.unique(numbers // PAGE)
            self._check(pages[~self._checked[pages]], self._sums)
        return self._mapped[rows]

    def _check(self, pages: np.ndarray, sums: np.ndarray) -> None:
        for page in pages.tolist():
            begin, end = page * PAGE, min((page + 1) * PAGE, len(self))
            if page >= len(sums) or zlib.crc32(self._mapped[begin:end].tobytes()) != sums[page]:
                raise damaged(
                    self._path,
                    f"the features of rows {begin} to {end - 1} do not match their checksum",
                )
        self._checked[pages] = True


def page_sums(features: np.ndarray, first: int, last_sum: int = 0) -> Dict[int, int]:
    """Return the checksums (CRC-32) of the pages that rows ``first``, ``first + 1``, ... are in.

    Args:
        features: (M, D) float32, contiguous: these rows.
        first: the number of the first row.
        last_sum: the checksum of the rows of its page that are before it.
    """
    sums, begin = {}, 0
    while begin < len(features):
        page = (first + begin) // PAGE
        end = min((page + 1) * PAGE - first, len(features))
        sums[page] = zlib.crc32(features[begin:end].tobytes(), 0 if begin else last_sum)
        begin = end
    return sums


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
