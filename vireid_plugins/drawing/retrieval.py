"""Choose queries that are worth a look, and find their nearest gallery images.

The search follows the protocol's rules: rows that a query must not see are neither ranked nor
shown.

Shapes: N test images, Q queries and G gallery rows of a trial, D feature size.
"""

from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch

from ..data.item import test_items
from ..errors import PlotError
from ..evaluation import rank_metrics
from ..evaluation.similarity import as_features, normalize
from .photos import Photo

# The pictures of a training look for the hardest of only this many queries, so that a large test
# set takes no longer.
POOL = 256
BEST, WORST, RANDOM, GIVEN, HARDEST = "best", "worst", "random", "given", "hardest"
_SCORED = {BEST: 1, WORST: -1, HARDEST: -1}  # 1: the lowest rank first; -1: the highest


class Match(NamedTuple):
    """One gallery image of a ranking."""

    photo: Photo
    score: float  # cosine similarity, or Euclidean distance
    correct: bool  # same identity as the query


class Retrieval(NamedTuple):
    """A query, its nearest gallery images and why it was chosen."""

    query: Photo
    matches: Tuple[Match, ...]
    first_correct: int  # rank from 1 of the first image of the same identity; 0: there is none
    chosen: str  # "random", "hardest", "best", "worst" or "given"
    average_precision: float = float("nan")  # percent


class Difficulty(NamedTuple):
    """How well queries find their identity. A query without a valid match has 0 and NaN."""

    first_correct: np.ndarray  # (Q,) int64, rank from 1
    average_precision: np.ndarray  # (Q,) percent


class GallerySearch:
    """The gallery of one trial, searched under a protocol's rules.

    Args:
        features: ``TestFeatures``: arrays ``features`` (N, D), ``targets``, ``camids`` and
            ``modalities`` (N,), in the order of ``dataset.query + dataset.gallery``.
        dataset: has ``query`` and ``gallery``, lists of items.
        trial: row numbers ``query`` (Q,) and ``gallery`` (G,).
        protocol: a protocol, whose ``rules()`` say which images a query may see.
        metric: ``"cosine"`` or ``"euclidean"``.

    Raises:
        PlotError: the features are not those of the dataset's test list.
    """

    def __init__(
        self, features: Any, dataset: Any, trial: Any, protocol: Any, metric: str = "cosine"
    ) -> None:
        self._items = test_items(dataset)
        if len(self._items) != len(features.features):
            raise PlotError(
                f"features has {len(features.features)} rows, but dataset.query + dataset.gallery "
                f"has {len(self._items)} images; extract the features of this dataset's test "
                "loader."
            )
        self._rows = as_features(features.features, "features", torch.device("cpu"))
        self._targets, self._camids, self._modalities = (
            np.asarray(values)
            for values in (features.targets, features.camids, features.modalities)
        )
        self.queries, self.gallery = np.asarray(trial.query), np.asarray(trial.gallery)
        self.metric, self._protocol = metric, protocol

    def difficulty(self, queries: np.ndarray) -> Difficulty:
        """Return how well the test rows ``queries`` (Q,) find their identity."""
        result = self._rank(queries)
        return Difficulty(result.first_rank, result.average_precision)

    def retrievals(self, queries: np.ndarray, chosen: Sequence[str], top: int) -> List[Retrieval]:
        """Return the ``top`` nearest gallery images of each query.

        Args:
            queries: (Q,) rows of the test list.
            chosen: why each query was chosen (Q,).
            top: at least 1; a query that may see fewer images gets fewer.
        """
        result = self._rank(queries, top)
        scores = self._scores(queries, result.nearest)
        found = []
        for place, query in enumerate(queries):
            seen = result.nearest[place] >= 0
            others = self.gallery[result.nearest[place][seen]]
            correct = self._targets[others] == self._targets[query]
            matches = tuple(
                Match(self._photo(row), float(score), bool(right))
                for row, score, right in zip(others, scores[place][seen], correct)
            )
            found.append(
                Retrieval(
                    self._photo(query),
                    matches,
                    int(result.first_rank[place]),
                    chosen[place],
                    float(result.average_precision[place]),
                )
            )
        return found

    def identities(self, rows: np.ndarray) -> np.ndarray:
        """Return the identities of test rows (Q,)."""
        return self._targets[rows]

    @property
    def paths(self) -> List[str]:
        """Return the paths of the N test images."""
        return [item.path for item in self._items]

    def _rank(self, queries: np.ndarray, top: int = 0) -> Any:
        rules = self._protocol.rules()
        return rank_metrics(
            self._rows[torch.from_numpy(np.asarray(queries))],
            self._rows[torch.from_numpy(self.gallery)],
            self._targets[queries],
            self._targets[self.gallery],
            self._camids[queries],
            self._camids[self.gallery],
            metric=self.metric,
            skip_camera_pairs=rules.skip_camera_pairs,
            skip_same_camera=rules.skip_same_camera,
            top=top,
        )

    def _scores(self, queries: np.ndarray, nearest: np.ndarray) -> np.ndarray:
        """Return the similarities, or distances, of queries (Q,) and their ``nearest`` (Q, top)."""
        rows = torch.from_numpy(self.gallery[np.maximum(nearest, 0)])
        query, others = self._rows[torch.from_numpy(np.asarray(queries))], self._rows[rows]
        if self.metric == "euclidean":
            return (others - query[:, None]).double().norm(dim=2).numpy()
        size = others.shape
        others = normalize(others.reshape(-1, size[-1])).reshape(size)
        return (others @ normalize(query)[:, :, None])[..., 0].numpy()

    def _photo(self, row: int) -> Photo:
        return Photo(
            self._items[row].path,
            int(self._targets[row]),
            int(self._camids[row]),
            int(self._modalities[row]),
        )


