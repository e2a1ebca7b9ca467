"""Draw queries, each beside the images that were found for it.

A query loads this module, so matplotlib is loaded only when something is drawn.
"""

import functools
import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image

from ..drawing.style import COLORS, GRAY, PALE, plain, styled
from ..errors import UserError
from ..files import write_atomically
from ..readers.image import ImageError, read_picture
from .folder import shown_name
from .index import SearchIndex
from .querying import Query

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_QUERIES, MOST_RESULTS = 20, 50
_PER_LINE = 10  # largest number of results beside a query; more are drawn below them
# Inches: a panel, the largest image in it, the space for the lines above and below an image.
_PANEL, _IMAGE, _HEADING, _CAPTION = (1.16, 2.2), (1.0, 1.6), 0.22, 0.3
_MARGIN, _HEADER, _LINE, _GAP, _LEAST_WIDTH = 0.18, 0.42, 0.145, 0.16, 7.6
_LEAST_SIDE = 0.05  # so that a very thin image is visible
_LETTERS = 19  # letters in a line of a caption
_LETTERS_AN_INCH = 14.5  # in the lines at the bottom
_DPI = 120
_LACKING = "□"  # stands for a letter that the font lacks
_Frame = Tuple[str, str, Any]
# Mark, color and line of frames; they differ without color, too.
_ABOVE: _Frame = ("▲", COLORS[0], "solid")
_BELOW: _Frame = ("▽", COLORS[3], (0, (2.5, 1.5)))
_UNKNOWN: _Frame = ("", GRAY, "solid")
_QUERY = COLORS[6]


class GridRow(NamedTuple):
    """A query and its results, as they are drawn."""

    query: Path
    title: str
    results: List[Tuple[float, Path, str]]  # score, image, name


def rows_of(index: SearchIndex, queries: Sequence[Query]) -> List[GridRow]:
    """Return the rows that ``draw_grid`` takes, from answers of ``index``."""
    return [
        GridRow(
            query.path,
            shown_name(os.fsencode(query.name)),
            [
                (float(score), index.path_of(name), shown_name(name))
                for score, name in zip(query.scores, query.names)
            ],
        )
        for query in queries
    ]


def check_picture(path: Path, queries: int, topk: int) -> None:
    """Raise ``UserError`` unless ``draw_grid`` can write that many results to ``path``."""
    if path.suffix.lower() not in (".png", ".pdf"):
        raise UserError(f"--save {path}: expected a name that ends in .png or .pdf.")
    if queries > MOST_QUERIES or topk > MOST_RESULTS:
        raise UserError(
            f"--save draws at most {MOST_QUERIES} queries and {MOST_RESULTS} results of each; "
            f"these are {queries} and {topk}. Use --csv for them."
        )


