"""Keep the catalog of an index: a small database of its images, beside their features.

A row of the table ``images`` is an image and the number of its row of features. Rows are entered
once their features are on the disk, in one transaction, so that a kill at any moment leaves both
in step.
"""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Tuple

import numpy as np

from ..errors import UserError
from .folder import FoundImage, fill_seen

CATALOG = "catalogue.sqlite"  # spelled as in the indexes that users have
_FORMAT = 1
_PATIENCE = 60.0  # seconds to wait for another process's transaction
_PAGE = 1_000  # names fetched at once
_TABLES = """
CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE images (
    row INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, size INTEGER NOT NULL,
    mtime INTEGER NOT NULL
);
"""
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
        UserError: the file is not a catalog, or another version of this package wrote it.
    """

    def __init__(self, folder: Path, writable: bool = False) -> None:
        self.path = folder / CATALOG
        # A half-written transaction of a killed process is rolled back by the next process that
        # opens the database for writing.
        journal = self.path.with_name(f"{CATALOG}-journal")
        writing = writable or (journal.exists() and os.access(self.path, os.W_OK))
        uri = f"{self.path.resolve().as_uri()}?mode={'rw' if writing else 'ro'}"
        try:
            self._connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE)
            self.facts: Dict[str, Any] = self._read_facts()
        except sqlite3.Error as error:
            raise UserError(
                f"{self.path} cannot be read as the catalog of an index ({error}). Delete the "
                "folder and make the index anew."
            ) from error
        if self.facts.get("format") != _FORMAT:
            raise UserError(
                f"{self.path} is of format {self.facts.get('format')}; this version reads "
                f"{_FORMAT}. Make the index anew."
            )

    @classmethod
    def create(cls, folder: Path, facts: Dict[str, Any]) -> None:
        """Write an empty catalog with ``facts``, either whole or not at all."""
        path = folder / CATALOG
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        connection = sqlite3.connect(str(partial))
        try:
            connection.executescript(_TABLES)
            _write_facts(connection, {"format": _FORMAT, "generation": 0, "rows": 0, **facts})
            connection.commit()
        finally:
            connection.close()
        partial.replace(path)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def _read_facts(self) -> Dict[str, Any]:
        rows = self._connection.execute("SELECT key, value FROM facts")
        return {key: json.loads(value) for key, value in rows}

    def remember(self, **facts: Any) -> None:
        """Set facts, and write them to the disk."""
        _write_facts(self._connection, facts)
        self._connection.commit()
        self.facts.update(facts)

    # ------------------------------------------------------------------------------- reading

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
        """Return the rows of all images, ascending (N,) int64; ``facts`` is read again, too."""
        self._connection.execute("BEGIN")
        try:
            self.facts = self._read_facts()
            found = self._connection.execute("SELECT row FROM images ORDER BY row")
            return np.fromiter((row for (row,) in found), np.int64)
        finally:
            self._connection.rollback()

    def names(self, rows: Iterable[int]) -> Dict[int, bytes]:
        """Return the names of the images in ``rows``, as ``rows()`` numbered them.

        Raises:
            UserError: another process has changed them since.
        """
        self._connection.execute("BEGIN")
        try:
            query = "SELECT name FROM images WHERE row = ?"
            found = {row: self._connection.execute(query, (row,)).fetchone() for row in rows}
            same = self._read_facts()["generation"] == self.facts["generation"]
        finally:
            self._connection.rollback()
        if not same or None in found.values():
            raise UserError(
                f"{self.path.parent} changed during the search: open it and search again."
            )
        return {row: name for row, (name,) in found.items()}

    # ------------------------------------------------------------------------------- writing

    def note_found(self, found: Iterable[FoundImage]) -> int:
        """Note what is in the folder now; return the number of images."""
        return fill_seen(self._connection, found)

    def keep_below(self, folder: bytes) -> None:
        """Note the images below ``folder``, which cannot be read now, as unchanged."""
        prefix = folder + b"/"
        self._connection.execute(
            "INSERT OR IGNORE INTO temp.seen SELECT name, size, mtime, name FROM images"
            " WHERE substr(name, 1, ?) = ?",
            (len(prefix), prefix),
        )
        self._connection.commit()

    def forget_others(self) -> int:
        """Drop images that were changed or removed since the last time; return their number."""
        done = self._connection.execute(f"DELETE FROM images WHERE NOT EXISTS ({_UNCHANGED})")
        self._connection.commit()
        return done.rowcount

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
            page = self._connection.execute(
                "SELECT position, name, size, mtime FROM temp.todo WHERE position > ?"
                " ORDER BY position LIMIT ?",
                (position, _PAGE),
            ).fetchall()
            if not page:
                return
            for _, *image in page:
                yield FoundImage(*image)
            position = page[-1][0]

    def add(self, images: List[FoundImage]) -> None:
        """Enter images whose features are on the disk, from row ``num_rows`` on."""
        first = self.num_rows
        rows: Iterator[Tuple[Any, ...]] = (
            (first + number, *image) for number, image in enumerate(images)
        )
        self._connection.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", rows)
        self.remember(rows=first + len(images))  # in the same transaction

    def renumber(self, generation: int) -> None:
        """Number the rows 0, 1, ... in their order, as feature file ``generation`` has them."""
        run = self._connection.execute
        run("CREATE TEMP TABLE renumbered (row INTEGER PRIMARY KEY, name, size, mtime)")
        run(
            "INSERT INTO renumbered (name, size, mtime) SELECT name, size, mtime FROM images"
            " ORDER BY row"
        )
        run("DELETE FROM images")
        run("INSERT INTO images SELECT row - 1, name, size, mtime FROM renumbered")
        run("DROP TABLE temp.renumbered")
        self.remember(generation=generation, rows=len(self))  # in the same transaction


def _write_facts(connection: sqlite3.Connection, facts: Dict[str, Any]) -> None:
    rows = [(key, json.dumps(value)) for key, value in facts.items()]
    connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)
