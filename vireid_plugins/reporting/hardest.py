"""Find the queries that are hardest for a model, and its wrong answers."""

from dataclasses import dataclass
from typing import List

import numpy as np

from ..drawing.photos import Photo
from ..drawing.retrieval import WORST, GallerySearch, Match, Retrieval
from ..evaluation import Protocol
from ..plots.subject import Subject

WRONG = 5  # largest number of wrong answers that are shown for a query


@dataclass(frozen=True)
class Answer:
    """A gallery image in the ranking of a query."""

    match: Match
    rank: int  # from 1, among the images that the query may see


@dataclass(frozen=True)
class HardQuery:
    """A query, its first right answer and the wrong answers before it."""

    query: Photo
    wrong: List[Answer]  # the nearest wrong answers, at most ``WRONG``
    right: Answer  # the first right answer
    average_precision: float  # percent


@dataclass(frozen=True)
class HardQueries:
    """The hardest queries of the first trial of the first protocol."""

    queries: List[HardQuery]
    protocol: Protocol
    gallery: int  # number of images
    valid: int  # queries with a right answer in the gallery
    at_first: int  # number of valid queries whose first answer is right


def hardest_queries(subject: Subject, count: int) -> HardQueries:
    """Return the queries whose first right answer has the highest rank, one for each identity.

    Of queries with equal ranks, the one with the lower average precision is harder. Images are
    ranked by ``TEST.METRIC`` under the rules of the protocol, and not re-ranked.

    Args:
        subject: the model and its test set.
        count: number of queries; if there are fewer identities, all are taken.
    """
    protocol = subject.protocols[0]
    trial = next(iter(protocol.trials(subject.dataset)))
    search = GallerySearch(
        subject.features, subject.dataset, trial, protocol, subject.cfg.TEST.METRIC
    )
    found = search.difficulty(search.queries)
    valid = np.flatnonzero(found.first_correct > 0)
    order = valid[np.lexsort((found.average_precision[valid], -found.first_correct[valid]))]
    targets = np.asarray(subject.features.targets)[search.queries[order]]
    _, first = np.unique(targets, return_index=True)
    chosen = order[np.sort(first)[:count]]
    last = int(found.first_correct[chosen].max(initial=0))  # no answer with a higher rank is shown
    queries = search.queries[chosen]
    retrievals = search.retrievals(queries, [WORST] * len(queries), last) if last else []
    return HardQueries(
        queries=[_hard_query(one) for one in retrievals],
        protocol=protocol,
        gallery=len(search.gallery),
        valid=len(valid),
        at_first=int((found.first_correct[valid] == 1).sum()),
    )


def _hard_query(retrieval: Retrieval) -> HardQuery:
    first = retrieval.first_correct
    answers = [Answer(match, rank) for rank, match in enumerate(retrieval.matches[:first], start=1)]
    return HardQuery(
        retrieval.query, answers[:-1][:WRONG], answers[-1], retrieval.average_precision
    )