@styled()
def draw_grid(
    rows: Sequence[GridRow], path: Path, *, title: str, threshold: Optional[float], note: str = ""
) -> None:
    """Write a PNG or a PDF with a query on the left and its results, best first, on the right.

    Frames say whether a score reaches the threshold, not whether the person is the right one.

    Args:
        rows: at least one row.
        path: a name that ends in ``.png`` or ``.pdf``.
        threshold: a cosine similarity; None: all frames look alike.
        note: says what the threshold is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    longest = max(len(row.results) for row in rows)
    columns = 1 + min(_PER_LINE, longest)
    lines = [max(1, -(-len(row.results) // _PER_LINE)) for row in rows]
    width = max(columns * _PANEL[0] + _GAP, _LEAST_WIDTH) + 2 * _MARGIN
    letters = int((width - 2 * _MARGIN) * _LETTERS_AN_INCH)
    words = [_legend(threshold), *textwrap.wrap(note, letters)]
    if any(_LACKING in _drawable(name) for row in rows for _, _, name in row.results):
        words.append(f"{_LACKING}: a letter that the picture's font lacks; --csv has whole names.")
    footer = (len(words) + 1) * _LINE
    height = _HEADER + sum(lines) * _PANEL[1] + (len(rows) - 1) * _GAP + footer
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    # One pair of axes for everything, in inches from the top left: much faster than one per image.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    axes.text(_MARGIN, 0.12, _drawable(title), fontsize=11, weight="bold", va="top")
    top = _HEADER
    for number, (row, count) in enumerate(zip(rows, lines)):
        if number:
            axes.plot([_MARGIN, width - _MARGIN], [top - _GAP / 2] * 2, color=PALE, lw=1)
        _draw_row(axes, row, top, threshold)
        top += count * _PANEL[1] + _GAP
    below = _drawable("\n".join(words))
    axes.text(_MARGIN, height - footer + 0.5 * _LINE, below, fontsize=8, va="top")
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix[1:].lower()
    write_atomically(path, lambda file: figure.savefig(file, format=kind, dpi=_DPI))


def _legend(threshold: Optional[float]) -> str:
    numbers = "Rank and cosine similarity"
    if threshold is None:
        return f"{numbers}. No threshold is known: scores only rank, and do not say who it is."
    return f"{numbers}:  ▲ solid blue frame {threshold:.3f} or more,  ▽ dashed orange frame less."


def _draw_row(axes: "Axes", row: GridRow, top: float, threshold: Optional[float]) -> None:
    query = (row.query, "query", row.title)
    _draw_panel(axes, (_MARGIN, top), *query, _QUERY, "solid", weight="bold")
    for number, (score, image, name) in enumerate(row.results):
        line, column = divmod(number, _PER_LINE)
        corner = (_MARGIN + _GAP + (column + 1) * _PANEL[0], top + line * _PANEL[1])
        mark, color, style = _UNKNOWN
        if threshold is not None:
            mark, color, style = _ABOVE if score >= threshold else _BELOW
        heading = f"{number + 1}   {score:.3f} {mark}".rstrip()
        _draw_panel(axes, corner, image, heading, name, color, style)


def _draw_panel(
    axes: "Axes",
    corner: Tuple[float, float],
    path: Path,
    heading: str,
    name: str,
    color: str,
    style: Any,
    weight: str = "normal",
) -> None:
    """Draw a framed image in its own proportions, a heading above and its name below."""
    from matplotlib.patches import Rectangle

    middle, top = corner[0] + _PANEL[0] / 2, corner[1] + _HEADING
    pixels = _pixels(path)
    if pixels is None:
        width, height = _IMAGE[0], _IMAGE[1] / 2
        axes.text(
            middle,
            top + height / 2,
            "not there\nany more",
            fontsize=7,
            color=GRAY,
            ha="center",
            va="center",
        )
    else:
        scale = min(_IMAGE[0] / pixels.shape[1], _IMAGE[1] / pixels.shape[0])
        width, height = (max(_LEAST_SIDE, side * scale) for side in pixels.shape[1::-1])
        axes.imshow(
            pixels,
            extent=(middle - width / 2, middle + width / 2, top + height, top),
            interpolation="antialiased",
        )
    frame = Rectangle(
        (middle - width / 2, top), width, height, fill=False, ec=color, lw=2.2, ls=style, zorder=2
    )
    axes.add_patch(frame)
    axes.text(
        middle,
        top - 0.05,
        heading,
        fontsize=8,
        color=color,
        weight=weight,
        ha="center",
        va="bottom",
    )
    axes.text(
        middle,
        top + height + 0.05,
        _drawable(_caption(name)),
        fontsize=6.5,
        ha="center",
        va="top",
        linespacing=1.15,
    )
    axes.set_aspect("auto")


def _pixels(path: Path) -> Optional[np.ndarray]:
    """Return pixels (H, W, 3) uint8, as large as they are drawn; None if they cannot be read."""
    try:
        image = read_picture(str(path))
    except ImageError:
        return None
    image.thumbnail(
        (int(2 * _DPI * _IMAGE[0]), int(2 * _DPI * _IMAGE[1])), Image.Resampling.LANCZOS
    )
    return np.asarray(image)


def _caption(name: str) -> str:
    """Return a name in at most two lines: the end of its folders, both ends of the file name."""
    folder, _, file = name.replace("\\", "/").rpartition("/")
    if len(file) > _LETTERS:
        half = (_LETTERS - 1) // 2
        file = f"{file[:half]}…{file[half - _LETTERS + 1 :]}"
    if len(folder) > _LETTERS - 1:
        folder = f"…{folder[2 - _LETTERS :]}"
    return f"{folder}/\n{file}" if folder else file


def _drawable(text: str) -> str:
    """Return ``text`` with a box for each letter that the font lacks, and without mathematics."""
    known = _letters()
    return plain("".join(c if c == "\n" or ord(c) in known else _LACKING for c in text))


@functools.lru_cache(maxsize=1)
def _letters() -> Any:
    from matplotlib import font_manager

    font = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans"))
    return font_manager.get_font(font).get_charmap()
