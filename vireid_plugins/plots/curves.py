"""The kind ``curves``: losses, learning rate and metrics of training runs over their epochs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..drawing.style import (
    COLORS,
    GRAY,
    LINES,
    MARKERS,
    new_figure,
    plain,
    write_figure,
    write_numbers,
)
from ..errors import PlotError
from ..registry import suggest
from ..runs.metrics_log import MetricsLog, Series, read_metrics_log
from .conditions import different_conditions
from .kinds import Drawn, Kind, register_kind
from .options import option

NAME = "curves"
HEADER = ("run", "name", "iteration", "epoch", "value")
RATE = "lr"
METRICS = ("Rank-1", "mAP", "mINP")
_COLORS = COLORS[:7]  # without yellow, which a thin line on white hides
# Colors and line styles repeat after different numbers of runs, so this many pairs are different.
MOST_RUNS = len(_COLORS) * len(LINES)
# The axis of rates is logarithmic if the largest is more than this many times the smallest.
_LOGARITHMIC = 20
_COLUMNS = 3
# Inches: a panel, the height of its axes; a line of the legend, a letter, and the sample before it.
_PANEL, _INNER = (2.6, 2.0), 1.4
_LINE, _LETTER, _SAMPLE = 0.18, 0.068, 0.6
_NOTE = "Losses: medians of the last 20 iterations, as the trainer logs them."


class CurvePanel(NamedTuple):
    """What one pair of axes shows."""

    title: str
    name: str  # name of the series
    is_metric: bool = False


@dataclass(frozen=True)
class CurveOptions:
    """Options of the curves."""

    label: Tuple[str, ...] = option(
        (),
        "name of a run, given once for each run; default: what differs in the folders' names",
        repeated=True,
        metavar="NAME",
    )
    protocol: str = option(
        "",
        "protocol whose metrics are drawn, such as SYSUMM01/all/single; default: the first",
        metavar="NAME",
    )
    metrics: str = option(",".join(METRICS), "names joined by commas", metavar="NAMES")


@register_kind(NAME, help="losses, learning rate and metrics over epochs; several runs on one plot")
class Curves(Kind):
    """Curves of ``metrics.json``."""

    Options = CurveOptions
    needs_model = False

    def draw(self, subjects: Sequence[str], options: CurveOptions, folder: str) -> Drawn:
        """Draw a panel for each loss, the learning rate and each metric, and a line for each run.

        Args:
            subjects: folders of runs, with ``metrics.json`` in them.
            options: the options of the picture.
            folder: where to write.
        """
        if len(subjects) > MOST_RUNS:
            raise PlotError(f"{len(subjects)} runs; at most {MOST_RUNS} can be told apart.")
        runs = [read_metrics_log(path) for path in subjects]
        labels = _labels(runs, options.label)
        notes = [line for label, run in zip(labels, runs) for line in _summary(label, run)]
        protocol = common_protocol(runs, options.protocol)
        folders = [Path(run.path).parent for run in runs]
        notes += different_conditions(labels, folders, protocol)
        panels = choose_panels(runs, protocol, options.metrics.split(","))
        by_epoch = all(run.iterations_per_epoch for run in runs)
        if not by_epoch:
            notes.append("Without a log.txt beside metrics.json, the axis counts iterations.")
        note = _NOTE + (f"\nMetrics: {protocol}." if protocol else "")
        written = write_figure(draw_curves(runs, labels, panels, note, by_epoch), folder, NAME)
        numbers = write_numbers(folder, NAME, HEADER, _lines(runs, labels, panels))
        return Drawn([*written, numbers], notes)


def _labels(runs: Sequence[MetricsLog], given: Sequence[str]) -> List[str]:
    """Return the labels that are given, or the parts in which the folders' names differ."""
    if given and len(given) != len(runs):
        raise PlotError(f"--label is given once for each of {len(runs)} runs; got {list(given)}.")
    folders = [os.path.dirname(os.path.realpath(run.path)) for run in runs]
    twice = sorted({folder for folder in folders if folders.count(folder) > 1})
    if twice:
        raise PlotError(f"The run {twice[0]} is named twice.")
    if given:
        return list(given)
    parts = [folder.split(os.sep) for folder in folders]
    common = 0
    while all(len(one) > common + 1 for one in parts) and len({one[common] for one in parts}) == 1:
        common += 1
    return ["/".join(one[common:]) for one in parts]


def _summary(label: str, run: MetricsLog) -> List[str]:
    """Return lines that say how long a run is, and which lines of its file are left out."""
    last = max(int(iterations[-1]) for iterations, _ in run.series.values()) + 1
    epochs = f", epoch {last / run.iterations_per_epoch:g}" if run.iterations_per_epoch else ""
    lines = [f"{label}: {last} iterations{epochs}, {run.path}"]
    if run.superseded:
        lines.append(f"  {run.superseded} lines are left out: the resumed run trained them again.")
    if run.unreadable:
        few = ", ".join(map(str, run.unreadable[:5])) + (", ..." if run.unreadable[5:] else "")
        lines.append(f"  line {few} cannot be read (cut off?) and is left out.")
    return lines


def common_protocol(runs: Sequence[MetricsLog], wanted: str) -> str:
    """Return the protocol line whose metrics are drawn; empty if no run was evaluated.

    Raises:
        PlotError: no run has the line that is wanted, or the runs have none in common.
    """
    known = [run.protocols for run in runs if run.protocols]
    everything = sorted({name for names in known for name in names})
    if wanted:
        if wanted not in everything:
            near = suggest(wanted, everything)
            raise PlotError(f"--protocol {wanted!r} was not evaluated. {near}")
        return wanted
    common = [name for name in everything if all(name in names for names in known)]
    if known and not common:
        raise PlotError(
            f"The runs were evaluated by different protocols; there are {', '.join(everything)}. "
            "Name one by --protocol."
        )
    return common[0] if common else ""


