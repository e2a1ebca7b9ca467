"""Pictures of queries beside their nearest gallery images.

The search keeps the protocol's rules: rows that a query must not see are neither ranked nor drawn.

Shapes: N test images, Q queries and G gallery rows of a trial, D feature size.
"""

import logging
import os
import re
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .. import evaluation
from ..data.images import read_image
from ..evaluation.similarity import Scorer, as_features
from ..modality import Modality

logger = logging.getLogger(__name__)

# Mark, colour and style of frames: told apart without seeing colour, too.
_RIGHT = ("✓", "#00855f", "solid")
_WRONG = ("✗", "#d55e00", (0, (2.5, 1.5)))
_QUERY_COLOUR = "#333333"
# Inches: width and height of a panel and of the largest image in it, which leaves room for the
# lines above and below; the page's margin, header and footer.
_PANEL, _IMAGE, _HEADING = (1.0, 2.55), (0.92, 1.84), 0.3
_MARGIN, _HEADER, _FOOTER, _LEAST_WIDTH = 0.15, 0.4, 0.65, 8.0
_DPI = 110
# Queries among which the hardest are looked for, and those scored at once: bounds on time and
# memory that do not grow with the test set.
_POOL, _BLOCK = 256, 32


class Shot(NamedTuple):
    """One test image."""

    path: str
    target: int
    camid: int
    modality: int  # -1: unknown

    @property
    def caption(self) -> str:
        """Camera, identity and, where the loader knew it, modality."""
        words = f"cam {self.camid}, id {self.target}"
        known = self.modality in tuple(Modality)
        return f"{words}\n{Modality(self.modality).label}" if known else words


class Match(NamedTuple):
    """One gallery image of a ranking."""

    shot: Shot
    score: float  # cosine similarity, or Euclidean distance
    correct: bool  # same identity as the query


class Retrieval(NamedTuple):
    """A query, its nearest gallery images and why it was chosen."""

    query: Shot
    matches: Tuple[Match, ...]
    first_correct: int  # rank of the first image of the same identity, from 1
    chosen: str  # "random" or "hardest"


