"""Rank one trial: find the places of the positives, block by block, and compute the metrics.

Shapes: Q queries, R queries of one block, U columns of scores, G gallery images of the trial,
M positives of a query (padded).
"""

from dataclasses import dataclass
from typing import Optional

import numpy as np
import torch
from torch import Tensor

from ..rules import Labels, RankRules
from .counting import identity_ranks, positive_ranks, take_columns
from .topk import largest_by_index

_TRIAL_BLOCK_ELEMENTS = 1 << 22
_LEAST_ROWS = 16  # a block has at least so many rows, so that every thread has work


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
        num_columns: U.
        num_queries: Q.
        rules: who is compared with whom, and how hits are counted.
        top: how many of each query's nearest gallery images to name.
    """

    def __init__(
        self,
        gallery: Labels,
        columns: Tensor,
        num_columns: int,
        num_queries: int,
        rules: RankRules,
        top: int = 0,
    ) -> None:
        device, targets = columns.device, gallery.targets
        order = np.argsort(targets, kind="stable")  # identities stand side by side
        identities, starts, counts = np.unique(
            targets[order], return_index=True, return_counts=True
        )
        self.rules = rules
        self.identities = torch.from_numpy(identities).to(device)
        self.starts = torch.from_numpy(starts).to(device)
        self.counts = torch.from_numpy(counts).to(device)
        self.position = torch.from_numpy(order).to(device)
        self.columns: Optional[Tensor] = columns[self.position]
        if torch.equal(self.columns, torch.arange(num_columns, device=device)):
            self.columns = None  # the scores stand in this order already
        self.camids: Optional[Tensor] = None
        if gallery.camids is not None:
            self.camids = torch.from_numpy(gallery.camids[order]).to(device)
            self.cameras = self.camids.unique()
        self.first_rank = np.zeros(num_queries, dtype=np.int64)  # 0: no valid match
        self.average_precision = np.full(num_queries, np.nan)
        self.inverse_penalty = np.full(num_queries, np.nan)
        self.nearest: Optional[np.ndarray] = None
        if top:
            self.nearest = np.full((num_queries, top), -1, dtype=np.int64)

    def add(self, scores: Tensor, rows: np.ndarray, query: Labels) -> None:
        """Rank some queries.

        Args:
            scores: (R, U).
            rows: (R,) numbers of the queries, below Q.
            query: their labels.
        """
        if len(self.position) == 0:
            return
        step = max(_LEAST_ROWS, _TRIAL_BLOCK_ELEMENTS // len(self.position))
        for begin in range(0, len(rows), step):
            part = slice(begin, begin + step)
            self._add_block(scores[part], rows[part], query.take(part))

    def _add_block(self, scores: Tensor, rows: np.ndarray, query: Labels) -> None:
        if self.columns is not None:
            scores = take_columns(scores, self.columns)
        elif self.rules.needs_cameras:
            scores = scores.clone()  # hidden images are overwritten in it
        query_targets = torch.from_numpy(query.targets).to(scores.device)
        own = torch.searchsorted(self.identities, query_targets).clamp_(max=len(self.starts) - 1)
        count = self.counts[own] * (self.identities[own] == query_targets)
        slots = torch.arange(int(count.max()) if len(count) else 0, device=scores.device)
        valid = slots < count[:, None]
        columns = (self.starts[own][:, None] + slots).clamp_(max=len(self.position) - 1)
        if self.rules.needs_cameras:
            assert query.camids is not None
            self._hide(scores, torch.from_numpy(query.camids).to(scores.device), columns, valid)
        if self.nearest is not None:
            self._store_nearest(self.nearest, scores, rows)
        values = scores.gather(1, columns)
        valid &= values > -torch.inf
        matched = valid.any(1).nonzero(as_tuple=True)[0]
        if len(matched) < len(rows):
            scores, values, columns = scores[matched], values[matched], columns[matched]
            valid, own, rows = valid[matched], own[matched], rows[matched.cpu().numpy()]
        if len(rows):
            self._store(scores, values, columns, valid, own, rows)

    def _hide(self, scores: Tensor, cameras: Tensor, columns: Tensor, positive: Tensor) -> None:
        """Set the scores of images that a query must not see to minus infinity.

        The rules are asked once for each pair of cameras, which decides for all other identities,
        and once for each positive: far fewer than all pairs of images.

        Args:
            scores: (R, G).
            cameras: (R,) of the queries.
            columns: (R, M) columns of each query's own identity, where ``positive``.
            positive: (R, M) bool.
        """
        assert self.camids is not None
        own, others = cameras.unique(), self.cameras
        strangers = torch.zeros((), dtype=torch.bool, device=scores.device)
        hidden = self.rules.hides(strangers, own[:, None], others[None])
        for query, gallery in hidden.nonzero().tolist():
            rows = (cameras == own[query]).nonzero(as_tuple=True)[0]
            seen = (self.camids == others[gallery]).nonzero(as_tuple=True)[0]
            scores[rows[:, None], seen] = -torch.inf
        if not self.rules.skip_same_camera:
            return  # identities make no difference
        hidden = positive & self.rules.hides(positive, cameras[:, None], self.camids[columns])
        scores[hidden.nonzero(as_tuple=True)[0], columns[hidden]] = -torch.inf

    def _store_nearest(self, nearest: np.ndarray, scores: Tensor, rows: np.ndarray) -> None:
        width = min(nearest.shape[1], scores.shape[1])
        columns, values = largest_by_index(scores, width, self.position)
        found = self.position[columns].masked_fill_(values == -torch.inf, -1)
        nearest[rows, :width] = found.cpu().numpy()

    def _store(
        self,
        scores: Tensor,
        values: Tensor,
        columns: Tensor,
        valid: Tensor,
        own: Tensor,
        rows: np.ndarray,
    ) -> None:
        padded = values.masked_fill(~valid, torch.inf)
        ranks = positive_ranks(scores, padded, columns, valid, self.position)
        ranks = ranks.masked_fill(~valid, torch.iinfo(torch.int64).max).sort(dim=1).values
        hits = torch.arange(1, ranks.shape[1] + 1, dtype=torch.float64, device=ranks.device)
        count = valid.sum(1)
        precision = (hits / ranks.double()).masked_fill(hits > count[:, None], 0.0)
        last = ranks.gather(1, count[:, None] - 1)[:, 0]
        if self.rules.cmc == "identity":
            best = values.masked_fill(~valid, -torch.inf).amax(1)
            first = identity_ranks(scores, best, own, self.starts, self.position)
        else:
            first = ranks[:, 0]
        self.first_rank[rows] = first.cpu().numpy()
        self.average_precision[rows] = 100.0 * (precision.sum(1) / count).cpu().numpy()
        self.inverse_penalty[rows] = 100.0 * (count.double() / last.double()).cpu().numpy()

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
