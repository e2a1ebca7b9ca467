"""Re-order each query's nearest gallery images by a second, local distance.

A model may have a :class:`Rescorer` as its attribute ``rescorer``; if that is None or absent, it is
not re-scored. Shapes: B images of a batch, N test images, Q queries, G gallery items, K candidates
of a query, D features, R local parts of S features.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, ContextManager, Dict, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import UserError
from ..arguments import real_number, shown, whole_number
from ..rules import Labels, RankRules
from ..similarity import Array, Scorer, all_finite, as_features
from .arguments import Device, check_rules, device_of, labels_of, trials_of
from .ranker import RankMetrics
from .scores import Scores
from .trials import rank_with

_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Rescorer:
    """Adds, at test, a distance of local features for the nearest images of each query.

    A candidate's total distance is ``1 - cos + weight * local distance``.

    Args:
        name: what the local distance is, for tables of results.
        top: K, how many candidates of each query are re-ordered, at least 1.
        weight: of the local distance, 0 or more; the cosine distance of the features has 1.
        local: the name of the map (B, R, S) that the model records (``modeling/maps.py``).
        record: ``recorded_maps`` of that file.
        distances: computes the local distances (Q, K) from local features of queries (Q, R, S) and
            of the gallery (G, R, S) and from candidates (Q, K), numbers of gallery items; in
            bounded memory.

    Raises:
        UserError: ``top`` or ``weight`` is out of its range.
    """

    name: str
    top: int
    weight: float
    local: str
    record: Callable[[nn.Module, str], ContextManager[Dict[str, Tensor]]]
    distances: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __post_init__(self) -> None:
        whole_number(self.top, "Rescorer's top")
        real_number(self.weight, "Rescorer's weight", least=0)

    @property
    def description(self) -> str:
        """Return the text in the table's column *re-ranking*."""
        return f"{self.name} × {self.weight:g}, top {self.top}"

    @property
    def left_out(self) -> str:
        """Return a sentence for whatever ranks images by their features alone."""
        return (
            f"Images are ranked by their features alone, without {self.description}, by which this "
            "model's evaluation re-orders the nearest images of each query."
        )

    @contextmanager
    def recording(self, model: nn.Module) -> Iterator[Callable[[], Tensor]]:
        """Yield a function that returns the local features (B, R, S) of the last forward pass."""
        with self.record(model, self.local) as maps:
            yield lambda: maps[self.local]


def check_alone(what: str, others: bool, expansion: bool, metric: str) -> None:
    """Check that nothing else re-orders the images of a model that has a rescorer.

    Args:
        what: what re-orders them, as a part of the message.
        others: whether ``TEST.RERANK`` is on.
        expansion: whether ``TEST.AQE`` is on.
        metric: ``TEST.METRIC``.

    Raises:
        UserError: something else does, or the metric is not cosine.
    """
    if others or expansion or metric != "cosine":
        raise UserError(
            f"The model re-orders its nearest images ({what}), which works on cosine distances "
            f"that nothing else re-ranks: set TEST.RERANK.ENABLED False (now {others}), "
            f"TEST.AQE.ENABLED False (now {expansion}) and TEST.METRIC cosine (now {metric}), or "
            "switch the model's re-scoring off."
        )