def choose(
    search: GallerySearch, pool: np.ndarray, words: Sequence[str], count: int
) -> Tuple[np.ndarray, List[str]]:
    """Choose ``count`` queries of ``pool`` for each of ``words``; choose no query twice.

    Queries without a valid match are left out. ``random`` takes the first of ``pool``, which is
    shuffled. ``best`` and ``worst`` order queries by the rank of the first image of the same
    identity, then by average precision; equal ones stay in the order of ``pool``. They take one
    query of each identity before they take a second one. ``hardest`` is ``worst`` without this
    last rule.

    Args:
        search: the gallery of the trial.
        pool: test rows in random order.
        words: ``random``, ``best``, ``worst`` or ``hardest``.
        count: number of queries for each word; if there are fewer, all are taken.

    Returns:
        The test rows, and the word by which each was chosen.
    """
    measured = search.difficulty(pool)
    valid = measured.first_correct > 0
    pool, first = pool[valid], measured.first_correct[valid]
    precision = measured.average_precision[valid]
    free, rows, chosen = np.ones(len(pool), dtype=bool), [], []
    for word in words:
        order = np.arange(len(pool))
        if word in _SCORED:
            order = np.lexsort((order, -_SCORED[word] * precision, _SCORED[word] * first))
        order = order[free[order]]
        if word in (BEST, WORST):
            order = _identities_once(search.identities(pool[order]), order)
        picked = order[:count]
        free[picked] = False
        rows.append(pool[picked])
        chosen += [word] * len(picked)
    return np.concatenate(rows), chosen


def _identities_once(identities: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return ``order`` (Q,) with the first query of each identity before all others."""
    first = np.zeros(len(order), dtype=bool)
    first[np.unique(identities, return_index=True)[1]] = True
    return np.concatenate([order[first], order[~first]])


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

    Half of the queries (rounded up) are drawn at random. The others are the hardest of 256 queries
    drawn at random: those whose first image of the same identity has the highest rank. Queries
    without a valid match are never chosen.

    Args:
        features, dataset, trial, protocol, metric: as ``GallerySearch`` takes them.
        count: number of queries; if there are fewer, all are taken.
        seed: seed of the draw.
        top: gallery images per query; a query that may see fewer images gets fewer.

    Raises:
        PlotError: the features are not those of the dataset's test list.
    """
    search = GallerySearch(features, dataset, trial, protocol, metric)
    pool = np.random.default_rng(seed).permutation(search.queries)[:POOL]
    half = (count + 1) // 2
    rows, chosen = choose(search, pool, (RANDOM, HARDEST), half)
    return search.retrievals(rows[:count], chosen[:count], top)
