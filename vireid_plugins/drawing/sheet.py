"""Draw a page of images, frames and lines of text, placed in inches from the top left.

Photographs keep their proportions. Text is wrapped to the page and never read as mathematics.
"""

import textwrap
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from PIL import Image

from ..readers.image import read_picture
from .style import GRAY, new_figure, plain

MARGIN = 0.15  # inches
SMALL, NORMAL, LARGE = 6.5, 8.0, 11.0  # points
# Images with more pixels per inch are reduced to this number: it is enough for print, and a page of
# large photographs then needs little memory.
_KEPT_DPI = 300
_POINTS = 72.0  # points per inch
_LETTER, _LINE = 0.56, 1.25  # width of a letter and height of a line, in parts of the font size


class Box(NamedTuple):
    """A rectangle in inches, from the top left."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Return how far its middle is from the left."""
        return self.left + self.width / 2

    @property
    def bottom(self) -> float:
        """Return how far its lower edge is from the top."""
        return self.top + self.height


class Page:
    """One figure without axes of its own.

    Args:
        width, height: size of the page in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = new_figure(width, height)
        self.figure.set_layout_engine(None)
        self.figure.suppressComposite = True  # a PDF keeps each image, at its own resolution
        # One pair of axes for everything: many times faster than one each.
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.axis("off")
        self._fix()

    def _fix(self) -> None:
        self.axes.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="auto")

    def image(self, pixels: np.ndarray, box: Box) -> None:
        """Draw pixels (H, W, 3), uint8, so that they fill ``box``."""
        edges = (box.left, box.left + box.width, box.bottom, box.top)
        self.axes.imshow(pixels, extent=edges, interpolation="antialiased")
        self._fix()

    def frame(self, box: Box, color: str, style: Any = "solid", width: float = 2.5) -> None:
        """Draw the outline of ``box``, ``width`` points wide."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(
            Rectangle(box[:2], *box[2:], fill=False, ec=color, lw=width, ls=style, zorder=2)
        )

    def text(self, left: float, top: float, words: str, size: float = NORMAL, **how: Any) -> None:
        """Draw words at a place: to its right and below it, or as ``ha`` and ``va`` align them."""
        how = {"va": "top", **how}
        self.axes.text(left, top, plain(words), fontsize=size, **how)

    def color_bar(self, box: Box, name: str, ends: Tuple[str, str]) -> None:
        """Draw the colors of a map from low to high, and what its two ends mean."""
        from matplotlib import colormaps

        shades = np.linspace(0, 1, 128)[None]
        self.image((colormaps[name](shades)[..., :3] * 255).astype(np.uint8), box)
        middle = box.top + box.height / 2
        how: Dict[str, Any] = {"va": "center", "color": GRAY}
        self.text(box.left - 0.05, middle, ends[0], SMALL, ha="right", **how)
        self.text(box.left + box.width + 0.05, middle, ends[1], SMALL, ha="left", **how)


def fit(size: Tuple[int, int], box: Box) -> Box:
    """Return the largest box with the proportions of ``size`` (width, height) in ``box``.

    It lies at the top of ``box``, in the middle from left to right.
    """
    scale = min(box.width / size[0], box.height / size[1])
    width, height = size[0] * scale, size[1] * scale
    return Box(box.middle - width / 2, box.top, width, height)


def load_picture(path: str, box: Box) -> Tuple[np.ndarray, Tuple[int, int]]:
    """Return the pixels (H, W, 3) of a file and its size (width, height).

    A larger image is reduced to what ``box`` can show.

    Raises:
        ImageError: the file cannot be read.
    """
    image = read_picture(path)
    size = image.size
    shown = fit(size, box)
    most = (max(1, round(shown.width * _KEPT_DPI)), max(1, round(shown.height * _KEPT_DPI)))
    if image.width > most[0]:
        image = image.resize(most, Image.Resampling.BILINEAR)
    return np.asarray(image), size


def wrapped(text: str, width: float, size: float = NORMAL) -> List[str]:
    """Return ``text`` in lines of ``width`` inches at ``size`` points; keep its line breaks."""
    letters = max(10, int(width * _POINTS / (size * _LETTER)))
    return [part for line in text.split("\n") for part in textwrap.wrap(line, letters) or [""]]


def lines_height(count: int, size: float = NORMAL) -> float:
    """Return the height of ``count`` lines in inches."""
    return count * size * _LINE / _POINTS


class Panel(NamedTuple):
    """One image of a sheet."""

    pixels: np.ndarray  # (H, W, 3) uint8
    size: Tuple[int, int]  # width and height of the photograph, whose proportions are kept
    caption: str = ""  # below the image; it may have several lines


class PanelGroup(NamedTuple):
    """Panels of one photograph, side by side."""

    panels: Sequence[Panel]
    caption: str  # below all of them


