"""Put the results of the runs of a config into a row, and choose what a table shows of it."""

import statistics
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..errors import PlanError
from .estimate import AnyEstimate, Estimate, TrialEstimate
from .runs import DONE, PlannedRun
from .transductive import PLAIN, both_ways

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
class Row:
    """All runs of one config."""

    runs: Sequence[PlannedRun]  # all seeds and trials that were asked for
    found: Sequence[Optional[Dict[str, Any]]]  # the result of each; None: it is not complete
    end: str = ""  # of its name: what its results are, if the config has several rows

    @property
    def results(self) -> List[Dict[str, Any]]:
        """Return the results of the complete runs."""
        return [result for result in self.found if result is not None]

    @property
    def trials(self) -> List[int]:
        """Return the trials that were asked for, each with a model of its own; often none."""
        return sorted({run.trial for run in self.runs if run.trial is not None})

    @property
    def name(self) -> str:
        """Return the name of the config, and what the results are if it has several rows."""
        return self.runs[0].entry.name + self.end

    @property
    def over_trials(self) -> bool:
        """Return whether means are over several trials that have a model each."""
        return len(self.trials) > 1

    def estimate(self, protocol: str, metric: str) -> Optional[AnyEstimate]:
        """Return the estimate of ``<protocol>/<metric>``; None if no run is complete.

        It is over trials if several of them, each with a model of its own, were asked for.

        Raises:
            PlanError: a run was not scored by the protocol; the message names those that it has.
        """
        key = f"{protocol}/{metric}"
        complete = [(run, one) for run, one in zip(self.runs, self.found) if one is not None]
        for run, result in complete:
            if key not in result["metrics"]:
                known = ", ".join(line["key"] for line in result["protocols"])
                raise PlanError(f"{run.title} was not scored by {protocol!r}; it has: {known}.")
        if not complete:
            return None
        if self.over_trials:
            return TrialEstimate(
                {(run.trial or 0, run.seed): one["metrics"][key] for run, one in complete}
            )
        metrics = [result["metrics"] for _, result in complete]
        lines = [
            line for _, one in complete for line in one["protocols"] if line["key"] == protocol
        ]
        several = any(line["trials"] > 1 for line in lines)
        stds = [one[f"{key}_std"] for one in metrics] if several else []
        return Estimate([one[key] for one in metrics], stds)

    def cost(self, name: str) -> Optional[float]:
        """Return the mean over seeds of one of ``COSTS``; None if a run does not know it."""
        values = [result[name] for result in self.results]
        return None if None in values or not values else statistics.fmean(values)

    @property
    def failures(self) -> List[str]:
        """Return why runs failed at their last attempt, and which."""
        places: Dict[str, List[PlannedRun]] = {}
        for run in self.runs:
            error = "" if run.state == DONE else run.error()
            if error:
                places.setdefault(error, []).append(run)
        return [f"{name_runs(own)} failed: {error}" for error, own in places.items()]

    @property
    def missing(self) -> str:
        """Return which runs the row lacks that did not fail; empty: none."""
        lacking = [
            run for run, one in zip(self.runs, self.found) if one is None and not run.error()
        ]
        return name_runs(lacking) if lacking else ""


def name_runs(runs: Sequence[PlannedRun]) -> str:
    """Return which runs of a config these are: ``seed 0, 2`` or ``trial 3, 4 seed 0``."""
    trials: Dict[int, List[str]] = {}
    for run in runs:
        trials.setdefault(run.seed, []).extend([] if run.trial is None else [str(run.trial)])
    seeds: Dict[str, List[str]] = {}
    for seed, of in trials.items():
        seeds.setdefault(", ".join(of), []).append(str(seed))
    return "; ".join(
        f"{f'trial {of} ' if of else ''}seed {', '.join(own)}" for of, own in seeds.items()
    )


def collect(runs: Sequence[PlannedRun]) -> List[Row]:
    """Return a row for each config, in order, and one more for each that is transductive."""
    own: Dict[str, List[PlannedRun]] = {}
    for run in runs:
        own.setdefault(run.entry.name, []).append(run)
    rows: List[Row] = []
    for of in own.values():
        found = [both_ways(run.result()) for run in of]
        rows.append(Row(of, [first for first, _ in found]))
        if any(plain for _, plain in found):
            rows.append(Row(of, [plain for _, plain in found], PLAIN))
    return rows


def with_second_rows(
    against: Mapping[str, Sequence[str]], rows: Sequence[Row]
) -> Dict[str, Sequence[str]]:
    """Return which rows are compared with which, each transductive one first with its second row.

    Args:
        against: names of rows, by the name of a row.
        rows: from :func:`collect`.
    """
    names = {row.runs[0].entry.name: row.name for row in rows if row.end}
    own = {name: (second, *against.get(name, ())) for name, second in names.items()}
    return {**against, **own}


def choose_protocols(rows: Sequence[Row], wanted: str) -> List[str]:
    """Return the protocol lines that the table shows: ``wanted``, or else those of one test.

    These are the first line of a complete run and the lines that differ from it in the direction
    alone. At least one run must be complete.
    """
    if wanted:
        return [wanted]
    lines = next(row.results[0]["protocols"] for row in rows if row.results)
    return [line["key"] for line in lines if _undirected(line) == _undirected(lines[0])]


def _undirected(line: Dict[str, Any]) -> List[str]:
    """Return the parts of a protocol's key without its direction."""
    return [part for part in line["key"].split("/") if part != line["direction"]]


def short_direction(direction: str) -> str:
    """Return ``V→I`` for ``visible_to_infrared``."""
    return "→".join(word[:1].upper() for word in direction.split("_to_"))


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
