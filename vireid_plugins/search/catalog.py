"""Keep the catalog of an index: a small database of its images, beside their features.

A row of the table ``images`` is an image and the number of its row of features. Rows are entered
once their features are on the disk, in one transaction with the checksums of the features, so
both agree after a kill at any moment.
"""

import contextlib
import json
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..errors import UserError
from .database import connect, damaged, reported, reporting
from .facts import checked_facts
from .feature_file import PAGE
from .folder import FoundImage, fill_seen

logger = logging.getLogger(__name__)

CATALOG = "catalogue.sqlite"  # spelled as in the indexes that users have
_FORMAT = 2
_WITHOUT_SUMS = 1  # the format of indexes that have no checksums of their features
_NAMES = 1_000  # names fetched at once
_FACTS = "CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_IMAGES = """CREATE TABLE images (
    row INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL
)"""
_SUMS = "CREATE TABLE sums (page INTEGER PRIMARY KEY, crc INTEGER NOT NULL)"
# Selects an image of the catalog whose file in the folder is unchanged.
_UNCHANGED = (
    "SELECT 1 FROM temp.seen WHERE seen.name = images.name AND seen.size = images.size"
    " AND seen.mtime = images.mtime"
)


class Catalog:
    """The database in an index's folder.

    Args:
        folder: folder of the index.
        writable: True: open it for writing; False: for reading, also from a read-only disk.

    Raises:
        UserError: the file is not a catalog, it is damaged, another version of this package wrote
            it, or another process has locked it for a minute.
    """

    def __init__(self, folder: Path, writable: bool = False) -> None:
        self.path = folder / CATALOG
        # A half-written transaction of a killed process is rolled back by the next process that
        # opens the database for writing.
        journal = self.path.with_name(f"{CATALOG}-journal")
        writing = writable or (journal.exists() and os.access(self.path, os.W_OK))
        self._connection = connect(self.path, "rw" if writing else "ro")
        try:
            with reported(self.path):
                self.facts: Dict[str, Any] = self._read_facts()
        except UserError:
            self._connection.close()
            raise
        if not (self.has_sums or writable):
            logger.warning(
                "%s is of an earlier version and has no checksums, so damage to its features "
                "cannot be detected. Run the same index command again to add them.",
                folder,
            )

    @classmethod
    def create(cls, folder: Path, facts: Dict[str, Any]) -> None:
        """Write an empty catalog with ``facts``, either whole or not at all."""
        path = folder / CATALOG
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with reported(partial), contextlib.closing(sqlite3.connect(str(partial))) as connection:
            for table in (_FACTS, _IMAGES, _SUMS):
                connection.execute(table)
            _write_facts(connection, {"format": _FORMAT, "generation": 0, "rows": 0, **facts})
            connection.commit()
        partial.replace(path)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _read_facts(self) -> Dict[str, Any]:
        tables = self._connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL")
        if not {_FACTS, _IMAGES} <= {sql for (sql,) in tables} <= {_FACTS, _IMAGES, _SUMS}:
            raise damaged(self.path, "its tables are not those of an index")
        rows = self._connection.execute("SELECT key, value FROM facts").fetchall()
        return checked_facts(self.path, rows, (_WITHOUT_SUMS, _FORMAT))

    @property
    def has_sums(self) -> bool:
        """Return whether the catalog has checksums of the features."""
        return bool(self.facts["format"] != _WITHOUT_SUMS)

    @reporting
    def remember(self, **facts: Any) -> None:
        """Set facts, and write them to the disk."""
        _write_facts(self._connection, facts)
        self._connection.commit()
        self.facts.update(facts)

    # ------------------------------------------------------------------------------- reading

    @reporting
    def __len__(self) -> int:
        """Return the number of images that can be searched."""
        return self._one("SELECT count(*) FROM images")

    @property
    def num_rows(self) -> int:
        """Return the number of rows of features, including those of deleted images."""
        return int(self.facts["rows"])

    def _one(self, query: str, values: Sequence[Any] = ()) -> int:
        return int(self._connection.execute(query, values).fetchone()[0])

    def rows(self) -> np.ndarray:
        """Return the rows of all images, ascending (N,) int64; see ``read``."""
        return self.read()[0]

    @reporting
    def read(self) -> Tuple[np.ndarray, Optional[np.ndarray]]:
        """Return the rows of all images, and the checksums of all rows; read ``facts`` again.

        Returns:
            rows (N,) int64, ascending, and sums (S,) uint32, one for each page of rows, or None if
            they are not known.

        Raises:
            UserError: the catalog is damaged, or locked.
        """
        self._connection.execute("BEGIN")
        try:
            self.facts = self._read_facts()
            found = self._connection.execute("SELECT row FROM images ORDER BY row")
            rows = np.fromiter((row for (row,) in found), np.int64)
            ordered = bool((np.diff(rows) > 0).all())
            if len(rows) and not (ordered and 0 <= rows[0] and rows[-1] < self.num_rows):
                raise damaged(self.path, f"its rows are not numbers from 0 to {self.num_rows - 1}")
            return rows, self._sums() if self.has_sums else None
        finally:
            self._connection.rollback()

    def _sums(self) -> np.ndarray:
        pages = self._connection.execute("SELECT page, crc FROM sums ORDER BY page").fetchall()
        if [page for page, _ in pages] != list(range(-(-self.num_rows // PAGE))):
            raise damaged(self.path, "checksums of features are missing")
        if not all(isinstance(crc, int) and 0 <= crc < 1 << 32 for _, crc in pages):
            raise damaged(self.path, "a checksum of features is not a 32-bit number")
        return np.array([crc for _, crc in pages], np.uint32)

    @reporting
    def last_sum(self) -> int:
        """Return the checksum of the page that the next row goes into; 0 for a new page."""
        if self.num_rows % PAGE == 0:
            return 0
        return self._one("SELECT crc FROM sums WHERE page = ?", (self.num_rows // PAGE,))

    @reporting
    def names(self, rows: Iterable[int]) -> Dict[int, bytes]:
        """Return the names of the images in ``rows``, as ``rows()`` numbered them.

        Raises:
            UserError: another process has changed them since, or the catalog is damaged.
        """
        self._connection.execute("BEGIN")
        try:
            query = "SELECT name FROM images WHERE row = ?"
            found = {row: self._connection.execute(query, (row,)).fetchone() for row in rows}
            same = self._read_facts()["generation"] == self.facts["generation"]
            if not same or None in found.values():
                raise UserError(
                    f"{self.path.parent} changed during the search: open it and search again."
                )
            self._check_names(found)
        finally:
            self._connection.rollback()
        return {row: name for row, (name,) in found.items()}

    def _check_names(self, found: Mapping[int, Tuple[bytes]]) -> None:
        """Raise ``UserError`` unless the database's list of names agrees: it holds each twice."""
        query = "SELECT row FROM images WHERE name = ?"
        for row, name in found.items():
            if self._connection.execute(query, name).fetchone() != (row,):
                raise damaged(self.path, f"the name of the image in row {row} has changed")

    # ------------------------------------------------------------------------------- writing

    @reporting
    def note_found(self, found: Iterable[FoundImage]) -> int:
        """Note what is in the folder now; return the number of images."""
        return fill_seen(self._connection, found)

    @reporting
    def keep_below(self, folder: bytes) -> None:
        """Note the images below ``folder``, which cannot be read now, as unchanged."""
        prefix = folder + b"/"
        self._connection.execute(
            "INSERT OR IGNORE INTO temp.seen SELECT name, size, mtime, name FROM images"
            " WHERE substr(name, 1, ?) = ?",
            (len(prefix), prefix),
        )
        self._connection.commit()

    @reporting
    def forget_others(self) -> int:
        """Drop images that were changed or removed since the last time; return their number."""
        done = self._connection.execute(f"DELETE FROM images WHERE NOT EXISTS ({_UNCHANGED})")
        self._connection.commit()
        return done.rowcount

    @reporting
    def note_missing(self) -> int:
        """Note which images have no features yet, in natural order; return their number."""
        self._connection.executescript(
            "DROP TABLE IF EXISTS temp.todo;"
            "CREATE TEMP TABLE todo (position INTEGER PRIMARY KEY, name BLOB, size INTEGER,"
            " mtime INTEGER);"
            "INSERT INTO todo (name, size, mtime) SELECT name, size, mtime FROM temp.seen"
            " WHERE name NOT IN (SELECT name FROM images) ORDER BY key, name;"
        )
        return self._one("SELECT count(*) FROM temp.todo")

    def missing(self) -> Iterator[FoundImage]:
        """Yield what ``note_missing`` noted; rows may be added meanwhile."""
        position = 0
        while True:
            with reported(self.path):
                page = self._connection.execute(
                    "SELECT position, name, size, mtime FROM temp.todo WHERE position > ?"
                    " ORDER BY position LIMIT ?",
                    (position, _NAMES),
                ).fetchall()
            if not page:
                return
            for _, *image in page:
                yield FoundImage(*image)
            position = page[-1][0]

    @reporting
    def add(self, images: List[FoundImage], sums: Mapping[int, int]) -> None:
        """Enter images whose features are on the disk, from row ``num_rows`` on.

        Args:
            images: the images.
            sums: the checksums of the pages that their features are in.
        """
        first = self.num_rows
        rows: Iterator[Tuple[Any, ...]] = (
            (first + number, *image) for number, image in enumerate(images)
        )
        self._connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", rows)
        self._put_sums(sums)
        self.remember(rows=first + len(images))  # in the same transaction

    def _put_sums(self, sums: Mapping[int, int]) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO sums VALUES (?, ?)", sums.items())

    @reporting
    def add_sums(self, sums: Mapping[int, int]) -> None:
        """Enter the checksums of all rows into a catalog of an earlier version."""
        self._connection.execute(_SUMS)
        self._put_sums(sums)
        self.remember(format=_FORMAT)  # in the same transaction

    @reporting
    def renumber(self, generation: int, sums: Mapping[int, int]) -> None:
        """Number the rows 0, 1, ... in their order, as feature file ``generation`` has them.

        Args:
            generation: number of the file.
            sums: the checksums of its pages.
        """
        run = self._connection.execute
        run("CREATE TEMP TABLE renumbered (row INTEGER PRIMARY KEY, name, size, mtime)")
        run(
            "INSERT INTO renumbered (name, size, mtime) SELECT name, size, mtime FROM images"
            " ORDER BY row"
        )
        run("DELETE FROM images")
        run("INSERT INTO images SELECT row - 1, name, size, mtime FROM renumbered")
        run("DROP TABLE temp.renumbered")
        run("DELETE FROM sums")
        self._put_sums(sums)
        self.remember(generation=generation, rows=len(self))  # in the same transaction


def _write_facts(connection: sqlite3.Connection, facts: Dict[str, Any]) -> None:
    rows = [(key, json.dumps(value)) for key, value in facts.items()]
    connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)
