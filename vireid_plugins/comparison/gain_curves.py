"""Draw how the gain of each row changes along an axis of datasets, a small panel for each row."""

import io
import math
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..drawing.style import COLORS, MARKERS, plain, styled
from .columns import COMPARED, SHOWN
from .noise import MeanDifference

#: a metric of the table -> (place on the axis, gain there)
Curve = Dict[str, List[Tuple[float, MeanDifference]]]

_COLUMNS = 4
_WIDE, _HIGH, _ABOVE, _BELOW = 2.5, 2.0, 0.75, 0.75  # inches
_DPI = 130
_SHIFT = 0.012  # of the axis; both metrics of a point stand beside each other


@styled()
def draw_curves(sections: Sequence[Any], axis: str, title: str) -> bytes:
    """Return a PNG: gains of rank-1 and mAP along the axis, with 95 % intervals if seeds give any.

    All panels have one scale, so that rows can be compared. A row that is known at one point of the
    axis only is no curve, and is left out as soon as another row has one.

    Args:
        sections: tables of one plan on several folders of datasets, each with ``point``,
            ``contrasts`` and ``protocols``.
        axis: title of the axis.
        title: title above the panels.
    """
    curves = _curves(sections)
    places = sorted(section.point.value for section in sections)
    columns = min(_COLUMNS, max(1, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    width, height = columns * _WIDE + 0.6, lines * _HIGH + _ABOVE + _BELOW
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, ((name, other), curve) in zip(panels, curves.items()):
        _draw_panel(axes, curve, places)
        axes.set_title(plain(f"{name}\nover {other}"), fontsize=8)
    for place, axes in enumerate(panels):
        axes.set_visible(place < len(curves))
        axes.tick_params(labelbottom=place + columns >= len(curves))  # the lowest of its column
    figure.suptitle(plain(title), x=0.02, y=1 - 0.1 / height, ha="left", va="top")
    figure.supxlabel(plain(axis), y=0.3 / height, fontsize=9)
    figure.supylabel("gain (points)", fontsize=9)
    figure.legend(handles=_legend(curves), loc="lower right", ncol=2)
    figure.subplots_adjust(
        left=0.75 / width,
        right=1 - 0.1 / width,
        bottom=_BELOW / height,
        top=1 - (_ABOVE + 0.1) / height,
        wspace=0.12,
        hspace=0.5,
    )
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    return content.getvalue()


def _curves(sections: Sequence[Any]) -> Dict[Tuple[str, str], Curve]:
    """Return the differences of every row to the first row that it is compared with."""
    found: Dict[Tuple[str, str], Curve] = {}
    for section in sections:
        contrasts = section.contrasts
        for row, other in contrasts.pairs:
            if contrasts.of(row)[0] is not other:
                continue
            curve = found.setdefault((row.name, other.name), {metric: [] for metric in COMPARED})
            for metric in COMPARED:
                gain = contrasts.difference(row, other, section.protocols[0], metric)
                if gain is not None:
                    curve[metric].append((section.point.value, gain))
    shortest = 2 if max(map(_length, found.values()), default=0) > 1 else 0
    return {pair: curve for pair, curve in found.items() if _length(curve) >= shortest}


def _length(curve: Curve) -> int:
    return max(map(len, curve.values()))


def _draw_panel(axes: Axes, curve: Curve, places: Sequence[float]) -> None:
    axes.axhline(0, color="black", lw=0.9, zorder=1)
    span = (max(places) - min(places)) or 1.0
    for number, points in enumerate(curve.values()):
        shift = (2 * number - 1) * _SHIFT * span
        axes.errorbar(
            [place + shift for place, _ in points],
            [gain.delta for _, gain in points],
            yerr=[gain.bound or 0.0 for _, gain in points],
            ms=4,
            lw=1.3,
            elinewidth=0.9,
            capsize=2,
            color=COLORS[_COLOR[number]],
            marker=MARKERS[number],
        )
    axes.set_xticks(places)
    axes.grid(axis="y")


_COLOR = (0, 3)  # blue, vermilion


def _legend(curves: Mapping[Any, Curve]) -> List[Any]:
    gains = [gain for curve in curves.values() for points in curve.values() for _, gain in points]
    interval = " (95 % interval)" if any(gain.bound for gain in gains) else " (one seed)"
    return [
        Line2D(
            [], [], color=COLORS[color], marker=marker, label=SHOWN.get(metric, metric) + interval
        )
        for color, marker, metric in zip(_COLOR, MARKERS, COMPARED)
    ]
