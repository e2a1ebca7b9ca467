"""Remove from a run's files what was written after the checkpoint that it is resumed from.

The resumed run writes it again. So after any number of kills, the files are the same as those of a
run that was never stopped.
"""

import json
import logging
import re
import struct
from pathlib import Path
from typing import Any, Iterator, Optional, Tuple

from ..errors import UserError
from ..files import write_atomically
from ..readers.json_file import read_json
from .metrics_log import read_lines
from .names import EVENTS, METRICS, RESULTS
from .writers import REMEDY

logger = logging.getLogger(__name__)

_HEADER, _FOOTER = struct.calcsize("<QI"), struct.calcsize("<I")


def cut_measurements(folder: str, last: int) -> None:
    """Remove the measurements after iteration ``last`` from ``metrics.json`` and the event files.

    Lines of ``metrics.json`` without an iteration (evaluations without training) are kept. A
    truncated line is removed.
    """
    path = Path(folder) / METRICS
    if path.is_file():
        lines = read_lines(path)
        kept = [one for one in lines.values if _number(one.get("iteration")) <= last]
        text = "".join(json.dumps(one, sort_keys=True) + "\n" for one in kept).encode()
        if text != path.read_bytes():
            dropped = len(lines.values) - len(kept)
            logger.info("%s: %d lines after iteration %d are written again.", path, dropped, last)
            _replace(path, text)
    for path in sorted(Path(folder).glob(f"{EVENTS}*")):
        content = path.read_bytes()
        try:
            records = b"".join(record for step, record in _records(content) if step <= last)
        except _DamagedError:
            logger.warning("%s is damaged and stays as it is; its curves may repeat.", path)
            continue
        if records != content:
            _replace(path, records)


def restore_results(folder: str, epochs: int, text: Optional[str]) -> None:
    """Replace a ``results.json`` of later epochs by its content at the checkpoint.

    Args:
        folder: ``OUTPUT_DIR``.
        epochs: number of epochs done at the checkpoint.
        text: content of the file at the checkpoint; None: there was no such file.
    """
    path = Path(folder) / RESULTS
    found = re.match(r"after epoch (\d+) of", _weights_of(path))
    if found is None or int(found.group(1)) <= epochs:
        return
    if text is None:
        path.unlink()
    else:
        _replace(path, text.encode())


def read_results(folder: str) -> Optional[str]:
    """Return the content of ``results.json``; None if there is no such file."""
    path = Path(folder) / RESULTS
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


def _weights_of(path: Path) -> str:
    """Return which weights a ``results.json`` belongs to; empty if it does not name them."""
    try:
        found = read_json(path) if path.is_file() else {}
    except UserError:  # damaged; the next evaluation replaces it
        return ""
    return str(found.get("weights", "")) if isinstance(found, dict) else ""


class _DamagedError(Exception):
    """A record of an event file is not what TensorBoard wrote."""


def _replace(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content), REMEDY)


def _number(iteration: Any) -> int:
    return iteration if isinstance(iteration, int) else -1


def _records(content: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield the step and the bytes of every whole record of an event file; -1 without a step.

    A record is the length of its data and a checksum, the data, and a checksum of these.

    Raises:
        _DamagedError: the data of a record are no event.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.event_pb2 import Event

    place = 0
    while place + _HEADER <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        end = place + _HEADER + length + _FOOTER
        if length == 0 or end > len(content):
            return
        try:
            event = Event.FromString(content[place + _HEADER : end - _FOOTER])
        except DecodeError as error:
            raise _DamagedError from error
        yield (event.step if event.HasField("summary") else -1), content[place:end]
        place = end
