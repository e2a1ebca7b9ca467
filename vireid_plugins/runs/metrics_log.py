"""Read the ``metrics.json`` of a run, which has a line for each progress report and evaluation.

A run that was killed and resumed appends to the file. The iterations after the checkpoint are
trained, and written, a second time; the later line counts.
"""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from ..errors import MissingFileError, UserError
from ..readers.text import read_bytes
from .names import LOG, METRICS

_PROGRESS = re.compile(r"epoch/iter: \d+/(\d+) \d+/(\d+)")
_HEARTBEAT = "total_loss"  # in every line that the trainer writes at its regular intervals

_FACTS = ("iteration", "weights")  # entries of a line that are not measurements
_MOST = 2**63  # whole numbers below it can be counted

Series = Tuple[np.ndarray, np.ndarray]  # iterations, counted from 0, ascending; values


class Lines(NamedTuple):
    """What the lines of a file hold."""

    values: List[Dict[str, Any]]  # the objects in the readable lines, in order
    unreadable: Tuple[int, ...]  # numbers of the other lines, counted from 1


@dataclass(frozen=True)
class MetricsLog:
    """The scalars of one run.

    Attributes:
        path: path of the file.
        series: measurements by name: losses, ``lr``, metrics in percent, ...
        iterations_per_epoch: read from the log beside the file; None if there is no such log.
        superseded: the number of lines whose iterations were trained again.
        unreadable: numbers of lines that could not be read, counted from 1.
    """

    path: str
    series: Dict[str, Series]
    iterations_per_epoch: Optional[float]
    superseded: int
    unreadable: Tuple[int, ...]

    @property
    def losses(self) -> List[str]:
        """Return the names of the losses, their sum first."""
        names = sorted(name for name in self.series if "loss" in name and name != _HEARTBEAT)
        return ([_HEARTBEAT] if _HEARTBEAT in self.series else []) + names

    @property
    def protocols(self) -> List[str]:
        """Return the protocol lines of the evaluations, such as ``SYSUMM01/all/single``."""
        return sorted({name.rsplit("/", 1)[0] for name in self.series if name.endswith("/mAP")})


def read_metrics_log(path: str) -> MetricsLog:
    """Read the ``metrics.json`` of a run.

    Args:
        path: path of the file, or of the run's folder.

    Raises:
        MissingFileError: there is no such file.
        UserError: no line of it is a measurement.
    """
    path = os.path.join(path, METRICS) if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise MissingFileError(
            f"{path} does not exist. {_runs_below(os.path.dirname(path) or '.')}"
        )
    lines = read_lines(Path(path))
    collected = _Collected()
    for values in lines.values:
        collected.take(values)
    if not collected.lines:
        what = "holds no measurement of a training" if lines.values else f"is not a {METRICS}"
        raise UserError(f'{path} {what}: expected lines like {{"iteration": 9, "lr": 0.01}}.')
    return MetricsLog(
        path,
        collected.series(),
        _iterations_per_epoch(os.path.join(os.path.dirname(path), LOG)),
        collected.superseded,
        lines.unreadable,
    )


def read_lines(path: Path) -> Lines:
    """Return the objects in the lines of a file; a run that was cut off leaves damaged lines.

    Raises:
        UserError: the file cannot be read.
    """
    values: List[Dict[str, Any]] = []
    unreadable: List[int] = []
    text = read_bytes(path).decode("utf-8", "replace")
    for number, line in enumerate((one.strip("\x00\r\n ") for one in text.split("\n")), start=1):
        found = _parse_line(line) if line else None
        if found is not None:
            values.append(found)
        elif line:
            unreadable.append(number)
    return Lines(values, tuple(unreadable))


class _Collected:
    """Collect measurements in the order of the file, and drop those that were trained again."""

    def __init__(self) -> None:
        self.lines: List[Tuple[int, Dict[str, float]]] = []
        self.superseded = 0
        self._heartbeat = -1

    def take(self, found: Dict[str, Any]) -> None:
        if "iteration" not in found:  # an evaluation after the training
            return
        values = {name: float(value) for name, value in found.items() if name not in _FACTS}
        iteration = found["iteration"]
        # Iterations of a session are certain to ascend only in the regular lines.
        if _HEARTBEAT in values:
            if iteration <= self._heartbeat:
                before = len(self.lines)
                self.lines = [one for one in self.lines if one[0] < iteration]
                self.superseded += before - len(self.lines)
            self._heartbeat = iteration
        self.lines.append((iteration, values))

    def series(self) -> Dict[str, Series]:
        found: Dict[str, Dict[int, float]] = {}
        for iteration, values in self.lines:
            for name, value in values.items():
                found.setdefault(name, {})[iteration] = value
        return {
            name: (np.array(sorted(one)), np.array([one[key] for key in sorted(one)]))
            for name, one in found.items()
        }


def _parse_line(line: str) -> Optional[Dict[str, Any]]:
    """Return the object in a line; if a line was cut off and continued, return the last one."""
    for start in (0, line.rfind('{"')):
        try:
            found = json.loads(line[start:]) if start >= 0 else None
        except (ValueError, RecursionError):
            continue
        return found if _is_line(found) else None
    return None


def _is_line(found: Any) -> bool:
    """Return whether ``found`` is what a line holds: numbers by name, NaN and infinity included."""
    if not isinstance(found, dict):
        return False
    iteration = found.get("iteration", 0)
    if not isinstance(iteration, int) or isinstance(iteration, bool):
        return False
    if not 0 <= iteration < _MOST:
        return False
    return all(_is_value(value) for name, value in found.items() if name not in _FACTS)


def _is_value(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) < _MOST


def _iterations_per_epoch(log: str) -> Optional[float]:
    """Return what the progress lines of the run's log say; None if they say nothing."""
    if not os.path.isfile(log):
        return None
    found = None
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            found = _PROGRESS.search(line) or found
    if found is None or int(found.group(1)) == 0:
        return None
    return int(found.group(2)) / int(found.group(1))


def _runs_below(folder: str) -> str:
    """Return a sentence that names the runs below ``folder``, one of which may be meant."""
    if not os.path.isdir(folder):
        return f"A run's folder holds {METRICS}."
    runs = sorted(
        os.path.join(folder, name)
        for name in os.listdir(folder)
        if os.path.isfile(os.path.join(folder, name, METRICS))
    )
    if not runs:
        return f"A run's folder holds {METRICS}."
    return f"There are runs in {', '.join(runs[:5])}{', ...' if runs[5:] else ''}."