def select_retrievals(
    features: Any,
    dataset: Any,
    trial: Any,
    protocol: Any,
    *,
    count: int = 8,
    seed: int = 0,
    metric: str = "cosine",
    top: int = 10,
) -> List[Retrieval]:
    """Choose queries and find their nearest gallery images.

    Half of the queries (rounded up) are drawn at random; the others are those, among 256 drawn
    at random, whose first image of the same identity is ranked latest. Queries without a valid
    match are never chosen.

    Args:
        features: ``TestFeatures``: arrays ``features`` (N, D), ``targets``, ``camids`` and
            ``modalities`` (N,), in the order of ``dataset.query + dataset.gallery``.
        dataset: has ``query`` and ``gallery``, lists of items that begin with the path.
        trial: row numbers ``query`` (Q,) and ``gallery`` (G,).
        protocol: has ``skip_camera_pairs`` and ``skip_same_camera``.
        count: number of queries; fewer come where there are fewer.
        seed: of the draw.
        metric: ``"cosine"`` or ``"euclidean"``.
        top: gallery images per query; fewer come where a query may see fewer.

    Raises:
        ValueError: the features are not those of the dataset's test list.
    """
    items = list(dataset.query) + list(dataset.gallery)
    if len(items) != len(features.features):
        raise ValueError(
            f"features has {len(features.features)} rows, but dataset.query + dataset.gallery "
            f"has {len(items)} images; extract the features of this dataset's test loader."
        )
    rows = np.random.default_rng(seed).permutation(np.asarray(trial.query))[:_POOL]
    found = list(_search(features, items, rows, np.asarray(trial.gallery), protocol, metric, top))
    drawn = found[: (count + 1) // 2]
    rest = sorted(found[len(drawn) :], key=lambda retrieval: -retrieval.first_correct)
    return drawn + [hard._replace(chosen="hardest") for hard in rest[: count - len(drawn)]]


def _search(
    features: Any,
    items: Sequence[Sequence[Any]],
    queries: np.ndarray,
    gallery: np.ndarray,
    protocol: Any,
    metric: str,
    top: int,
) -> Iterator[Retrieval]:
    """Rankings of the ``queries`` that have a valid match, in their order, marked random."""
    rows = as_features(features.features, "features", torch.device("cpu"))
    targets, camids, modalities = (
        np.asarray(values) for values in (features.targets, features.camids, features.modalities)
    )

    def shot(row: int) -> Shot:
        return Shot(str(items[row][0]), int(targets[row]), int(camids[row]), int(modalities[row]))

    scorer = Scorer(rows[gallery], metric)
    for begin in range(0, len(queries), _BLOCK):
        block = queries[begin : begin + _BLOCK]
        scores = scorer.scores(rows[block])[:, scorer.columns].numpy()
        for query, row_scores in zip(block, scores):
            keep = _may_see(query, gallery, targets, camids, protocol)
            ranked = keep[np.argsort(-row_scores[keep], kind="stable")]
            correct = targets[gallery[ranked]] == targets[query]
            if not correct.any():
                continue
            shown = _shown_scores(row_scores[ranked[:top]], rows[query], metric)
            matches = [
                Match(shot(gallery[column]), float(score), bool(right))
                for column, score, right in zip(ranked[:top], shown, correct)
            ]
            yield Retrieval(shot(query), tuple(matches), int(correct.argmax()) + 1, "random")


def _may_see(
    query: int, gallery: np.ndarray, targets: np.ndarray, camids: np.ndarray, protocol: Any
) -> np.ndarray:
    """Columns of ``gallery`` (G,) that the protocol lets the query be compared with."""
    cameras = camids[gallery]
    skipped = [other for own, other in protocol.skip_camera_pairs if own == camids[query]]
    hidden = np.isin(cameras, skipped)
    if protocol.skip_same_camera:
        hidden |= (cameras == camids[query]) & (targets[gallery] == targets[query])
    return np.flatnonzero(~hidden)


def _shown_scores(scores: np.ndarray, query: torch.Tensor, metric: str) -> np.ndarray:
    """Cosine similarities as they are; for Euclidean scores, the distances."""
    if metric == "cosine":
        return scores
    return np.sqrt(np.maximum(float(query.double().square().sum()) - 2.0 * scores, 0.0))


def draw_retrievals(
    retrievals: Sequence[Retrieval], path: str, *, title: str = "", note: str = ""
) -> None:
    """Write a PNG with one row per query: the query, then its matches from left to right.

    Args:
        retrievals: at least one.
        path: where to write; missing folders are made.
        title: line above the rows.
        note: lines below them, after the explanation of the frames.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not retrievals:
        raise ValueError("draw_retrievals needs at least one retrieval; got none.")
    columns = 1 + max(len(retrieval.matches) for retrieval in retrievals)
    width = max(columns * _PANEL[0], _LEAST_WIDTH) + 2 * _MARGIN
    height = _HEADER + len(retrievals) * _PANEL[1] + _FOOTER
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    # One pair of axes for everything, in inches from the top left: many times faster than one each.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for row, retrieval in enumerate(retrievals):
        top = _HEADER + row * _PANEL[1]
        heading = f"query ({retrieval.chosen})\nfirst ✓ at {retrieval.first_correct}"
        _draw_panel(axes, (_MARGIN, top), retrieval.query, heading, _QUERY_COLOUR, "solid")
        for column, match in enumerate(retrieval.matches, start=1):
            corner = (_MARGIN + column * _PANEL[0], top)
            mark, colour, style = _RIGHT if match.correct else _WRONG
            _draw_panel(axes, corner, match.shot, f"{mark} {match.score:.2f}", colour, style)
    axes.text(_MARGIN, 0.12, title, fontsize=11, weight="bold", va="top")
    legend = (
        "✓ solid green frame: same person as the query.   "
        "✗ dashed orange frame: another person.   Nearest first."
    )
    axes.text(_MARGIN, height - _FOOTER + 0.05, f"{legend}\n{note}", fontsize=8, va="top")
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.savefig(path, format="png")


def _draw_panel(
    axes: Axes, corner: Tuple[float, float], shot: Shot, heading: str, colour: str, style: Any
) -> None:
    """One framed image, in its own proportions, with a heading above and a caption below."""
    image = read_image(shot.path)
    scale = min(_IMAGE[0] / image.width, _IMAGE[1] / image.height)
    width, height = image.width * scale, image.height * scale
    middle = corner[0] + _PANEL[0] / 2
    left, top = middle - width / 2, corner[1] + _HEADING
    axes.imshow(
        np.asarray(image),
        extent=(left, left + width, top + height, top),
        interpolation="antialiased",
    )
    axes.add_patch(
        Rectangle((left, top), width, height, fill=False, ec=colour, lw=2.5, ls=style, zorder=2)
    )
    size = 8 if "\n" not in heading else 6.5
    axes.text(middle, top - 0.05, heading, fontsize=size, color=colour, ha="center", va="bottom")
    axes.text(middle, top + height + 0.05, shot.caption, fontsize=6.5, ha="center", va="top")


def save_retrieval_pictures(
    cfg: Any, name: str, dataset: Any, features: Any, folder: str
) -> List[str]:
    """Draw the first trial of each of a test set's protocols.

    Args:
        cfg: read are ``TEST.RETRIEVAL_PICTURES`` (queries), ``TEST.METRIC`` and ``SEED``.
        name: of the dataset, as in ``DATASETS.TESTS``.
        dataset: the test set.
        features: its ``TestFeatures``.
        folder: where the pictures go.

    Returns:
        Paths of the PNG files written, one per protocol.
    """
    paths = []
    count, seed = cfg.TEST.RETRIEVAL_PICTURES, max(int(cfg.SEED), 0)
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
        note = _note(retrievals, min(len(trial.query), _POOL), seed, cfg.TEST.METRIC, protocol)
        draw_retrievals(retrievals, path, title=f"{key}, first trial", note=note)
        paths.append(path)
    if paths:
        logger.info("Retrieval pictures: %s", ", ".join(paths))
    return paths


def _note(
    retrievals: Sequence[Retrieval], pool: int, seed: int, metric: str, protocol: Any
) -> str:
    """How the queries were chosen, what the numbers are and what was never compared."""
    drawn = sum(retrieval.chosen == "random" for retrieval in retrievals)
    what = "cosine similarity" if metric == "cosine" else "Euclidean distance"
    words = (
        f"Queries: {drawn} drawn at random (seed {seed}), {len(retrievals) - drawn} the hardest of "
        f"{pool} drawn (first ✓ ranked latest).   Numbers: {what}, not re-ranked."
    )
    for own, other in sorted(protocol.skip_camera_pairs):
        words += f"\nNever compared: query camera {own} with gallery camera {other}."
    if protocol.skip_same_camera:
        words += "\nNever compared: images of one person by one camera."
    return words
