"""Draw the figures of ``cameras.py``: matrices of rank-1, and the difference of two."""

import textwrap
from typing import Any, Callable, List, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..drawing.style import BLACK, GRAY, PALE, new_figure, plain
from ..evaluation.cameras import CameraMatrix

# Inches: a cell, the words at the left of and below a matrix, the color bar, a line of the footer.
_SIDE, _BELOW, _ABOVE, _BAR, _LINE = 0.95, 0.75, 0.45, 0.8, 0.17
_FEW = 10  # more cameras than this get smaller cells and numbers
_LEAST, _LETTERS = 6.4, 15  # width of a figure, for the footer; letters in an inch of it
_DARK = 0.58  # from this share of the greatest value on, numbers are white
_SMALLEST_RANGE = 5.0  # points: a difference of less is not drawn in strong colors


def draw_matrices(matrices: Sequence[CameraMatrix], labels: Sequence[str], note: str) -> Figure:
    """Draw a matrix for each model, on one scale of colors from 0 to 100 %.

    Args:
        matrices: of one or two models, with the same cameras.
        labels: names of the models.
        note: lines below the matrices.
    """
    footers = [_means(matrix.means(), "{:.1f}".format) for matrix in matrices]
    values = [matrix.rank1 for matrix in matrices]
    look = {"cmap": "Blues", "vmin": 0.0, "vmax": 100.0}
    return _draw(matrices[0], values, labels, footers, note, look, "{:.0f}".format, "rank-1 (%)")


def draw_difference(matrices: Sequence[CameraMatrix], labels: Sequence[str], note: str) -> Figure:
    """Draw the first model's rank-1 minus the second's, blue where the first is better."""
    first, second = matrices
    difference = first.rank1 - second.rank1
    means, others = first.means(), second.means()
    changes = {name: means[name] - others[name] for name in means if name in others}
    known = np.abs(difference[np.isfinite(difference)])
    limit = max(_SMALLEST_RANGE, float(known.max()) if len(known) else 0.0)
    title = f"{labels[0]} minus {labels[1]}"
    look = {"cmap": "RdBu", "vmin": -limit, "vmax": limit}
    footer = _means(changes, lambda mean: signed(mean, 1))
    return _draw(first, [difference], [title], [footer], note, look, signed, "points of rank-1")


def signed(value: float, digits: int = 0) -> str:
    """Return a difference with its sign, and one that rounds to zero without."""
    rounded = round(value, digits) + 0.0
    text = f"{rounded:+.{digits}f}" if rounded else f"{0.0:.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _means(means: Any, form: Callable[[float], str]) -> str:
    """Return the means in lines of two."""
    words = [f"{name} {form(mean)}" for name, mean in means.items()]
    return "\n".join("   ".join(words[place : place + 2]) for place in range(0, len(words), 2))


def _draw(
    matrix: CameraMatrix,
    values: Sequence[np.ndarray],
    titles: Sequence[str],
    footers: Sequence[str],
    note: str,
    look: Any,
    form: Callable[[float], str],
    scale: str,
) -> Figure:
    count = len(matrix.cameras)
    side = count * (0.46 if count <= _FEW else 0.36)
    panel = max(side, 1.6) + _SIDE
    width = max(_LEAST, len(values) * panel + _BAR)
    note = "\n".join(textwrap.fill(line, int(width * _LETTERS)) for line in note.splitlines())
    lines = note.count("\n") + 2
    height = side + _ABOVE + _BELOW + _LINE * (lines + footers[0].count("\n") + 2)
    figure = new_figure(width, height)
    panels: List[Axes] = list(figure.subplots(1, len(values), squeeze=False)[0])
    for axes, shown, title, footer in zip(panels, values, titles, footers):
        image = _draw_matrix(axes, matrix, shown, look, form)
        axes.set_title(plain(title), fontsize=10)
        axes.set_xlabel(plain(f"gallery camera\n\n{footer}"), fontsize=8)
    panels[0].set_ylabel("query camera")
    figure.colorbar(image, ax=panels, label=scale, shrink=0.8, aspect=25)
    figure.supxlabel(plain(note), fontsize=7.5, color=GRAY)
    return figure


def _draw_matrix(
    axes: Axes, matrix: CameraMatrix, values: np.ndarray, look: Any, form: Callable[[float], str]
) -> Any:
    image = axes.imshow(np.ma.masked_invalid(values), **look)
    axes.set_facecolor(PALE)
    count = len(matrix.cameras)
    size = 8 if count <= _FEW else 6.5
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        known = bool(np.isfinite(value))
        text = form(float(value)) if known else "–"
        # The scale of a difference is dark at both ends: there the distance from 0 decides.
        color = "white" if known and abs(value) > _DARK * look["vmax"] else BLACK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)
    names = [f"{_short(camera.group)}{camera.number}" for camera in matrix.cameras]
    axes.set_xticks(range(count), names, rotation=90 if count > _FEW else 0)
    axes.set_yticks(range(count), names)
    axes.tick_params(length=0, labelsize=size)
    axes.spines[:].set_visible(False)
    for begin, end in _groups(matrix):
        for first, last in _groups(matrix):
            corner, size_of = (first - 0.5, begin - 0.5), (last - first, end - begin)
            own = begin == first
            axes.add_patch(
                Rectangle(
                    corner,
                    *size_of,
                    fill=False,
                    edgecolor=BLACK,
                    lw=2.2 if own else 0.9,
                    clip_on=False,
                )
            )
    return image


def _short(group: str) -> str:
    """Return the letter of a modality, such as V of the camera V1."""
    return group[:1].upper()


def _groups(matrix: CameraMatrix) -> List[Tuple[int, int]]:
    """Return the first place and the end of the cameras of each modality."""
    names = [camera.group for camera in matrix.cameras]
    return [(names.index(one), names.index(one) + names.count(one)) for one in dict.fromkeys(names)]