def choose_panels(
    runs: Sequence[MetricsLog], protocol: str, metrics: Sequence[str]
) -> List[CurvePanel]:
    """Return what is drawn: every loss of any run, the learning rate and the metrics.

    Raises:
        PlotError: a metric was not evaluated.
    """
    losses = list(dict.fromkeys(name for run in runs for name in run.losses))
    panels = [CurvePanel(name, name) for name in losses]
    if any(RATE in run.series for run in runs):
        panels.append(CurvePanel("learning rate", RATE))
    head = f"{protocol}/"
    known = {
        name[len(head) :]
        for run in runs
        for name in run.series
        if protocol and name.startswith(head) and not name.endswith("_std")
    }
    for metric in map(str.strip, metrics if protocol else ()):
        if metric not in known:
            raise PlotError(f"--metrics names {metric!r}. {suggest(metric, known)}")
        panels.append(CurvePanel(f"{metric} (%)", head + metric, True))
    if not panels:
        raise PlotError("The runs hold neither losses, nor a learning rate, nor metrics.")
    return panels


def draw_curves(
    runs: Sequence[MetricsLog],
    labels: Sequence[str],
    panels: Sequence[CurvePanel],
    note: str,
    by_epoch: bool,
) -> Figure:
    """Draw a panel for each series, with a line for each run, and one legend.

    Args:
        runs: at most ``MOST_RUNS``.
        labels: names of the runs.
        panels: what ``choose_panels`` returns.
        note: text below the panels.
        by_epoch: True: the horizontal axes count epochs; False: iterations.
    """
    columns = 2 if len(panels) == 4 else min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width = max(2, columns) * _PANEL[0]
    in_a_line = max(1, int(width / (_SAMPLE + _LETTER * max(map(len, labels)))))
    lines = -(-len(labels) // in_a_line) + note.count("\n") + 2
    figure = new_figure(width, rows * _PANEL[1] + lines * _LINE)
    heights = [_INNER] * rows + [lines * _LINE]
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=heights)
    looks = [
        {"color": _COLORS[i % len(_COLORS)], "ls": LINES[i % len(LINES)]} for i in range(len(runs))
    ]
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(grid[place // columns, place % columns])
        _draw_panel(axes, panel, runs, looks, by_epoch)
    footer = figure.add_subplot(grid[rows, :])
    footer.axis("off")
    handles = [footer.plot([], [], label=plain(one), **look)[0] for one, look in zip(labels, looks)]
    footer.legend(handles=handles, loc="upper center", ncol=in_a_line, borderaxespad=0.0)
    footer.text(
        0.5,
        0.0,
        plain(note),
        fontsize=8,
        color=GRAY,
        ha="center",
        va="bottom",
        transform=footer.transAxes,
    )
    return figure


def _draw_panel(
    axes: Axes,
    panel: CurvePanel,
    runs: Sequence[MetricsLog],
    looks: Sequence[Dict[str, Any]],
    by_epoch: bool,
) -> None:
    drawn = []
    for number, (run, look) in enumerate(zip(runs, looks)):
        if panel.name in run.series:
            iterations, values = run.series[panel.name]
            marks: Dict[str, Any] = {}
            if panel.is_metric:
                marks = {"marker": MARKERS[number % len(MARKERS)], "ms": 4}
            axes.plot(_places(run, iterations, by_epoch), values, **look, **marks)
            drawn.append(values)
    axes.set_title(plain(panel.title))
    axes.set_xlabel("epoch" if by_epoch else "iteration")
    axes.set_xlim(left=0)
    axes.grid(axis="y")
    if panel.name == RATE:
        _scale_rate(axes, np.concatenate(drawn))


def _scale_rate(axes: Axes, rates: np.ndarray) -> None:
    """Draw the steps of a schedule on a logarithmic axis, and other rates from zero on."""
    rates = rates[np.isfinite(rates)]
    if len(rates) == 0:
        return
    if rates.min() > 0 and rates.max() > _LOGARITHMIC * rates.min():
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * float(rates.max()) or 1.0)
        axes.ticklabel_format(axis="y", scilimits=(-2, 3))


def _places(run: MetricsLog, iterations: np.ndarray, by_epoch: bool) -> np.ndarray:
    """Return the places of values on the axis: epochs, or iterations, that are done."""
    done = iterations + 1
    return done / run.iterations_per_epoch if by_epoch else done


def _lines(
    runs: Sequence[MetricsLog], labels: Sequence[str], panels: Sequence[CurvePanel]
) -> Iterator[Tuple[Any, ...]]:
    """Yield the rows of the CSV file: what is drawn, and deviations of metrics over trials."""
    for label, run in zip(labels, runs):
        for name in (n for panel in panels for n in _with_deviation(panel)):
            iterations, values = run.series.get(name, _NOTHING)
            for iteration, value in zip(iterations, values):
                yield (label, name, iteration, _epoch(run, iteration), f"{value:.8g}")


_NOTHING: Series = (np.array([], int), np.array([]))


def _with_deviation(panel: CurvePanel) -> Tuple[str, ...]:
    return (panel.name, f"{panel.name}_std") if panel.is_metric else (panel.name,)


def _epoch(run: MetricsLog, iteration: int) -> Optional[str]:
    """Return the epochs done after an iteration; None if that is not known."""
    if not run.iterations_per_epoch:
        return None
    return f"{(iteration + 1) / run.iterations_per_epoch:.6g}"
