"""Rank one trial: find the places of the positives, block by block, and compute the metrics.

Shapes: Q queries, R queries of one block, U columns of scores, G gallery images of the trial.
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np
from torch import Tensor

from ..rules import Labels, RankRules
from .counting import Places, find_places
from .views import NEVER, Views


@dataclass(frozen=True)
class RankMetrics:
    """The metrics of one ranking; all are NaN if no query has a valid match."""

    cmc: np.ndarray  # (max_rank,) percent of valid queries matched within the first k, k from 1
    mAP: float  # percent, mean over valid queries
    mINP: float  # percent, mean over valid queries
    average_precision: np.ndarray  # (Q,) percent, NaN for a query without a valid match
    num_valid_queries: int
    #: (Q, top) int64 gallery indices, nearest first, -1 where a query may see fewer; None: top is 0
    nearest: Optional[np.ndarray] = None
    #: (Q,) int64 place, from 1, of a query's first hit as the CMC counts it; 0: no valid match
    first_rank: Optional[np.ndarray] = None


class TrialRanker:
    """Rank one gallery for one block of queries after the other, and keep the results.

    Args:
        gallery: the labels of the G gallery images.
        columns: (G,) the column of each image's scores.
        num_queries: Q.
        rules: who is compared with whom, and how hits are counted.
        top: how many of each query's nearest gallery images to name.
    """

    def __init__(
        self, gallery: Labels, columns: Tensor, num_queries: int, rules: RankRules, top: int = 0
    ) -> None:
        self.rules = rules
        self.views = Views(gallery, columns, rules)
        self.first_rank = np.zeros(num_queries, dtype=np.int64)  # 0: no valid match
        self.average_precision = np.full(num_queries, np.nan)
        self.nearest: Optional[np.ndarray] = None
        self.inverse_penalty = np.full(num_queries, np.nan)
        if top:
            self.nearest = np.full((num_queries, top), -1, dtype=np.int64)

    def add(self, scores: Tensor, rows: np.ndarray, query: Labels) -> None:
        """Rank some queries.

        Args:
            scores: (R, U).
            rows: (R,) numbers of the queries, below Q.
            query: their labels.
        """
        own = self.views.identity_of(query.targets)
        top = 0 if self.nearest is None else self.nearest.shape[1]
        for view, picked in self.views.of_queries(query):
            by_identity = self.rules.cmc == "identity"
            found = find_places(scores, picked, own[picked], view, by_identity, top)
            self._store(found, rows[picked])
            if self.nearest is not None and len(view.images):
                seen = view.images[found.nearest]  # -1 takes the last one, which is then replaced
                self.nearest[rows[picked]] = np.where(found.nearest < 0, -1, seen)

    def _store(self, found: Places, rows: np.ndarray) -> None:
        matched = found.first < NEVER
        ranks, rows = found.ranks[matched], rows[matched]
        positive = ranks < NEVER
        count = positive.sum(axis=1)
        hits = np.arange(1, ranks.shape[1] + 1)
        precision = np.where(positive, hits / ranks, 0.0)
        last = np.take_along_axis(ranks, count[:, None] - 1, axis=1)[:, 0]
        self.first_rank[rows] = found.first[matched]
        self.average_precision[rows] = 100.0 * (precision.sum(axis=1) / count)
        self.inverse_penalty[rows] = 100.0 * (count / last)

    def metrics(self) -> RankMetrics:
        """Return the metrics of all queries ranked so far."""
        found = self.first_rank > 0
        num_valid = int(found.sum())
        max_rank = int(self.rules.max_rank)
        if num_valid == 0:
            cmc, mean_precision, mean_penalty = np.full(max_rank, np.nan), np.nan, np.nan
        else:
            first = np.minimum(self.first_rank[found], max_rank + 1)
            hits = np.bincount(first, minlength=max_rank + 2)
            cmc = 100.0 * hits[1 : max_rank + 1].cumsum() / num_valid
            mean_precision = self.average_precision[found].mean()
            mean_penalty = self.inverse_penalty[found].mean()
        return RankMetrics(
            cmc=cmc,
            mAP=float(mean_precision),
            mINP=float(mean_penalty),
            average_precision=self.average_precision,
            num_valid_queries=num_valid,
            nearest=self.nearest,
            first_rank=self.first_rank,
        )
