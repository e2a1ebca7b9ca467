"""Write the measurements of a run into ``metrics.json`` and into files for TensorBoard.

A measurement belongs to an iteration, counted from 0. A checkpoint remembers the last iteration
that was written before it (``last_write``). A resumed run continues from there; see ``rewind.py``.
"""

import json
import logging
from pathlib import Path
from typing import Dict, List

from fastreid.utils.events import EventWriter, get_event_storage

from ..files import append_line, writing
from ..readers.text import is_utf8, shown
from .names import METRICS

logger = logging.getLogger(__name__)

WINDOW = 20  # iterations that a written loss is the median of
REMEDY = "Then run the same command with --resume."


class NewestWriter(EventWriter):
    """Write the measurements that are newer than the last written iteration.

    Args:
        last_write: the last iteration that is in the file; -1: none.
    """

    def __init__(self, last_write: int = -1) -> None:
        self.last_write = last_write

    def write(self) -> None:
        """Write what is new."""
        by_iteration: Dict[int, Dict[str, float]] = {}
        newest = get_event_storage().latest_with_smoothing_hint(WINDOW)
        for name, (value, iteration) in newest.items():
            if iteration > self.last_write:
                by_iteration.setdefault(iteration, {})[name] = float(value)
        for iteration in sorted(by_iteration):
            self.write_iteration(iteration, by_iteration[iteration])
        self.last_write = max([self.last_write, *by_iteration])

    def write_iteration(self, iteration: int, values: Dict[str, float]) -> None:
        """Write the measurements of one iteration."""
        raise NotImplementedError

    def flush(self) -> None:
        """Wait until everything that was written is in the file."""


class MetricsWriter(NewestWriter):
    """Write a line for each iteration into ``metrics.json``."""

    def __init__(self, folder: str, last_write: int = -1) -> None:
        super().__init__(last_write)
        self._path = Path(folder) / METRICS

    def write_iteration(self, iteration: int, values: Dict[str, float]) -> None:
        line = json.dumps({**values, "iteration": iteration}, sort_keys=True)
        append_line(self._path, line, REMEDY)


class TensorBoardWriter(NewestWriter):
    """Write into a new event file of TensorBoard, beside those of earlier sessions."""

    def __init__(self, folder: str, last_write: int = -1) -> None:
        super().__init__(last_write)
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        with writing(folder, REMEDY):
            self._writer = SummaryWriter(folder)

    def write(self) -> None:
        super().write()
        storage = get_event_storage()
        for name, image, iteration in storage._vis_data:
            self._writer.add_image(name, image, iteration)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def write_iteration(self, iteration: int, values: Dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, iteration)

    def flush(self) -> None:
        with writing(self._folder, REMEDY):
            self._writer.flush()

    def close(self) -> None:
        with writing(self._folder, REMEDY):
            self._writer.close()


def tensorboard_writers(folder: str, last_write: int) -> List[TensorBoardWriter]:
    """Return the writer for TensorBoard, or no writer and a warning if it cannot write.

    TensorBoard encodes every name as UTF-8, which fails for a folder in another encoding (GBK).
    """
    if is_utf8(folder):
        return [TensorBoardWriter(folder, last_write)]
    logger.warning(
        "No curves for TensorBoard: it cannot write into %s, because this path is not in UTF-8.",
        shown(folder),
    )
    return []


def last_write_of(writers: List[EventWriter]) -> int:
    """Return the last iteration that every one of ``writers`` has written; -1: none."""
    written = [one.last_write for one in writers if isinstance(one, NewestWriter)]
    return min(written, default=-1)
