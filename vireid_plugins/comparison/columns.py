"""Write the cells of the table in Markdown: a row for each config, and one for each trial."""

import os
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from ..files import PACKAGE
from .config_files import hide_paths
from .contrasts import Contrasts
from .estimate import AnyEstimate, Estimate
from .kept import METRICS
from .noise import MeanDifference
from .summary import Row, short_direction
from .transductive import transductive_words

Cells = Dict[str, str]

SHOWN = {"Rank-1": "rank-1"}  # what metrics are called
COMPARED = ("Rank-1", "mAP")  # metrics that are compared with the baseline


def markdown_table(lines: Sequence[Cells]) -> str:
    """Return lines as a table; the column of remarks is left out if it is empty."""
    names = [name for name in lines[0] if name != "remarks" or any(c[name] for c in lines)]
    text = [" | ".join(names), "|".join("---" for _ in names)]
    text += [" | ".join(cells[name].replace("|", r"\|") for name in names) for cells in lines]
    return "\n".join(f"| {line} |" if "---|" not in line else f"|{line}|" for line in text)


def directions_of(rows: Sequence[Row], protocols: Sequence[str]) -> Dict[str, str]:
    """Return what stands behind a metric's name for each protocol line, such as `` V→I``.

    It is empty if one protocol line is shown.
    """
    lines = {line["key"]: line for row in rows for one in row.results for line in one["protocols"]}
    many = len(protocols) > 1
    return {
        key: f" {short_direction(lines[key]['direction'])}" if many and key in lines else ""
        for key in protocols
    }


def row_cells(row: Row, contrasts: Contrasts, protocols: Dict[str, str], folder: Path) -> Cells:
    """Return the cells of a config, by column.

    Args:
        row: the config.
        contrasts: the table; it says which configs this one is compared with.
        protocols: for each protocol line that is shown, what stands behind a metric's name.
        folder: where the table will be, for links.
    """
    cells = {"config": _link(row, folder), **count_cells(row)}
    cells.update(metric_cells(row, protocols))
    if contrasts.against:
        cells.update(difference_cells(row, contrasts, protocols))
    cells["training"] = format_seconds(row.cost("train_seconds"))
    cells["parameters (M)"] = _scaled(row.cost("parameters"), 1e6, 2)
    cells["GFLOPs per test image"] = _scaled(row.cost("flops_per_image"), 1e9, 3)
    cells["peak memory (MiB)"] = _scaled(row.cost("peak_memory_mib"), 1, 0)
    cells["remarks"] = remarks(row)
    return cells


def metric_cells(row: Row, protocols: Dict[str, str]) -> Cells:
    """Return the means and deviations of a config, by column."""
    return {
        f"{SHOWN.get(metric, metric)}{end}": format_estimate(row.estimate(protocol, metric))
        for protocol, end in protocols.items()
        for metric in METRICS
    }


def difference_cells(row: Row, contrasts: Contrasts, protocols: Dict[str, str]) -> Cells:
    """Return the differences of a config to those that it is compared with, by column.

    A config that is only compared with is called a baseline.
    """
    others = contrasts.of(row)
    alone = "baseline" if row.name in contrasts.baselines else "–"
    return {
        f"Δ {SHOWN.get(metric, metric)}{end}": "<br>".join(
            format_difference(contrasts.difference(row, other, protocol, metric))
            for other in others
        )
        or alone
        for protocol, end in protocols.items()
        for metric in COMPARED
    }


def count_runs(row: Row) -> str:
    """Return how many runs of a config are complete: ``10 trials``, ``2 of 3 seeds``."""
    ((name, number),) = count_cells(row).items()
    if name in number or "runs" in number:
        return number
    return f"1 {name[:-1]}" if number == "1" else f"{number} {name}"


def count_cells(row: Row) -> Cells:
    wanted, there = len(row.runs), len(row.results)
    if not row.over_trials:
        return {"seeds": str(there) if there == wanted else f"{there} of {wanted} seeds"}
    trials, seeds = len(row.trials), len({run.seed for run in row.runs})
    if there < wanted:
        return {"trials": f"{there} of {wanted} {'trials' if seeds == 1 else 'runs'}"}
    return {"trials": str(trials) if seeds == 1 else f"{trials} trials × {seeds} seeds"}


def remarks(row: Row) -> str:
    """Return what the results are, which runs failed or are missing, and where to read more."""
    lacking = [f"lacks {row.missing}"] if row.over_trials and row.missing else []
    logs = (
        f"; see `{row.runs[0].entry.run_folder}/{'trial*/' if row.trials else ''}seed*/output.txt`"
    )
    kinds = dict.fromkeys(filter(None, map(transductive_words, row.results)))
    told = hide_paths("; ".join([*kinds, *row.failures, *lacking]))
    return told + (logs if row.failures else "")


def trial_cells(row: Row, protocols: Dict[str, str]) -> List[Cells]:
    """Return the cells of each complete run of a config that is run on several trials."""
    found = []
    for run, result in zip(row.runs, row.found):
        if result is not None and row.over_trials:
            cells = {"config": row.name, "trial": str(run.trial), "seed": str(run.seed)}
            for protocol, end in protocols.items():
                for metric in METRICS:
                    value = result["metrics"][f"{protocol}/{metric}"]
                    cells[f"{SHOWN.get(metric, metric)}{end}"] = f"{value:.2f}"
            found.append(cells)
    return found


def _link(row: Row, folder: Path) -> str:
    """Return the name, as a link to the config if both belong to one checkout."""
    path, root = row.runs[0].entry.path, PACKAGE.parent.resolve()
    if root in path.resolve().parents and root in folder.resolve().parents:
        return f"[{row.name}]({Path(os.path.relpath(path, folder.resolve())).as_posix()})"
    return row.name


def format_estimate(estimate: Optional[AnyEstimate]) -> str:
    """Return a mean with its deviations.

    Over seeds it is ``31.2 ± 1.1 (trials 2.0)``, without ± for one seed. Over trials that have a
    model each it is ``31.2 ± 2.0``, or ``31.2 ± 2.0 (seeds 1.1)``.
    """
    if estimate is None:
        return "–"
    spread = "" if estimate.spread is None else f" ± {estimate.spread:.1f}"
    name, other = "seeds", estimate.std
    if isinstance(estimate, Estimate):
        name, other = "trials", estimate.trials_std
    return f"{estimate.mean:.1f}{spread}" + ("" if other is None else f" ({name} {other:.1f})")


def format_difference(found: Optional[MeanDifference]) -> str:
    """Return ``+2.3 [+0.4, +4.2] (beyond noise)``, with the 95 % interval if it is known."""
    if found is None:
        return "–"
    ends = "" if found.interval is None else " [{:+.1f}, {:+.1f}]".format(*found.interval)
    return f"{found.delta:+.1f}{ends} ({found.verdict})"


def format_seconds(seconds: Optional[float]) -> str:
    """Return ``mm:ss``, or ``h:mm:ss`` from an hour on."""
    if seconds is None:
        return "n/a"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def _scaled(value: Optional[float], unit: float, digits: int) -> str:
    return "n/a" if value is None else f"{value / unit:.{digits}f}"
