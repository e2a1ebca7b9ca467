"""Compute statistics over seeds, and decide whether a difference is beyond the noise."""

import math
import statistics
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from ..errors import PlanError
from .runs import DONE, PlannedRun

COSTS = (
    "train_seconds",
    "seconds_per_iteration",
    "evaluation_seconds",
    "parameters",
    "trainable_parameters",
    "flops_per_image",
    "peak_memory_mib",
)


@dataclass(frozen=True)
class Estimate:
    """One metric of one config, in percent."""

    values: Sequence[float]  # one value for each seed
    trial_stds: Sequence[float]  # standard deviation of each seed over the trials of the protocol

    @property
    def mean(self) -> float:
        """Return the mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> Optional[float]:
        """Return the sample standard deviation over seeds (n - 1); None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def trials_std(self) -> float:
        """Return the mean over seeds of the standard deviation over trials."""
        return statistics.fmean(self.trial_stds)

    @property
    def squared_error(self) -> Optional[float]:
        """Return the squared standard error of the mean, s² / n; None for one seed."""
        return None if self.std is None else self.std**2 / len(self.values)


@dataclass(frozen=True)
class MeanDifference:
    """The mean of a config minus the mean of the baseline, in percentage points."""

    delta: float
    standard_error: Optional[float]  # None if one of them has one seed

    @property
    def beyond_noise(self) -> Optional[bool]:
        """Return whether ``|delta|`` is above twice its standard error; None if unknown."""
        return None if self.standard_error is None else abs(self.delta) > 2 * self.standard_error

    @property
    def verdict(self) -> str:
        """Return what the difference means, in words."""
        words = {None: "one seed: not judged", True: "beyond noise", False: "within noise"}
        return words[self.beyond_noise]


def difference(own: Estimate, baseline: Estimate) -> MeanDifference:
    """Return the difference of two means, with its standard error sqrt(s1² / n1 + s2² / n2)."""
    errors = [e for e in (own.squared_error, baseline.squared_error) if e is not None]
    known = len(errors) == 2
    return MeanDifference(own.mean - baseline.mean, math.sqrt(sum(errors)) if known else None)


@dataclass(frozen=True)
class Row:
    """All runs of one config."""

    runs: Sequence[PlannedRun]  # all seeds that were asked for
    results: Sequence[Dict[str, Any]]  # results of the complete runs

    @property
    def name(self) -> str:
        """Return the name of the config."""
        return self.runs[0].entry.name

    def estimate(self, protocol: str, metric: str) -> Optional[Estimate]:
        """Return the estimate of ``<protocol>/<metric>``; None if no run is complete.

        Raises:
            PlanError: a run was not scored by the protocol; the message names those that it has.
        """
        key = f"{protocol}/{metric}"
        for result in self.results:
            if key not in result["metrics"]:
                known = ", ".join(line["key"] for line in result["protocols"])
                raise PlanError(
                    f"{self.name} seed {result['seed']} was not scored by {protocol!r}; it has: "
                    f"{known}."
                )
        if not self.results:
            return None
        found = [result["metrics"] for result in self.results]
        return Estimate([one[key] for one in found], [one[f"{key}_std"] for one in found])

    def cost(self, name: str) -> Optional[float]:
        """Return the mean over seeds of one of ``COSTS``; None if a run does not know it."""
        values = [result[name] for result in self.results]
        return None if None in values or not values else statistics.fmean(values)

    @property
    def failures(self) -> List[str]:
        """Return why runs failed at their last attempt, and with which seeds."""
        seeds: Dict[str, List[str]] = {}
        for run in self.runs:
            error = "" if run.state == DONE else run.error()
            if error:
                seeds.setdefault(error, []).append(str(run.seed))
        return [f"seed {', '.join(own)} failed: {error}" for error, own in seeds.items()]


def collect(runs: Sequence[PlannedRun]) -> List[Row]:
    """Return a row for each config, in order."""
    own: Dict[str, List[PlannedRun]] = {}
    for run in runs:
        own.setdefault(run.entry.name, []).append(run)
    found = {name: [run.result() for run in seeds] for name, seeds in own.items()}
    return [
        Row(seeds, [result for result in found[name] if result is not None])
        for name, seeds in own.items()
    ]


def choose_protocol(rows: Sequence[Row], wanted: str) -> str:
    """Return ``wanted`` or, if it is empty, the first protocol line of a complete run.

    At least one run must be complete.
    """
    return wanted or next(row.results[0]["protocols"][0]["key"] for row in rows if row.results)


def choose_baseline(rows: Sequence[Row], wanted: Optional[str]) -> Row:
    """Return the row of the config ``wanted``.

    If it is None, return the row of ``baseline.yml`` or of a file in a folder ``baseline``, or else
    the first row.
    """
    for row in rows:
        path = row.runs[0].entry.path
        is_baseline = "baseline" in (path.stem, path.parent.name)
        if row.name == wanted or (wanted is None and is_baseline):
            return row
    return rows[0]
