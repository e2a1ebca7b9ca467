"""The results of a measurement as a figure: rank-1 over the seconds between query and gallery."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

from ..drawing.style import COLORS, GRAY, LINES, MARKERS, new_figure, plain, styled, write_figure
from .measure import KINDS, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE = "rank1"
_APART = 0.012  # of the axis, by which the models' points are moved beside each other


@styled()
def draw(rows: Sequence[Row]) -> "Figure":
    """Return a figure with a panel for queries in color and one for gray ones.

    Bars are intervals of 95 % over persons; the gray line is an answer at random.
    """
    figure = new_figure(7.5, 3.6)
    panels = figure.subplots(1, len(KINDS), sharey=True)
    for panel, kind in zip(panels, KINDS):
        _draw_panel(panel, [row for row in rows if row.kind == kind])
        panel.set_title(f"query: {KINDS[kind]}")
        panel.set_xlabel("seconds between query and gallery")
    panels[0].set_ylabel("Rank-1 (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def write_rank1(rows: Sequence[Row], folder: Path) -> List[str]:
    """Write the figure into ``folder`` as PNG and PDF; return the paths."""
    return write_figure(draw(rows), str(folder), FIGURE)


def _draw_panel(axes: Any, rows: Sequence[Row]) -> None:
    by_model: Dict[str, List[Row]] = {}
    for row in sorted(rows, key=lambda one: one.gap):
        by_model.setdefault(row.model, []).append(row)
    for number, (model, own) in enumerate(by_model.items()):
        moved = 1 + _APART * (number - (len(by_model) - 1) / 2)
        rates = [row.rate for row in own]
        axes.errorbar(
            [row.gap * moved**4 for row in own],
            [one.rank1 for one in rates],
            yerr=_bars(own),
            label=plain(Path(model).name),
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            linestyle=LINES[number % len(LINES)],
            capsize=2,
            elinewidth=0.8,
        )
    first = next(iter(by_model.values()))
    axes.plot([row.gap for row in first], [row.chance for row in first], color=GRAY, label="chance")
    gaps = [row.gap for row in first]
    axes.set_xscale("log")
    axes.set_xticks(gaps, [f"{gap:g}" for gap in gaps])
    axes.minorticks_off()
    axes.set_ylim(0, 101)
    axes.grid(axis="y")


def _bars(rows: Sequence[Row]) -> Tuple[List[float], List[float]]:
    """Return how far the intervals reach below and above the rates."""
    below = [max(row.rate.rank1 - row.rate.low, 0.0) for row in rows]
    return below, [max(row.rate.high - row.rate.rank1, 0.0) for row in rows]