class RescoringScorer:
    """Cosine scores in which each query's K nearest candidates are re-ordered.

    A query's candidates are its K nearest gallery items by cosine among those that the protocol
    lets it see; among equal ones the earlier in the gallery comes first. They are ordered by
    ``1 - cos + weight * local distance``. All others follow in their own order. Equal totals are
    ordered by gallery index, as everywhere.

    Memory: a few matrices of a block of queries, each at most 64 MiB, the gallery's local features
    and what ``rescorer.distances`` takes. For SYSU-MM01, 3803 queries x 301 gallery images with
    6 x 256 local features, a matrix of all pairs is 9 MiB in int64, the gallery's local features
    are 2 MiB and those of the whole test set, on the CPU, 62 MiB.

    Args:
        features: (N, D) of every test image.
        local: (N, R, S) local features of the same images.
        rescorer: see :class:`Rescorer`.
        labels: the labels of the N images.
        rules: decide who is a candidate.
        device: where to compute; by default where the features are.
    """

    pairwise = False  # whether an image is re-ordered depends on the others

    def __init__(
        self,
        features: Array,
        local: Tensor,
        rescorer: Rescorer,
        labels: Labels,
        rules: RankRules,
        device: Device = None,
    ) -> None:
        self._features = as_features(features, "features", device_of(device, features))
        self._local, self._rescorer = _checked_local(local, len(self._features)), rescorer
        self._labels, self._rules = labels, rules

    def scores(self, query: np.ndarray, gallery: np.ndarray) -> Scores:
        """Return the scores that :class:`TrialScorer` describes.

        Raises:
            UserError: local distances are not finite.
        """
        columns = torch.arange(len(gallery), device=self._features.device)
        return Scores(self._blocks(query, gallery), columns, len(gallery))

    def _blocks(self, query: np.ndarray, gallery: np.ndarray) -> Iterator[Tensor]:
        where = self._features.device
        gallery_rows = torch.from_numpy(gallery)
        scorer = Scorer(self._features[gallery_rows.to(where)], "cosine")
        gallery_local = self._local[gallery_rows].to(where)
        gallery_labels = self._labels.take(gallery)
        step = max(1, _BLOCK_BYTES // (8 * max(1, len(gallery))))
        for begin in range(0, len(query), step):
            rows = query[begin : begin + step]
            places = torch.from_numpy(rows)
            scores = scorer.scores(self._features[places.to(where)])[:, scorer.columns]
            hidden = self._rules.hidden(self._labels.take(rows), gallery_labels)
            query_local = self._local[places].to(where)

            def added(found: Tensor, own: Tensor = query_local) -> Tensor:
                distances = self._rescorer.distances(own, gallery_local, found)
                return self._rescorer.weight * distances

            yield promoted(scores, torch.from_numpy(hidden).to(where), self._rescorer.top, added)


def rank_rescored(
    features: Tensor,
    local: Tensor,
    rescorer: Rescorer,
    targets: np.ndarray,
    camids: np.ndarray,
    trial: Any,
    rules: RankRules,
    *,
    device: Device = None,
) -> RankMetrics:
    """Rank one trial whose K nearest candidates are re-ordered, see :class:`RescoringScorer`.

    Args:
        features: (N, D) of every test image.
        local: (N, R, S) local features of the same images.
        rescorer: see :class:`Rescorer`.
        targets: (N,) identities.
        camids: (N,) camera numbers.
        trial: has ``query`` and ``gallery``, row numbers into ``features``.
        rules: who is compared with whom, and how hits are counted.
        device: where to compute; by default where the features are.

    Raises:
        UserError: features or local distances are not finite.
    """
    check_rules(rules)
    (trial,) = trials_of([trial])
    features = as_features(features, "features", device_of(device, features))
    labels = labels_of(targets, camids, len(features), "features", rules)
    scorer = RescoringScorer(features, local, rescorer, labels, rules, device)
    return rank_with(scorer, labels, [trial], rules)[0]


def _checked_local(local: Any, length: int) -> Tensor:
    if not isinstance(local, Tensor) or local.dim() != 3 or len(local) != length:
        raise UserError(
            f"local must be a tensor ({length}, R, S), a row for each row of features; got "
            f"{shown(local)}."
        )
    return local.detach()


def promoted(
    scores: Tensor, hidden: Tensor, top: int, distances: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return cosine scores with the best ``top`` of each query re-ordered, above all others.

    The new scores are whole numbers above 2, one for each distinct total: no rounding makes
    totals equal, and equal ones stay equal.

    Args:
        scores: (Q, G) cosine similarities.
        hidden: (Q, G) bool, pairs that are never compared; their new scores mean nothing.
        top: K; if the gallery is smaller, all its items are re-ordered.
        distances: takes candidates (Q, K) and returns what is added to their cosine distances,
            (Q, K).

    Raises:
        UserError: a distance is not finite.
    """
    order = torch.sort(scores.masked_fill(hidden, -torch.inf), dim=1, descending=True, stable=True)
    candidates = order.indices[:, :top]
    kept = scores.gather(1, candidates)
    added = distances(candidates).to(scores.dtype)
    if not all_finite(added):
        raise UserError("Local distances hold NaN or infinity; the order would mean nothing.")
    # 1 - cos without the 1: the order is the same, and no digit is lost.
    places = _places(added - kept)
    return scores.scatter(1, candidates, (2 + candidates.shape[1] - places).to(scores.dtype))


def _places(values: Tensor) -> Tensor:
    """Return each value's place among the distinct ones of its row (Q, K), the smallest at 0."""
    ascending, order = values.sort(dim=1)
    steps = torch.zeros_like(order)
    steps[:, 1:] = (ascending[:, 1:] > ascending[:, :-1]).cumsum(dim=1)
    return torch.empty_like(order).scatter_(1, order, steps)
