"""Write the outcome as CSV, for programs: numbers are not rounded, unknown values are empty."""

import csv
import io
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..cells import safe_cells
from .claims import Claim
from .config_files import hide_paths
from .contrasts import Contrasts
from .kept import METRICS
from .noise import MeanDifference
from .runs import PlannedRun
from .summary import COSTS, Row

VERSIONS = ("vireid_plugins", "Python", "torch", "FastReID", "NumPy", "faiss")

# what else decides the numbers; older records lack some of them
CONDITIONS = (
    *("gallery_rule", "cmc", "never_compared", "feature", "metric", "flip", "reranking"),
    "transductive",
)


def format_runs(rows: Sequence[Row]) -> str:
    """Return a line for each config, seed and protocol, with all that was measured."""
    lines: List[Dict[str, Any]] = []
    for row in rows:
        for run in [] if row.end else row.runs:  # a second row has the same runs
            result = run.result()
            lines += _result_lines(run, result) if result else [_missing_line(run)]
    return _csv(lines)


def _result_lines(run: PlannedRun, result: Dict[str, Any]) -> List[Dict[str, Any]]:
    keys = ("iterations", "images_per_batch", "train_images", "device", "runs_at_once", "sessions")
    environment = {name.lower(): result["environment"].get(name, "") for name in VERSIONS}
    lines = []
    for protocol in result["protocols"]:
        prefix = f"{protocol['key']}/"
        metrics = {
            key[len(prefix) :]: value
            for key, value in result["metrics"].items()
            if key.startswith(prefix)
        }
        lines.append(
            {
                **_identity(run, "done"),
                "protocol": protocol["key"],
                **metrics,
                **{name: protocol[name] for name in ("trials", "queries", "gallery")},
                **{name: protocol.get(name, "") for name in CONDITIONS},
                **{name: result[name] for name in (*COSTS, *keys, "commit", "finished")},
                "threads": result["environment"]["threads"],
                **environment,
                "error": "",
            }
        )
    return lines


def _identity(run: PlannedRun, state: str) -> Dict[str, Any]:
    entry = run.entry
    trial = {} if run.trial is None else {"trial": run.trial}
    point = {} if run.point is None else {"at": run.point.value}
    return {
        "config": entry.name,
        "config_file": entry.shown_path,
        **point,
        **trial,
        "seed": run.seed,
        "state": state,
    }


def _missing_line(run: PlannedRun) -> Dict[str, Any]:
    error = hide_paths(run.error())
    return {**_identity(run, "failed" if error else run.state), "error": error}


def format_summary(contrasts: Contrasts) -> str:
    """Return a line for each config and protocol: means, deviations over seeds, verdicts.

    ``..._std`` is over seeds, ``..._trials_std`` over trials, ``..._pooled_std`` over the seeds of
    all configs, with ``..._degrees`` of freedom. ``..._delta`` is to the config ``against``, the
    first with which this one is compared, and ``..._bound`` is half of its 95 % interval.
    """
    lines: List[Dict[str, Any]] = []
    for row in contrasts.rows:
        for protocol in row.results[0]["protocols"] if row.results else []:
            line = {"config": row.name, "protocol": protocol["key"], **_counts(row)}
            line["against"] = next((other.name for other in contrasts.of(row)), "")
            for metric in METRICS:
                line.update(_summary_cells(row, contrasts, protocol["key"], metric))
            lines.append({**line, **{name: row.cost(name) for name in COSTS}})
    return _csv(lines)


def format_differences(contrasts: Contrasts, claims: Mapping[str, Claim]) -> str:
    """Return a line for each row, each row that it is compared with, each protocol and metric.

    ``low`` and ``high`` are the ends of the 95 % interval, ``paper`` is what is printed.
    """
    lines: List[Dict[str, Any]] = []
    for row, other in contrasts.pairs:
        claim = claims.get(row.name)
        claim = claim if claim and claim.over == other.name else None
        for protocol in row.results[0]["protocols"]:
            for metric in METRICS:
                found = contrasts.difference(row, other, protocol["key"], metric)
                if found is not None:
                    names = {"row": row.name, "against": other.name, "protocol": protocol["key"]}
                    lines.append({**names, **_difference_line(metric, found, claim)})
    return _csv(lines or [{"row": ""}])


def _difference_line(metric: str, found: MeanDifference, claim: Optional[Claim]) -> Dict[str, Any]:
    low, high = found.interval or (None, None)
    return {
        "metric": metric,
        "delta": found.delta,
        "bound": found.bound,
        "low": low,
        "high": high,
        "degrees": found.degrees or None,
        "verdict": found.verdict,
        "paper": claim.values.get(metric) if claim else None,
        "source": claim.source if claim else "",
        "agreement": claim.agreement(metric, found) if claim else "",
    }


def _counts(row: Row) -> Dict[str, int]:
    """Return the numbers of seeds and, if there are any, trials that complete runs have."""
    done = [run for run, result in zip(row.runs, row.found) if result is not None]
    trials = {run.trial for run in done if run.trial is not None}
    return {
        "seeds": len({run.seed for run in done}),
        **({"trials": len(trials), "runs": len(done)} if trials else {}),
    }


def _summary_cells(row: Row, contrasts: Contrasts, protocol: str, metric: str) -> Dict[str, Any]:
    own, noise = row.estimate(protocol, metric), contrasts.noise(protocol, metric)
    assert own is not None, "lines are written only for rows that have results"
    cells: Dict[str, Any] = {
        metric: own.mean,
        f"{metric}_std": own.std,
        f"{metric}_trials_std": own.trials_std,
        f"{metric}_pooled_std": None if noise is None else noise.std,
    }
    for other in contrasts.of(row)[:1]:
        found = contrasts.difference(row, other, protocol, metric)
        if found is not None:
            cells[f"{metric}_delta"] = found.delta
            cells[f"{metric}_standard_error"] = found.standard_error
            cells[f"{metric}_bound"] = found.bound
            cells[f"{metric}_degrees"] = found.degrees or None
            cells[f"{metric}_verdict"] = found.verdict
    return cells


def _csv(lines: Sequence[Dict[str, Any]]) -> str:
    """Return lines as CSV with the columns of the longest line; unknown values are empty."""
    names: Dict[str, None] = {}
    for line in sorted(lines, key=len, reverse=True):
        names.update(dict.fromkeys(line))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(safe_cells(names))
    writer.writerows(safe_cells(line.get(name, "") for name in names) for line in lines)
    return text.getvalue()