class Sheet(NamedTuple):
    """A drawn sheet and where its panels lie."""

    page: Page
    boxes: Dict[Tuple[int, int], Box]  # (group, panel) -> place of the image


# Inches: an image, the gap between two images of a group, between two groups, and between rows.
IMAGE_BOX = Box(0.0, 0.0, 0.95, 1.9)
_GAP, _GROUP_GAP, _ROW_GAP = 0.12, 0.32, 0.12
_LEAST_WIDTH = 5.0


def draw_sheet(
    groups: Sequence[PanelGroup],
    headings: Sequence[str],
    *,
    title: str,
    note: str,
    bar: Tuple[str, Tuple[str, str]] = ("", ("", "")),
) -> Sheet:
    """Draw groups of panels from left to right and from top to bottom.

    The number of groups in a row is even, so that pairs stay together.

    Args:
        groups: at least one; all have the same number of panels.
        headings: one for each panel of a group, shown above the first row.
        title: the line above everything.
        note: the text below everything.
        bar: name of a color map, and what its two ends mean; empty: no color bar.
    """
    number = len(headings)
    across = min(4 if number <= 2 else 2, len(groups))
    step = _group_width(number) + _GROUP_GAP
    groups = [_with_wrapped_captions(group) for group in groups]
    width = max(2 * MARGIN + across * step - _GROUP_GAP, _LEAST_WIDTH)
    inner = width - 2 * MARGIN
    titles, notes = wrapped(title, inner, LARGE * 1.1), wrapped(note, inner)
    heads = [wrapped(heading, IMAGE_BOX.width + _GAP, NORMAL) for heading in headings]
    top = MARGIN + lines_height(len(titles), LARGE) + 0.1
    top += lines_height(max(map(len, heads)), NORMAL)
    below = max(_caption_height(group) for group in groups)
    tall = max(fit(panel.size, IMAGE_BOX).height for group in groups for panel in group.panels)
    row_height = tall + below + _ROW_GAP
    rows = -(-len(groups) // across)
    foot = top + rows * row_height
    height = foot + (0.25 if bar[0] else 0.0) + lines_height(len(notes)) + MARGIN
    page, boxes = Page(width, height), {}
    page.text(MARGIN, MARGIN, "\n".join(titles), LARGE, weight="bold")
    for index, group in enumerate(groups):
        row = Box(MARGIN + index % across * step, top + index // across * row_height, inner, tall)
        boxes.update(_draw_group(page, group, index, row))
        if index < across:
            _draw_headings(page, heads, row.left, top)
    if bar[0]:
        page.color_bar(Box(width / 2 - 0.75, foot, 1.5, 0.09), *bar)
    page.text(MARGIN, height - MARGIN - lines_height(len(notes)), "\n".join(notes))
    return Sheet(page, boxes)


def _group_width(panels: int) -> float:
    return panels * (IMAGE_BOX.width + _GAP) - _GAP


def _with_wrapped_captions(group: PanelGroup) -> PanelGroup:
    """Return the group with captions as wide as its panels."""
    panels = [
        panel._replace(caption="\n".join(wrapped(panel.caption, IMAGE_BOX.width + _GAP, SMALL)))
        for panel in group.panels
    ]
    width = _group_width(len(group.panels)) + _GROUP_GAP / 2
    return PanelGroup(panels, "\n".join(wrapped(group.caption, width, SMALL)))


def _draw_headings(page: Page, heads: Sequence[List[str]], left: float, top: float) -> None:
    for place, lines in enumerate(heads):
        middle = left + place * (IMAGE_BOX.width + _GAP) + IMAGE_BOX.width / 2
        page.text(middle, top - 0.05, "\n".join(lines), NORMAL, ha="center", va="bottom")


def _draw_group(page: Page, group: PanelGroup, index: int, row: Box) -> Dict[Tuple[int, int], Box]:
    """Draw a group at the left end of ``row``, whose height is that of the tallest image."""
    boxes, captions = {}, max(panel.caption.count("\n") + 1 for panel in group.panels)
    for place, panel in enumerate(group.panels):
        left = row.left + place * (IMAGE_BOX.width + _GAP)
        box = fit(panel.size, IMAGE_BOX._replace(left=left, top=row.top))
        page.image(panel.pixels, box)
        page.text(box.middle, row.bottom + 0.04, panel.caption, SMALL, ha="center")
        boxes[index, place] = box
    middle, bottom = row.left + _group_width(len(group.panels)) / 2, row.bottom + 0.04
    if any(panel.caption for panel in group.panels):
        bottom += lines_height(captions, SMALL) + 0.02
    page.text(middle, bottom, group.caption, SMALL, ha="center", color=GRAY)
    return boxes


def _caption_height(group: PanelGroup) -> float:
    lines = group.caption.count("\n") + 1
    if any(panel.caption for panel in group.panels):
        lines += max(panel.caption.count("\n") + 1 for panel in group.panels)
    return lines_height(lines, SMALL) + 0.08
