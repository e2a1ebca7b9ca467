"""Draw the figure of ``distances.py``: histograms of pairs, and their ROC curves."""

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..drawing.style import COLORS, GRAY, MARKERS, new_figure, plain
from ..evaluation.pair_distances import PairHistogram

WORDS = {"cosine": "cosine distance, 1 − cos", "euclidean": "Euclidean distance"}
_ROC_POINTS = 1000
_SHOWN = 60  # bins across the range that is drawn
_TAIL = 1e-4  # share of a kind of pairs that may lie beyond the range
_SAME = ("one identity", COLORS[0], "-")
_OTHER = ("two identities", COLORS[3], "--")
# Color and line style of the ROC curves, one for each set of pairs.
_CURVES = ((COLORS[2], "-"), (COLORS[5], "--"), (COLORS[6], "-."))
# Inches: a panel, its axes, the space above and below all panels.
_WIDTH, _HEIGHT, _INNER, _HEADER, _FOOTER, _LINE = 3.6, 2.3, 1.7, 0.3, 0.35, 0.16

Histograms = Dict[str, PairHistogram]  # name of a set of pairs -> their distances


def draw_distances(
    measured: Sequence[Histograms], labels: Sequence[str], metric: str, note: str
) -> Figure:
    """Draw histograms and ROC curves: one model in two columns, two models in one column each.

    Args:
        measured: histograms of each model; all have the same sets of pairs and the same bins.
        labels: names of the models.
        metric: ``"cosine"`` or ``"euclidean"``.
        note: lines below the panels.
    """
    names = list(measured[0])
    columns = 2 if len(measured) == 1 else len(measured)
    rows = -(-(len(names) + 1) * len(measured) // columns)
    footer = _FOOTER + _LINE * (note.count("\n") + 1)
    figure = new_figure(columns * _WIDTH, _HEADER + rows * _HEIGHT + footer)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[_INNER] * rows + [footer])
    places = [grid[row, column] for row in range(rows) for column in range(columns)]
    step = len(measured)
    limit = _limit(measured)
    for number, (histograms, label) in enumerate(zip(measured, labels)):
        panels = [figure.add_subplot(place) for place in places[number::step][: len(names) + 1]]
        for axes, name in zip(panels, names):
            tops = [_highest(each[name], limit) for each in measured]
            _draw_histogram(axes, histograms[name], name, limit)
            axes.set(ylim=(0, 1.1 * max(tops) or 1.0), ylabel="% of pairs, per bin")
            axes.set_xlabel(WORDS[metric])
        _draw_roc(panels[-1], histograms)
        if len(measured) > 1:
            panels[0].annotate(
                plain(label),
                (0.5, 1),
                (0, 24),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                weight="bold",
                fontsize=10,
            )
    if len(measured) == 1:
        figure.suptitle(plain(labels[0]))
    _draw_footer(figure.add_subplot(grid[rows, :]), note)
    return figure


def roc_points(histogram: PairHistogram) -> np.ndarray:
    """Return (threshold, false accepts, true accepts) along the curve, about 1000 at most."""
    false, true = histogram.roc()
    points = np.stack([histogram.edges, false, true], 1)
    # Points at equal steps along the curve, which may rise within a few bins.
    length = np.nan_to_num(false) + np.nan_to_num(true)
    wanted = np.searchsorted(length, np.linspace(0.0, length[-1], _ROC_POINTS))
    return points[np.union1d(wanted, [0, len(points) - 1])]


def _limit(measured: Sequence[Histograms]) -> int:
    """Return how many bins are drawn from the first on: nearly all pairs lie in them."""
    found = [1]
    for histogram in (one for each in measured for one in each.values()):
        for counts in (histogram.same, histogram.other):
            whole = np.cumsum(counts)
            found.append(int(np.searchsorted(whole, (1 - _TAIL) * whole[-1])) + 1)
    width = -(-max(found) // _SHOWN)
    return min(width * _SHOWN, len(whole) // width * width)


def _percent(counts: np.ndarray, limit: int) -> np.ndarray:
    """Return the share of the pairs in each of the bins drawn."""
    drawn = counts[:limit].reshape(-1, max(1, -(-limit // _SHOWN))).sum(1)
    return 100.0 * drawn / max(1, counts.sum())


def _highest(histogram: PairHistogram, limit: int) -> float:
    return max(_percent(counts, limit).max() for counts in (histogram.same, histogram.other))


def _draw_histogram(axes: Axes, histogram: PairHistogram, name: str, limit: int) -> None:
    kinds = (
        (histogram.same, histogram.same_mean, *_SAME[1:]),
        (histogram.other, histogram.other_mean, *_OTHER[1:]),
    )
    for counts, mean, color, style in kinds:
        shares = _percent(counts, limit)
        edges = histogram.edges[: limit + 1 : limit // len(shares)]
        axes.stairs(shares, edges, fill=True, color=color, alpha=0.25)
        axes.stairs(shares, edges, color=color, ls=style, lw=1.3)
        axes.axvline(mean, color=color, ls=style, lw=0.9)
    axes.axvline(histogram.equal_error.threshold, color=GRAY, ls=":", lw=1.2)
    axes.set_xlim(0, histogram.edges[limit])
    axes.set_title(name, loc="left", fontsize=9)
    means = f"means {histogram.same_mean:.2f}, {histogram.other_mean:.2f}"
    axes.set_title(f"{means}; gap {histogram.gap:.2f}", loc="right", fontsize=7.5, color=GRAY)


def _draw_roc(axes: Axes, histograms: Histograms) -> None:
    axes.plot([0, 100], [0, 100], color=GRAY, lw=0.7, ls=":")
    for number, (name, histogram) in enumerate(histograms.items()):
        color, style = _CURVES[number]
        _, false, true = roc_points(histogram).T
        label = f"{name}\nAUC {histogram.auc:.3f}, equal error {_rate(histogram)}"
        axes.plot(100 * false, 100 * true, color=color, ls=style)
        rate = 100 * histogram.equal_error.rate
        look: Dict[str, Any] = {"marker": MARKERS[number], "ms": 5, "color": color}
        axes.plot([rate], [100 - rate], ls="", zorder=3, **look)
        axes.plot([], [], ls=style, label=label, **look)
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    axes.set(xlabel="false accept rate (%)", ylabel="true accept rate (%)")
    axes.set_title("ROC", loc="left", fontsize=9)
    box = {"frameon": True, "facecolor": "white", "edgecolor": "none", "framealpha": 1}
    axes.legend(loc="lower right", fontsize=7.5, handlelength=2.6, **box)


def _rate(histogram: PairHistogram) -> str:
    return f"{100 * histogram.equal_error.rate:.1f} %"


def _draw_footer(axes: Axes, note: str) -> None:
    axes.axis("off")
    handles: List[object] = [
        Patch(facecolor=_pale(color), edgecolor=color, ls=style, lw=1.3, label=f"pairs of {name}")
        for name, color, style in (_SAME, _OTHER)
    ]
    handles.append(Line2D([], [], color=GRAY, lw=0.9, label="their means"))
    handles.append(Line2D([], [], color=GRAY, ls=":", lw=1.2, label="equal-error threshold"))
    axes.legend(handles=handles, loc="upper center", ncol=len(handles), borderaxespad=0.0)
    axes.text(
        0.5,
        0.0,
        plain(note),
        fontsize=8,
        color=GRAY,
        ha="center",
        va="bottom",
        transform=axes.transAxes,
    )


def _pale(color: str) -> Tuple[float, float, float]:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 1 - 0.25 * (1 - red), 1 - 0.25 * (1 - green), 1 - 0.25 * (1 - blue)
