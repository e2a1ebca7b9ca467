"""A page of grids of generated images, side by side: a row shows one photograph in all of them."""

from typing import Any, Callable, List, NamedTuple, Optional, Sequence

import numpy as np
from torch import Tensor

from ..drawing.sheet import LARGE, MARGIN, SMALL, Box, Page, lines_height, wrapped
from ..drawing.style import GRAY
from ..modeling.generation.grids import Grid

# Inches: the width of an image, the gaps between images, between the modalities and between grids,
# and the space for the names of rows.
_WIDTH, _GAP, _SPLIT, _BETWEEN, _NAMES = 0.54, 0.03, 0.14, 0.4, 0.8
_LETTERS = 12  # of a name in one line
_HEADING = 8.0  # points


class _Place(NamedTuple):
    """Where a grid lies, in inches."""

    left: float
    columns: List[float]  # left edges of its columns, from ``left``
    width: float


def swaps_page(
    grids: Sequence[Grid], pixels: Callable[[Tensor], np.ndarray], title: str, visible: int
) -> Any:
    """Return a figure of the grids of ``swap_grids``.

    Args:
        grids: their images are ordered: all visible ones, then all infrared ones.
        pixels: returns an image (3, H, W) as uint8.
        title: the line above everything.
        visible: how many images are visible; a gap follows them in rows and columns.
    """
    shape = next(pixels(one).shape for one in grids[0].cells[-1] if one is not None)
    tall = _WIDTH * shape[1] / shape[2]
    count = min(len(grid.cells) for grid in grids)  # rows of photographs
    places = _places(grids, count, visible)
    heads = [wrapped(grid.title, at.width, _HEADING) for grid, at in zip(grids, places)]
    names = lines_height(3, SMALL)
    top = MARGIN + lines_height(1, LARGE) + 0.12 + lines_height(max(map(len, heads)), _HEADING)
    first = top + names + tall + _SPLIT  # the first photograph
    steps = _steps(count, tall, visible)
    last = places[-1]
    page = Page(last.left + last.width + MARGIN, first + steps[-1] + tall + MARGIN)
    page.text(MARGIN, MARGIN, title, LARGE, weight="bold")
    for grid, at, head in zip(grids, places, heads):
        extra = len(grid.cells) - count  # 1: a row of persons above the photographs
        rows = [top + names + 0.04] * extra + [first + step for step in steps]
        heading = rows[0] - names - lines_height(len(head), _HEADING) - 0.06
        page.text(at.left, heading, "\n".join(head), _HEADING)
        _draw_names(page, grid.columns, at, rows[0])
        for row, cells in zip(rows, grid.cells):
            for column, image in zip(at.columns, cells):
                box = Box(at.left + column, row, _WIDTH, tall)
                _draw(page, box, image, pixels)
    for name, row in zip(grids[-1].rows, (first + step for step in steps)):
        words = "\n".join(_short(name))
        how = {"ha": "right", "va": "center", "color": GRAY}
        page.text(MARGIN + _NAMES - 0.08, row + tall / 2, words, SMALL, **how)
    return page.figure


def _steps(count: int, size: float, visible: int) -> List[float]:
    """Return the places of ``count`` images of this size; a gap follows the visible ones."""
    return [one * (size + _GAP) + (_SPLIT if one >= visible > 0 else 0) for one in range(count)]


def _places(grids: Sequence[Grid], count: int, visible: int) -> List[_Place]:
    left, found = MARGIN + _NAMES, []
    for grid in grids:
        if len(grid.cells) > count:  # its columns are photographs, after one of poses
            after = _WIDTH + _GAP + _SPLIT
            columns = [0.0, *(after + step for step in _steps(count, _WIDTH, visible))]
        else:
            columns = _steps(len(grid.cells[0]), _WIDTH, 0)
        width = columns[-1] + _WIDTH
        found.append(_Place(left, columns, width))
        left += width + _BETWEEN
    return found


def _draw_names(page: Page, names: Sequence[str], at: _Place, below: float) -> None:
    for name, column in zip(names, at.columns):
        words = "\n".join(_short(name))
        middle = at.left + column + _WIDTH / 2
        page.text(middle, below - 0.04, words, SMALL, ha="center", va="bottom", color=GRAY)


def _short(name: str) -> List[str]:
    """Return the lines of a name; of a long one its end, which tells files apart."""
    lines = [line for part in name.split("\n") for line in part.split(", ")]
    return [line if len(line) <= _LETTERS else f"…{line[1 - _LETTERS :]}" for line in lines]


def _draw(
    page: Page, box: Box, image: Optional[Tensor], pixels: Callable[[Tensor], np.ndarray]
) -> None:
    if image is not None:
        page.image(pixels(image).transpose(1, 2, 0), box)
