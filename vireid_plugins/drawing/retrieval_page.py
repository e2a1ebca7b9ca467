"""Draw rankings: a query, then its nearest gallery images from left to right, with their frames."""

import logging
import os
import re
from typing import Any, List, Sequence, Tuple

from .. import evaluation
from ..errors import PlotError
from .photos import Photo
from .retrieval import HARDEST, POOL, RANDOM, Retrieval, select_retrievals
from .sheet import MARGIN, NORMAL, SMALL, Box, Page, fit, lines_height, load_picture, wrapped
from .style import COLORS, styled

logger = logging.getLogger(__name__)

# Mark, color and style of the frames. Marks and styles differ for readers who do not see colors.
_RIGHT = ("✓", "#00855f", "solid")
_WRONG = ("✗", COLORS[3], (0, (2.5, 1.5)))
_QUERY_COLOR = "#333333"
_LEGEND = (
    "✓ solid green frame: same person as the query.   "
    "✗ dashed orange frame: another person.   Nearest first."
)
# In inches: a panel, the largest image in it, the space above the image for two lines of text, and
# the space for the line that names the model, if there are several; then the space for the title,
# and the least width of the page.
_PANEL, _IMAGE, _HEADING, _WHOSE = (1.0, 2.55), (0.92, 1.84), 0.3, 0.1
_HEADER, _LEAST_WIDTH = 0.4, 8.0
MOST_LINES = 100  # the largest picture that can be written is 2**16 pixels high
_DPI = 110


def draw_retrievals(
    retrievals: Sequence[Retrieval], path: str, *, title: str = "", note: str = ""
) -> None:
    """Write a PNG with one row per query: the query, then its matches from left to right.

    Args:
        retrievals: at least one.
        path: where to write; missing folders are made.
        title: the line above the rows.
        note: the lines below the rows, after the explanation of the frames.

    Raises:
        PlotError: there is nothing to draw.
    """
    with styled():
        page = retrieval_page([retrievals], [""], title=title, note=note)
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        page.figure.set_dpi(_DPI)
        page.figure.savefig(path, format="png", dpi=_DPI)


def retrieval_page(
    models: Sequence[Sequence[Retrieval]], labels: Sequence[str], *, title: str, note: str
) -> Page:
    """Return a page with a line of images for each query and each model.

    Args:
        models: for each model its rankings of the same queries, at least one.
        labels: names of the models; the name of a single model is not shown.
        title: the line above the rows.
        note: the lines below the rows, after the explanation of the frames.

    Raises:
        PlotError: there is nothing to draw, or more than a picture can hold.
    """
    blocks = list(zip(*models))
    if not blocks:
        raise PlotError("A retrieval picture needs at least one retrieval; got none.")
    if len(blocks) * len(models) > MOST_LINES:
        raise PlotError(
            f"{len(blocks)} queries of {len(models)} models are {len(blocks) * len(models)} lines "
            f"of images; a picture holds {MOST_LINES}. Ask for fewer queries."
        )
    columns = 1 + max(len(ranking.matches) for block in blocks for ranking in block)
    width = max(columns * _PANEL[0], _LEAST_WIDTH) + 2 * MARGIN
    titles = wrapped(title, width - 2 * MARGIN, 12)
    notes = wrapped(f"{_LEGEND}\n{note}", width - 2 * MARGIN)
    header = _HEADER + lines_height(len(titles) - 1, 11)
    line = _PANEL[1] - (_IMAGE[1] - _tallest(blocks)) + (_WHOSE if len(models) > 1 else 0)
    height = header + len(blocks) * len(models) * line + lines_height(len(notes)) + MARGIN
    page = Page(width, height)
    page.text(MARGIN, 0.12, "\n".join(titles), 11, weight="bold")
    top = header
    for block in blocks:
        for place, ranking in enumerate(block):
            _draw_line(page, top, ranking, labels[place] if len(models) > 1 else "", not place)
            top += line
    page.text(MARGIN, top + 0.05, "\n".join(notes), NORMAL)
    return page


def _tallest(blocks: Sequence[Sequence[Retrieval]]) -> float:
    """Return the height of the tallest image, in inches; one that fills its place is enough."""
    tallest, place = 0.0, Box(0.0, 0.0, *_IMAGE)
    for ranking in (ranking for block in blocks for ranking in block):
        for photo in (ranking.query, *(match.photo for match in ranking.matches)):
            tallest = max(tallest, fit(load_picture(photo.path, place)[1], place).height)
            if tallest >= place.height - 1e-9:
                return tallest
    return tallest


