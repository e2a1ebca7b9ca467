"""Draw the figure of ``embedding.py``: color and fill show the identity, the mark the modality.

Shapes: n images.
"""

from typing import Any, Dict, List, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..drawing.style import BLACK, COLORS, GRAY, MODALITY_MARKERS, new_figure, plain
from ..modality import Modality

# Each color three times: filled, hollow, and filled with a black rim; black, the last, twice.
_FILLS = ("filled", "hollow", "rimmed")
_PALETTE = (*(color for color in COLORS if color != BLACK), BLACK)
MOST_IDENTITIES = len(_FILLS) * len(_PALETTE) - 1
# Inches: a panel, the room above and below it, the first column of the legend, each further one.
_PANEL, _AROUND, _LEGEND, _COLUMN = 3.7, 0.5, 1.0, 0.8
_LINES_OF_LEGEND = 20


def draw_maps(
    maps: Sequence[np.ndarray],
    targets: np.ndarray,
    modalities: np.ndarray,
    identities: Sequence[int],
    titles: Sequence[str],
    note: str,
) -> Figure:
    """Draw one panel for each model, on axes of the same extent, and one legend.

    Args:
        maps: points (n, 2) for each model.
        targets, modalities: (n,) labels of the points.
        identities: the different values of ``targets``, in the order of the legend.
        titles: titles of the panels.
        note: text below the panels.
    """
    columns = 1 + (len(identities) + 3) // _LINES_OF_LEGEND
    widths = [_PANEL] * len(maps) + [_LEGEND + (columns - 1) * _COLUMN]
    figure = new_figure(sum(widths), _PANEL + _AROUND)
    *panels, beside = figure.subplots(1, len(maps) + 1, gridspec_kw={"width_ratios": widths})
    centered = [points - (points.max(0) + points.min(0)) / 2 for points in maps]
    extent = 1.05 * max(float(np.abs(points).max()) for points in centered) or 1.0
    for axes, points, title in zip(panels, centered, titles):
        _draw_points(axes, points, targets, modalities, identities)
        axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal", anchor="N")
        axes.set(xticks=[], yticks=[])
        axes.set_title(plain(title))
        for side in axes.spines.values():
            side.set(visible=True, color=GRAY, linewidth=0.6)
    figure.supxlabel(plain(note), fontsize=8, color=GRAY)
    beside.axis("off")
    beside.set_title("identity", loc="left", fontsize=9)
    beside.legend(
        handles=_legend(identities, np.unique(modalities)),
        loc="upper left",
        ncol=columns,
        handletextpad=0.2,
        borderaxespad=0.0,
        borderpad=0.0,
    )
    return figure


def _draw_points(
    axes: Axes,
    points: np.ndarray,
    targets: np.ndarray,
    modalities: np.ndarray,
    identities: Sequence[int],
) -> None:
    for place, identity in enumerate(identities):
        for modality in np.unique(modalities):
            shown = (targets == identity) & (modalities == modality)
            x, y = points[shown].T
            axes.scatter(x, y, s=20, marker=_marker(modality), zorder=2, **_colors(place))


def _colors(place: int) -> Dict[str, Any]:
    """Return face, rim and width of the rim of the identity at a place of the legend."""
    color, fill = _PALETTE[place % len(_PALETTE)], _FILLS[place // len(_PALETTE)]
    if fill == "hollow":
        return {"facecolors": "white", "edgecolors": color, "linewidths": 1.2}
    rim = (BLACK, 1.1) if fill == "rimmed" else (GRAY, 0.3)
    return {"facecolors": color, "edgecolors": rim[0], "linewidths": rim[1]}


def _marker(modality: int) -> str:
    return MODALITY_MARKERS[Modality(modality)] if modality in tuple(Modality) else "s"


def _legend(identities: Sequence[int], modalities: np.ndarray) -> List[Line2D]:
    handles = []
    for place, identity in enumerate(identities):
        look = _colors(place)
        handles.append(
            Line2D(
                [],
                [],
                ls="",
                marker="s",
                ms=6,
                label=str(identity),
                mfc=look["facecolors"],
                mec=look["edgecolors"],
                mew=look["linewidths"],
            )
        )
    for modality in modalities:
        if modality in MODALITY_MARKERS:
            label = Modality(modality).label
            handles.append(
                Line2D([], [], ls="", marker=_marker(modality), ms=6, color=GRAY, label=label)
            )
    return handles
