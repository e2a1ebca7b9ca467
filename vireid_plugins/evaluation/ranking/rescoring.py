"""Re-order each query's nearest gallery images by a second, local distance.

A model may have a :class:`Rescorer`; evaluation knows nothing else about it. Shapes: N test images,
Q queries, G gallery items, K candidates of a query, D features, R local parts of S features.
"""

from typing import Any, Callable, ContextManager, Iterator, Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..arguments import shown
from ..rules import Labels, RankRules
from ..similarity import Array, Scorer, all_finite, as_features
from .arguments import Device, check_rules, device_of, labels_of, trials_of
from .ranker import RankMetrics
from .scores import Scores
from .trials import rank_with

_BLOCK_BYTES = 64 << 20


class Rescorer(Protocol):
    """The interface of ``model.rescorer``; a model whose ``rescorer`` is None is not re-scored.

    Attributes:
        description: the text in the table's column *re-ranking*.
        top: K, how many candidates of each query are re-ordered, at least 1.
        weight: weight of the local distance; the cosine distance 1 - cos of the features has 1.
    """

    description: str
    top: int
    weight: float

    def recording(self, model: Any) -> ContextManager[Callable[[], Tensor]]:
        """Return a context whose function returns the local features of the last forward pass.

        They are (B, R, S); the function works inside the context only.
        """

    def distances(self, query: Tensor, gallery: Tensor, candidates: Tensor) -> Tensor:
        """Return the local distances of each query and its candidates, in bounded memory.

        Args:
            query: (Q, R, S) local features.
            gallery: (G, R, S) local features.
            candidates: (Q, K) numbers of gallery items.

        Returns:
            (Q, K).
        """


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
