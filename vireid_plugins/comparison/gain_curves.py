"""Draw how the gain of each row changes along an axis of datasets, a small panel for each row."""

import io
import math
from typing import Any, List, Sequence, Tuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..drawing.style import COLORS, MARKERS, plain, styled
from .columns import COMPARED, SHOWN
from .contrasts import Contrasts

_COLUMNS = 4
_WIDE, _HIGH, _ABOVE, _BELOW = 2.5, 2.0, 0.75, 0.75  # inches
_DPI = 130
_SHIFT = 0.012  # of the axis; both metrics of a point stand beside each other


@styled()
def draw_curves(sections: Sequence[Any], axis: str, title: str) -> bytes:
    """Return a PNG: gains of rank-1 and mAP with their 95 % intervals along the axis.

    All panels have one scale, so that rows can be compared.

    Args:
        sections: tables of one plan on several folders of datasets, each with ``point``,
            ``contrasts`` and ``protocols``.
        axis: title of the axis.
        title: title above the panels.
    """
    pairs = _pairs([section.contrasts for section in sections])
    columns = min(_COLUMNS, max(1, len(pairs)))
    lines = max(1, math.ceil(len(pairs) / columns))
    width, height = columns * _WIDE + 0.6, lines * _HIGH + _ABOVE + _BELOW
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (name, other) in zip(panels, pairs):
        _draw_panel(axes, sections, name, other)
        axes.set_title(plain(f"{name}\nover {other}"), fontsize=8)
    for place, axes in enumerate(panels):
        axes.set_visible(place < len(pairs))
        axes.tick_params(labelbottom=place + columns >= len(pairs))  # the lowest of its column
    figure.suptitle(plain(title), x=0.02, y=1 - 0.1 / height, ha="left", va="top")
    figure.supxlabel(plain(axis), y=0.3 / height, fontsize=9)
    figure.supylabel("gain (points)", fontsize=9)
    figure.legend(handles=_legend(), loc="lower right", ncol=2)
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


def _pairs(tables: Sequence[Contrasts]) -> List[Tuple[str, str]]:
    """Return every row with the first row that it is compared with, if one table knows both."""
    found = [
        (row.name, contrasts.of(row)[0].name)
        for contrasts in tables
        for row, other in contrasts.pairs
        if contrasts.of(row)[0] is other
    ]
    return list(dict.fromkeys(found))


def _draw_panel(axes: Axes, sections: Sequence[Any], name: str, other: str) -> None:
    axes.axhline(0, color="black", lw=0.9, zorder=1)
    places = [section.point.value for section in sections]
    span = (max(places) - min(places)) or 1.0
    for number, metric in enumerate(COMPARED):
        x, y, bounds = [], [], []
        for section in sections:
            rows = {row.name: row for row in section.contrasts.rows}
            found = section.contrasts.difference(
                rows[name], rows[other], section.protocols[0], metric
            )
            if found is not None:
                x.append(section.point.value + (2 * number - 1) * _SHIFT * span)
                y.append(found.delta)
                bounds.append(found.bound or 0.0)
        look: Any = {"color": COLORS[_COLOR[number]], "marker": MARKERS[number]}
        axes.errorbar(x, y, yerr=bounds, ms=4, lw=1.3, elinewidth=0.9, capsize=2, **look)
    axes.set_xticks(sorted(places))
    axes.grid(axis="y")


_COLOR = (0, 3)  # blue, vermilion


def _legend() -> List[Any]:
    return [
        Line2D(
            [],
            [],
            color=COLORS[color],
            marker=marker,
            label=f"{SHOWN.get(metric, metric)} (95 % interval)",
        )
        for color, marker, metric in zip(_COLOR, MARKERS, COMPARED)
    ]
