"""Draw value and gradient of each loss term over the training, and the cosines between them."""

import re
import textwrap
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ...drawing.style import COLORS, GRAY, LINES, MARKERS, PALE, new_figure, plain, styled
from .findings import Summary, summaries
from .table import cosine_text, mean_cosine, on_backbone
from .training import Watched

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = COLORS[:7]  # yellow is too pale for a line
# Inches: the panels of lines, a matrix, a line of the legend, a letter of its words.
_WIDTH, _LINES_HEIGHT, _LEGEND_LINE = 9.4, 2.9, 0.2
_CELL, _MATRIX_MARGIN = 0.44, 0.65
_LETTER = 0.075
_TITLE = 125  # letters in a line of the title
_SMALL_LETTERS = 4  # more terms than this get smaller numbers


@styled()
def draw(watched: Watched, title: str) -> "Figure":
    """Draw the values, the lengths of the gradients on a logarithmic axis, and the cosines.

    The matrices of cosines are means over the moments of each phase.
    """
    every = summaries(watched)
    phases = list(dict.fromkeys(one.phase for one in every))
    of_phase = [on_backbone([one for one in every if one.phase == phase]) for phase in phases]
    names = list(dict.fromkeys(one.name for one in every))
    looks = {name: _look(number) for number, name in enumerate(names)}
    longest = max(map(len, names)) * _LETTER
    in_a_line = max(1, int(_WIDTH / (longest + 0.55)))
    legend = _LEGEND_LINE * (-(-len(names) // in_a_line) + 1)
    matrix = _CELL * max(map(len, of_phase)) + _MATRIX_MARGIN + longest * 0.6
    figure = new_figure(_WIDTH, _LINES_HEIGHT + legend + matrix + 0.3)
    heights = [_LINES_HEIGHT + 0.3, legend, matrix]
    parts: Any = figure.subfigures(3, 1, height_ratios=heights)  # typed as a single one
    top, middle, bottom = parts
    lines = title_lines(title)
    figure.suptitle(plain("\n".join(lines)), fontsize=10 if len(lines) == 1 else 8)
    left, right = top.subplots(1, 2)
    _draw_values(left, watched, looks)
    _draw_gradients(right, watched, looks)
    handles = [left.plot([], [], label=plain(name), **looks[name])[0] for name in names]
    middle.legend(handles=handles, loc="center", ncol=in_a_line)
    panels = bottom.subplots(1, len(phases), squeeze=False)[0]
    for panel, own in zip(panels, of_phase):
        if own:
            _draw_cosines(panel, own, len(phases) > 1)
        else:  # a frozen backbone
            panel.axis("off")
    return figure


def title_lines(title: str) -> List[str]:
    """Return a config and its KEY VALUE pairs in at most three lines, which begin with a key."""
    unbroken = re.sub(r" (?![A-Z][A-Z0-9_]*\.)", "\N{NO-BREAK SPACE}", title)
    return textwrap.wrap(unbroken, _TITLE, max_lines=3, placeholder=" …")


def _look(number: int) -> Dict[str, Any]:
    return {
        "color": _COLORS[number % len(_COLORS)],
        "marker": MARKERS[number % len(MARKERS)],
        "ls": LINES[number // len(_COLORS) % len(LINES)],
        "ms": 4,
        "lw": 1.2,
    }


def _draw_values(axes: "Axes", watched: Watched, looks: Dict[str, Dict[str, Any]]) -> None:
    for name, look in looks.items():
        axes.plot(*_series(watched, name, "value"), **look)
    _finish(axes, watched, "value, with its weight")


def _draw_gradients(axes: "Axes", watched: Watched, looks: Dict[str, Dict[str, Any]]) -> None:
    positive = []
    for name, look in looks.items():
        updates, lengths = _series(watched, name, "gradient")
        axes.plot(updates, np.where(lengths > 0, lengths, np.nan), **look)
        positive += lengths[lengths > 0].tolist()
    if positive:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    _finish(axes, watched, "gradient on the backbone, length")


def _series(watched: Watched, name: str, what: str) -> Tuple[np.ndarray, np.ndarray]:
    """Return updates and numbers of a term; where it is not computed, the line is broken."""
    updates = [moment.update for moment in watched.moments]
    terms = [moment.terms.get(name) for moment in watched.moments]
    values = [getattr(term, what) if term is not None else None for term in terms]
    return np.array(updates), np.array([np.nan if v is None else v for v in values], float)


def _finish(axes: "Axes", watched: Watched, title: str) -> None:
    """Mark where phases change, and label the axes."""
    axes.set_xlabel("update")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    moments = watched.moments
    pairs = [pair for pair in zip(moments, moments[1:]) if pair[0].phase != pair[1].phase]
    places = [(before.update + after.update) / 2 for before, after in pairs]
    for place in places:
        axes.axvline(place, color=GRAY, ls=":", lw=0.9)
    axes.set_title(title, loc="left", pad=16 if pairs else None)
    if not pairs:
        return
    names = [moments[0].phase, *(after.phase for _, after in pairs)]
    for begin, name in zip([moments[0].update, *places], names):
        axes.annotate(
            plain(name),
            (begin, 1),
            (3, 2),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=7,
            color=GRAY,
        )


def _draw_cosines(axes: "Axes", own: Sequence[Summary], named: bool) -> None:
    """Draw the mean cosines of one phase: blue where terms pull apart, red where they agree."""
    cosines = [[mean_cosine(one, other) for other in own] for one in own]
    values = np.array([[np.nan if c is None else c for c in line] for line in cosines], float)
    np.fill_diagonal(values, np.nan)  # always 1: a color would only draw the eye
    axes.imshow(np.ma.masked_invalid(values), cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_facecolor(PALE)
    size = 8 if len(own) <= _SMALL_LETTERS else 6.5
    for row, line in enumerate(cosines):
        for column, cosine in enumerate(line):
            strong = row != column and cosine is not None and abs(cosine) > 0.6
            text = "1" if row == column and cosine is not None else cosine_text(cosine)
            axes.text(
                column,
                row,
                text.replace("-", "−"),
                ha="center",
                va="center",
                fontsize=size,
                color="white" if strong else "black",
            )
    labels: List[str] = [plain(one.name) for one in own]
    axes.set_xticks(range(len(own)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(own)), labels)
    axes.tick_params(length=0, labelsize=7)
    axes.spines[:].set_visible(False)
    phase = f", phase {plain(own[0].phase)}" if named else ""
    axes.set_title(f"mean cosines{phase}", fontsize=9)
