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

from .. import evaluation
from ..data.images import read_image
from ..evaluation.similarity import Scorer, as_features
from ..modality import Modality

logger = logging.getLogger(__name__)

# Told apart without colour too: solid against dashed frame, tick against cross.
_RIGHT_COLOUR, _WRONG_COLOUR, _QUERY_COLOUR = "#00855f", "#d55e00", "#333333"
_PANEL_WIDTH, _PANEL_HEIGHT = 1.0, 2.45  # inches; an image of 2:1 and its two lines of text
_HEADER, _FOOTER = 0.45, 0.62  # inches
_DPI = 110
# Queries among which the hardest are looked for, and those scored at once: bounds on time and
# memory that do not grow with the test set.
_POOL, _BLOCK = 256, 32


class Shot(NamedTuple):
    """One test image."""

    path: str
    target: int
    camid: int
    modality: int

    @property
    def caption(self) -> str:
        """Modality, camera and identity in a few words."""
        return f"{Modality(self.modality).label}, cam {self.camid}\nid {self.target}"


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
        note: line below them, after the explanation of the frames.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not retrievals:
        raise ValueError("draw_retrievals needs at least one retrieval; got none.")
    columns = 1 + max(len(retrieval.matches) for retrieval in retrievals)
    width = max(columns * _PANEL_WIDTH + 0.4, 6.0)
    height = len(retrievals) * _PANEL_HEIGHT + _HEADER + _FOOTER
    figure = Figure(figsize=(width, height), dpi=_DPI)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(retrievals),
        columns,
        left=0.2 / width,
        right=1 - 0.2 / width,
        top=1 - (_HEADER + 0.28) / height,
        bottom=(_FOOTER + 0.22) / height,
        wspace=0.12,
        hspace=0.28,
    )
    for row, retrieval in enumerate(retrievals):
        _draw_query(figure.add_subplot(grid[row, 0]), retrieval)
        for column, match in enumerate(retrieval.matches, start=1):
            _draw_match(figure.add_subplot(grid[row, column]), match)
    figure.text(0.2 / width, 1 - 0.1 / height, title, fontsize=11, weight="bold", va="top")
    legend = (
        "✓ solid green frame: same person as the query.   "
        "✗ dashed orange frame: another person.   Nearest first."
    )
    figure.text(0.2 / width, 0.1 / height, f"{legend}\n{note}", fontsize=8, va="bottom")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    figure.savefig(path, format="png")


def _draw_query(axes: Axes, retrieval: Retrieval) -> None:
    _draw_image(axes, retrieval.query, _QUERY_COLOUR, "solid")
    axes.set_title(
        f"query ({retrieval.chosen})\nfirst ✓ at {retrieval.first_correct}",
        fontsize=6.5,
        color=_QUERY_COLOUR,
        pad=3,
    )


def _draw_match(axes: Axes, match: Match) -> None:
    colour = _RIGHT_COLOUR if match.correct else _WRONG_COLOUR
    _draw_image(axes, match.shot, colour, "solid" if match.correct else (0, (2.5, 1.5)))
    mark = "✓" if match.correct else "✗"
    axes.set_title(f"{mark} {match.score:.3g}", fontsize=8, color=colour, pad=3)


def _draw_image(axes: Axes, shot: Shot, colour: str, style: Any) -> None:
    axes.imshow(np.asarray(read_image(shot.path)), interpolation="antialiased", aspect="equal")
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(shot.caption, fontsize=6.5, labelpad=3)
    for spine in axes.spines.values():
        spine.set(color=colour, linewidth=2.5, linestyle=style)


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
        trial = next(iter(protocol.trials(dataset)))
        retrievals = select_retrievals(
            features, dataset, trial, protocol, count=count, seed=seed, metric=cfg.TEST.METRIC
        )
        if not retrievals:
            logger.warning("%s: no query has a valid match, so none is drawn.", protocol)
            continue
        key = "/".join([name, *protocol.name_parts])
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
    pairs = ", ".join(f"{own} with {other}" for own, other in sorted(protocol.skip_camera_pairs))
    if pairs:
        words += f"\nNever compared: query camera with gallery camera {pairs}."
    if protocol.skip_same_camera:
        words += "\nNever compared: images of one person by one camera."
    return words
