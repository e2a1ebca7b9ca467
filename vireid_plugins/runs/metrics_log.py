"""What a training run measured: its ``metrics.json``, as the trainer writes it, line by line.

A run that was killed and resumed appends to the file: what it had written past the checkpoint is
trained, and written, again. The last word holds.
"""

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ..errors import PlotError

METRICS_FILE, LOG_FILE = "metrics.json", "log.txt"
_PROGRESS = re.compile(r"epoch/iter: \d+/(\d+) \d+/(\d+)")
_HEARTBEAT = "total_loss"  # in every line that the trainer writes at its regular intervals

Series = Tuple[np.ndarray, np.ndarray]  # iterations, counted from 0, ascending; values


@dataclass(frozen=True)
class RunLog:
    """The scalars of one run.

    Attributes:
        path: of its ``metrics.json``.
        series: by name: losses, ``lr``, metrics in percent, ...
        iterations_per_epoch: None where no log beside the file tells.
        superseded: lines whose iterations were trained again.
        unreadable: numbers of lines that could not be read, from 1.
    """

    path: str
    series: Dict[str, Series]
    iterations_per_epoch: Optional[float]
    superseded: int
    unreadable: Tuple[int, ...]

    @property
    def losses(self) -> List[str]:
        """Names of the losses, their sum first."""
        names = sorted(name for name in self.series if "loss" in name and name != _HEARTBEAT)
        return ([_HEARTBEAT] if _HEARTBEAT in self.series else []) + names

    @property
    def protocols(self) -> List[str]:
        """Protocol lines of the evaluations, such as ``SYSUMM01/all/single``."""
        return sorted({name.rsplit("/", 1)[0] for name in self.series if name.endswith("/mAP")})


def read_run(path: str) -> RunLog:
    """Read a run's folder, or its ``metrics.json``.

    Raises:
        PlotError: there is no such file, or no line of it is a measurement.
    """
    path = os.path.join(path, METRICS_FILE) if os.path.isdir(path) else path
    if not os.path.isfile(path):
        raise PlotError(f"{path} does not exist. {_runs_below(os.path.dirname(path) or '.')}")
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.strip("\x00\r\n ") for line in file]
    reader = _Reader()
    for number, line in enumerate(lines, start=1):
        if line:
            reader.take(number, line)
    if not reader.lines:
        what = "holds no measurement of a training" if reader.readable else f"is no {METRICS_FILE}"
        raise PlotError(f'{path} {what}: expected lines like {{"iteration": 9, "lr": 0.01}}.')
    folder = os.path.dirname(path)
    return RunLog(
        path,
        reader.series(),
        _iterations_per_epoch(os.path.join(folder, LOG_FILE)),
        reader.superseded,
        tuple(reader.unreadable),
    )


class _Reader:
    """Lines in the order of the file; those that a resumed session repeats go."""

    def __init__(self) -> None:
        self.lines: List[Tuple[int, Dict[str, float]]] = []
        self.unreadable: List[int] = []
        self.readable = self.superseded = 0
        self._heartbeat = -1

    def take(self, number: int, line: str) -> None:
        found = parse_line(line)
        if found is None:
            self.unreadable.append(number)
            return
        self.readable += 1
        iteration = found.get("iteration")
        if not isinstance(iteration, int):  # an evaluation after the training
            return
        values = {
            name: float(value)
            for name, value in found.items()
            if isinstance(value, (int, float)) and name != "iteration"
        }
        # Only at its regular lines the iterations of a session surely ascend.
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


def parse_line(line: str) -> Optional[Dict[str, Any]]:
    """The object in a line; of a line cut off by a kill and gone on with, the last object."""
    for start in (0, line.rfind('{"')):
        try:
            found = json.loads(line[start:]) if start >= 0 else None
        except ValueError:
            continue
        return found if isinstance(found, dict) else None
    return None


def _iterations_per_epoch(log: str) -> Optional[float]:
    """As the progress lines of the run's log say it."""
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
    """A sentence with the runs that lie below ``folder``, which is perhaps what was meant."""
    if not os.path.isdir(folder):
        return f"A run's folder holds {METRICS_FILE}."
    runs = sorted(
        os.path.join(folder, name)
        for name in os.listdir(folder)
        if os.path.isfile(os.path.join(folder, name, METRICS_FILE))
    )
    more = ", ..." if runs[5:] else ""
    return (
        f"There are runs in {', '.join(runs[:5])}{more}."
        if runs
        else (f"A run's folder holds {METRICS_FILE}.")
    )
