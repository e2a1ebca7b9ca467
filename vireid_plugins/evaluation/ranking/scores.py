"""The scores of a trial: the greater a score, the nearer the gallery image.

Ranking needs nothing else: features, a matrix, re-ranking and re-scoring all become
:class:`Scores`. Shapes: N test images, Q queries, R queries of one block, G gallery images, U
columns of scores, D features.
"""

from typing import Iterable, Iterator, NamedTuple, Optional, Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..arguments import real_tensor
from ..similarity import Array, Scorer, all_finite, as_features, check_metric
from .arguments import Device, device_of

_BLOCK_BYTES = 1 << 30
_CHECKED_ELEMENTS = 1 << 22


class Scores(NamedTuple):
    """Scores of queries with gallery images, in blocks of queries, so that memory is bounded."""

    blocks: Iterable[Tensor]  # (R, U) each, Q rows in all; valid until the next block is taken
    columns: Tensor  # (G,) int64, the column of each gallery image
    num_columns: int  # U; fewer than G where gallery images are identical


class TrialScorer(Protocol):
    """Gives the scores of any trial over one list of test images.

    Attributes:
        pairwise: each score depends on its two images alone, not on who else is in the gallery.
            Trials with the same queries may then share the scores of all their galleries.
    """

    pairwise: bool

    def scores(self, query: np.ndarray, gallery: np.ndarray) -> Scores:
        """Return the scores of rows ``query`` (Q,) with rows ``gallery`` (G,) of the list."""


class FeatureScorer:
    """Scores by the similarity of features.

    Args:
        features: (N, D) of every test image.
        metric: ``"cosine"`` or ``"euclidean"``.
        device: where to compute; by default where the features are.
    """

    pairwise = True

    def __init__(self, features: Array, metric: str, device: Device = None) -> None:
        check_metric(metric)
        self._features = as_features(features, "features", device_of(device, features))
        self._metric = metric

    def scores(self, query: np.ndarray, gallery: np.ndarray) -> Scores:
        """Return the scores that :class:`TrialScorer` describes."""
        gallery_features = rows_of_matrix(self._features, gallery)
        return scores_of_features(self._features, gallery_features, self._metric, query)


def scores_of_features(
    query: Tensor, gallery: Tensor, metric: str, rows: Optional[np.ndarray] = None
) -> Scores:
    """Return the scores of query features with gallery features, see :class:`Scorer`.

    Args:
        query: (N, D) from ``as_features``.
        gallery: (G, D).
        metric: ``"cosine"`` or ``"euclidean"``.
        rows: (Q,) which rows of ``query`` are the queries; all by default.
    """
    scorer = Scorer(gallery, metric)
    return Scores(_blocks(scorer, query, rows), scorer.columns, scorer.num_columns)


def _blocks(scorer: Scorer, query: Tensor, rows: Optional[np.ndarray]) -> Iterator[Tensor]:
    step = max(1, _BLOCK_BYTES // (scorer.itemsize * max(1, scorer.num_columns)))
    if rows is None:
        yield from map(scorer.scores, query.split(step))
        return
    for begin in range(0, len(rows), step):
        yield scorer.scores(rows_of_matrix(query, rows[begin : begin + step]))


def scores_of_matrix(similarity: Array, rows: Optional[np.ndarray] = None) -> Scores:
    """Return the scores of a matrix (N, G) that exists already.

    Args:
        similarity: the whole matrix.
        rows: (Q,) which of its rows are the queries; all by default.

    Raises:
        UserError: ``similarity`` is not a matrix of real numbers. Taking the blocks raises it
            where a number is not finite.
    """
    scores = real_tensor(similarity, "similarity")
    num_gallery = scores.shape[1]
    columns = torch.arange(num_gallery, device=scores.device)
    return Scores(_checked(scores, rows), columns, num_gallery)


def _checked(scores: Tensor, rows: Optional[np.ndarray]) -> Iterator[Tensor]:
    """Yield blocks so small that a CPU's cache still holds them when they are ranked."""
    step = max(1, _CHECKED_ELEMENTS // max(1, scores.shape[1]))
    for block in scores.split(step):
        if not all_finite(block):
            raise UserError("similarity holds NaN or infinity; ranks would mean nothing.")
        if rows is None:
            yield block
    if rows is None:
        return
    for begin in range(0, len(rows), step):
        yield rows_of_matrix(scores, rows[begin : begin + step])


def rows_of_matrix(matrix: Tensor, rows: np.ndarray) -> Tensor:
    """Return some rows of a matrix, without a copy where they stand side by side."""
    if len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows))):
        return matrix[int(rows[0]) : int(rows[0]) + len(rows)]
    return matrix[torch.from_numpy(rows).to(matrix.device)]
