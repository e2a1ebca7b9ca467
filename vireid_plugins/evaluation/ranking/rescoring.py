"""Re-order each query's nearest gallery images by a second, local distance.

A model may bring a :class:`Rescorer`; evaluation knows nothing else of it. Shapes: N test images,
Q queries, G gallery items, K candidates of a query, D features, R local parts of S features.
"""

from typing import Any, Callable, ContextManager, Optional, Protocol, Union

import numpy as np
import torch
from torch import Tensor

from ..rules import Labels, RankRules
from ..similarity import Scorer, all_finite, as_features
from .trial import RankMetrics, TrialRanker

_BLOCK_BYTES = 64 << 20


class Rescorer(Protocol):
    """What ``model.rescorer`` must offer; None there means: do not re-score.

    Attributes:
        description: for the table's column *re-ranking*.
        top: K, how many candidates of each query are re-ordered, at least 1.
        weight: of the local distance, beside the cosine distance 1 - cos of the features.
    """

    description: str
    top: int
    weight: float

    def recording(self, model: Any) -> ContextManager[Callable[[], Tensor]]:
        """A context inside which the yielded function gives the local features (B, R, S) of the
        model's last forward pass."""

    def distances(self, query: Tensor, gallery: Tensor, candidates: Tensor) -> Tensor:
        """Local distances (Q, K) from local features (Q, R, S) and (G, R, S) and the numbers
        (Q, K) of gallery items; in bounded memory."""


def rank_rescored(
    features: Tensor,
    local: Tensor,
    rescorer: Rescorer,
    targets: np.ndarray,
    camids: np.ndarray,
    trial: Any,
    rules: RankRules,
    *,
    device: Optional[Union[str, torch.device]] = None,
) -> RankMetrics:
    """Score one trial whose K nearest candidates are re-ordered.

    A query's candidates are its K nearest gallery items by cosine among those that the protocol
    lets it see; of equal ones the earlier in the gallery come first. They are ordered by
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
        targets: (N,) identities.
        camids: (N,) camera numbers.
        trial: has ``query`` and ``gallery``, row numbers into ``features``.
        rules: who is compared with whom, and how hits are counted.
        device: where to compute; by default where the features are.

    Raises:
        ValueError: features or local distances are not finite.
    """
    where = torch.device(device) if device else features.device
    features = as_features(features, "features", where)
    query, gallery, labels = trial.query, trial.gallery, Labels(targets, camids)
    gallery_rows = torch.from_numpy(gallery)
    scorer = Scorer(features[gallery_rows.to(where)], "cosine")
    gallery_local = local[gallery_rows].to(where)
    columns = torch.arange(len(gallery), device=where)
    ranker = TrialRanker(
        targets[gallery], camids[gallery], columns, len(gallery), len(query), rules
    )
    step = max(1, _BLOCK_BYTES // (8 * max(1, len(gallery))))
    for begin in range(0, len(query), step):
        rows = query[begin : begin + step]
        places = torch.from_numpy(rows)
        scores = scorer.scores(features[places.to(where)])[:, scorer.columns]
        hidden = rules.hidden(labels.take(rows), labels.take(gallery))
        query_local = local[places].to(where)
        scores = promoted(
            scores,
            torch.from_numpy(hidden).to(where),
            rescorer.top,
            lambda found, own=query_local: (
                rescorer.weight * rescorer.distances(own, gallery_local, found)
            ),
        )
        numbers = np.arange(begin, begin + len(rows))
        ranker.add(scores, numbers, targets[rows], camids[rows])
    return ranker.metrics()


def promoted(
    scores: Tensor, hidden: Tensor, top: int, distances: Callable[[Tensor], Tensor]
) -> Tensor:
    """Cosine scores in which each query's best ``top`` visible items stand anew, above all others.

    The new scores are whole numbers above 2, one for each distinct total: no rounding makes
    totals equal, and equal ones stay equal.

    Args:
        scores: (Q, G) cosine similarities.
        hidden: (Q, G) bool, pairs that are never compared; their new scores mean nothing.
        top: K; more than there are means all.
        distances: from candidates (Q, K) to what is added to their cosine distances, (Q, K).

    Raises:
        ValueError: a distance is not finite.
    """
    order = torch.sort(scores.masked_fill(hidden, -torch.inf), dim=1, descending=True, stable=True)
    candidates = order.indices[:, :top]
    kept = scores.gather(1, candidates)
    added = distances(candidates).to(scores.dtype)
    if not all_finite(added):
        raise ValueError("Local distances hold NaN or infinity; the order would mean nothing.")
    # 1 - cos without the 1, which orders alike and costs no digits.
    places = _places(added - kept)
    return scores.scatter(1, candidates, (2 + candidates.shape[1] - places).to(scores.dtype))


def _places(values: Tensor) -> Tensor:
    """Place of each value in its row (Q, K) among the distinct ones, from 0, smallest first."""
    ascending, order = values.sort(dim=1)
    steps = torch.zeros_like(order)
    steps[:, 1:] = (ascending[:, 1:] > ascending[:, :-1]).cumsum(dim=1)
    return torch.empty_like(order).scatter_(1, order, steps)
