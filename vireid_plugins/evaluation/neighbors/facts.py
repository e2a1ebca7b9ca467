"""Read and check the facts of a saved index: what it is, and the checksums of its files."""

import logging
import zlib
from pathlib import Path
from typing import Any, Dict

from ...errors import MissingFileError, UserError
from ...readers.json_file import read_json
from ...readers.shape import expect, field

FORMAT = 1
META = "index.json"
_BLOCK = 1 << 22  # bytes of a file that are read at once

logger = logging.getLogger(__name__)

_REMEDY = "The index is damaged, or something else wrote it: build it again in another folder."


def read_meta(folder: Path) -> Dict[str, Any]:
    """Return the facts of the index in ``folder``.

    Raises:
        MissingFileError: there is no index.
        UserError: they are damaged, or of another version of this package.
    """
    path = folder / META
    if not path.is_file():
        raise MissingFileError(f"{folder} holds no index ({META} is absent).")
    meta: Dict[str, Any] = read_json(path, dict, _REMEDY)
    if field(meta, "format", int, str(path), _REMEDY) != FORMAT:
        raise UserError(
            f"{path} has format {meta['format']}, but this version reads format {FORMAT}. "
            "Build the index again."
        )
    for name in ("metric", "index", "fingerprint"):
        field(meta, name, str, str(path), _REMEDY)
    for name in ("probes", "items", "dimensions"):
        field(meta, name, int, str(path), _REMEDY)
    return meta


def check_files(folder: Path, meta: Dict[str, Any]) -> None:
    """Raise ``UserError`` if a file does not match its checksum.

    An index of an earlier version has no checksums; the log says so.
    """
    path = folder / META
    if "sums" not in meta:
        logger.warning(
            "%s is of an earlier version and has no checksums, so damage to its files cannot be "
            "detected. Save the index again to add them.",
            folder,
        )
        return
    for name, expected in field(meta, "sums", dict, str(path), _REMEDY).items():
        if Path(name).name != name:
            raise UserError(f"{path}, sums: expected names of files, found {name!r}. {_REMEDY}")
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing. {_REMEDY}")
        if sum_of(folder / name) != expect(expected, int, f"{path}, sums: {name}", _REMEDY):
            raise UserError(f"{folder / name} does not match its checksum. {_REMEDY}")


def sum_of(path: Path) -> int:
    """Return the checksum of a file (CRC-32)."""
    total = 0
    with open(path, "rb") as file:
        while True:
            block = file.read(_BLOCK)
            if not block:
                return total
            total = zlib.crc32(block, total)