def _draw_line(page: Page, top: float, ranking: Retrieval, label: str, first: bool) -> None:
    """Draw one ranking; only the first line of a block shows the query."""
    found = ranking.first_correct
    where = f"first ✓ at {found}" if found else "no ✓ in the gallery"
    heading = f"query ({ranking.chosen})" + ("" if label else f"\n{where}")
    if label:
        precision = ranking.average_precision
        score = f", average precision {precision:.0f} %" if precision == precision else ""
        words = f"{label}: {where}{score}"
        page.text(MARGIN + _PANEL[0] + 0.04, top + 0.03, words, NORMAL, weight="bold")
        top += _WHOSE
    if first:
        _draw_panel(page, (MARGIN, top), ranking.query, heading, _QUERY_COLOR, "solid")
    for column, match in enumerate(ranking.matches, start=1):
        corner = (MARGIN + column * _PANEL[0], top)
        mark, color, style = _RIGHT if match.correct else _WRONG
        _draw_panel(page, corner, match.photo, f"{mark} {match.score:.2f}", color, style)


def _draw_panel(
    page: Page, corner: Tuple[float, float], photo: Photo, heading: str, color: str, style: Any
) -> None:
    """Draw one framed image in its own proportions, a heading above, a caption below."""
    left = corner[0] + (_PANEL[0] - _IMAGE[0]) / 2
    cell = Box(left, corner[1] + _HEADING, *_IMAGE)
    pixels, size = load_picture(photo.path, cell)
    box = fit(size, cell)
    page.image(pixels, box)
    page.frame(box, color, style)
    letters = SMALL if "\n" in heading else NORMAL
    page.text(box.middle, box.top - 0.05, heading, letters, ha="center", va="bottom", color=color)
    page.text(box.middle, box.bottom + 0.05, photo.caption, SMALL, ha="center")


def save_retrieval_pictures(
    cfg: Any, name: str, dataset: Any, features: Any, folder: str
) -> List[str]:
    """Draw the first trial of each of a test set's protocols.

    Args:
        cfg: ``TEST.RETRIEVAL_PICTURES`` (queries, at most 100), ``TEST.METRIC`` and ``SEED`` are
            read.
        name: name of the dataset, as in ``DATASETS.TESTS``.
        dataset: the test set.
        features: its ``TestFeatures``.
        folder: where the pictures go.

    Returns:
        Paths of the PNG files written, one per protocol.
    """
    paths = []
    count, seed = min(cfg.TEST.RETRIEVAL_PICTURES, MOST_LINES), max(int(cfg.SEED), 0)
    for protocol in evaluation.build_protocols(cfg, name):
        key = f"{name}/{protocol.key}"
        trial = next(iter(protocol.trials(dataset)))
        retrievals = select_retrievals(
            features, dataset, trial, protocol, count=count, seed=seed, metric=cfg.TEST.METRIC
        )
        if not retrievals:
            logger.warning("%s: no query has a valid match to draw.", key)
            continue
        path = os.path.join(folder, re.sub(r"[^\w.-]+", "_", key) + ".png")
        drawn = sum(retrieval.chosen == RANDOM for retrieval in retrievals)
        hardest = sum(retrieval.chosen == HARDEST for retrieval in retrievals)
        note = (
            f"Queries: {drawn} drawn at random (seed {seed}), {hardest} the hardest of "
            f"{min(len(trial.query), POOL)} drawn (first ✓ ranked latest).   "
        )
        if features.relation is not None:
            note += f"Image by image, without {features.relation.name}.   "
        if features.rescorer is not None:
            note += f"Order without {features.rescorer.description}.   "
        note += rules_in_words(cfg.TEST.METRIC, protocol)
        draw_retrievals(retrievals, path, title=f"{key}, first trial", note=note)
        paths.append(path)
    if paths:
        logger.info("Retrieval pictures: %s", ", ".join(paths))
    return paths


def rules_in_words(metric: str, protocol: Any) -> str:
    """Return the lines below a picture: what its numbers mean, and what was never compared."""
    words, never = numbers_in_words(metric), protocol.rules().words()
    return f"{words}\nNever compared: {never}." if never else words


def numbers_in_words(metric: str) -> str:
    """Return a sentence that says what the numbers above gallery images are."""
    what = "cosine similarity" if metric == "cosine" else "Euclidean distance"
    return f"Numbers: {what}, not re-ranked."
