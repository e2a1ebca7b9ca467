"""Turn scores into metrics, in the one way that every ranking uses.

Plain, re-ranked and re-scored trials differ in their scores (``scores.py``); who is compared with
whom, ties, counting and metrics are the same for all. Shapes: N test images, Q queries, G gallery
images of a trial, R queries of one block, U columns of scores.
"""

from typing import Any, Dict, List, NamedTuple, Sequence

import numpy as np
import torch
from torch import Tensor

from ..rules import Labels, RankRules
from .arguments import rows_of
from .ranker import RankMetrics, TrialRanker
from .scores import Scores, TrialScorer

_PART_ELEMENTS = 1 << 22  # scores that all galleries rank in turn, while a CPU's cache holds them
_LEAST_ROWS = 16  # a part has at least so many rows, so that every thread has work


class Gallery(NamedTuple):
    """The gallery of one trial."""

    labels: Labels  # of its G images
    columns: Tensor  # (G,) the column of each image's scores


def rank(
    scores: Scores, query: Labels, galleries: Sequence[Gallery], rules: RankRules, top: int = 0
) -> List[RankMetrics]:
    """Rank one or several galleries, which share their scores, for the same queries.

    Args:
        scores: the scores of Q queries.
        query: the queries' labels.
        galleries: each picks columns of the scores.
        rules: who is compared with whom, and how hits are counted.
        top: how many of each query's nearest gallery images to name.

    Returns:
        The metrics of each gallery, in order.
    """
    rankers = [
        TrialRanker(labels, columns, len(query), rules, top) for labels, columns in galleries
    ]
    widest = max([scores.num_columns, 1, *(len(labels) for labels, _ in galleries)])
    step = max(_LEAST_ROWS, _PART_ELEMENTS // widest)
    begin = 0
    for block in scores.blocks:
        for part in block.split(step):
            rows = np.arange(begin, begin + len(part))
            asked = query.take(rows)
            for ranker in rankers:
                ranker.add(part, rows, asked)
            begin += len(part)
    return [ranker.metrics() for ranker in rankers]


def rank_with(
    scorer: TrialScorer, labels: Labels, trials: Sequence[Any], rules: RankRules
) -> List[RankMetrics]:
    """Rank several trials over one list of test images.

    Args:
        scorer: gives the scores of any trial.
        labels: the labels of the N test images.
        trials: objects with ``query`` and ``gallery``, row numbers of the list.
        rules: who is compared with whom, and how hits are counted.

    Returns:
        One ``RankMetrics`` per trial, in order.

    Raises:
        UserError: a row number is out of range, or features or scores are not finite.
    """
    queries = [rows_of(trial.query, "trial.query", len(labels)) for trial in trials]
    galleries = [rows_of(trial.gallery, "trial.gallery", len(labels)) for trial in trials]
    groups: Dict[Any, List[int]] = {}  # numbers of the trials that share their scores
    for number, query in enumerate(queries):
        groups.setdefault(query.tobytes() if scorer.pairwise else number, []).append(number)
    results: Dict[int, RankMetrics] = {}
    for numbers in groups.values():
        picked = [galleries[number] for number in numbers]
        found = _rank_together(scorer, labels, queries[numbers[0]], picked, rules)
        results.update(zip(numbers, found))
    return [results[number] for number in range(len(trials))]


def _rank_together(
    scorer: TrialScorer,
    labels: Labels,
    query: np.ndarray,
    galleries: Sequence[np.ndarray],
    rules: RankRules,
) -> List[RankMetrics]:
    """Rank galleries for the same queries by scores that are computed once."""
    if scorer.pairwise:
        rows = np.unique(np.concatenate(galleries))
        places = [np.searchsorted(rows, gallery) for gallery in galleries]
    else:
        (rows,) = galleries
        places = [np.arange(len(rows))]
    scores = scorer.scores(query, rows)
    device = scores.columns.device
    members = [
        Gallery(labels.take(gallery), scores.columns[torch.from_numpy(place).to(device)])
        for gallery, place in zip(galleries, places)
    ]
    return rank(scores, labels.take(query), members, rules)
