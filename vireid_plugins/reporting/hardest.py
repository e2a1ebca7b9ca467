"""The queries that a model finds hardest, and who it takes for them.

Shapes: N test images, Q queries and G gallery images of a trial, H hardest queries.
"""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence

import numpy as np

from ..evaluation import Protocol, rank_metrics
from ..modality import Modality
from ..visualization.subject import Subject

WRONG = 5  # answers shown of a query


@dataclass(frozen=True)
class Answer:
    """A gallery image in the ranking of a query."""

    row: int  # of the test list
    rank: int  # from 1, among the images that the query may see
    score: float  # cosine similarity, or Euclidean distance


@dataclass(frozen=True)
class HardQuery:
    """A query, the wrong answers before the first right one, and that."""

    row: int  # of the test list
    wrong: List[Answer]  # the nearest ones, at most ``WRONG``
    right: Answer  # the first
    seen: int  # gallery images that the query may see


@dataclass(frozen=True)
class HardQueries:
    """The hardest queries of the first trial of the first protocol."""

    queries: List[HardQuery]
    protocol: Protocol
    valid: int  # queries with a right answer in the gallery
    at_first: int  # of them, those whose first answer is right


def hardest_queries(subject: Subject, count: int) -> HardQueries:
    """Those whose first right answer comes last, one of each identity.

    Of equal ones, that with the lower average precision is harder. Images are ranked as
    ``TEST.METRIC`` says, under the rules of the protocol, and not re-ranked.

    Args:
        count: at most so many; fewer come where there are fewer identities.
    """
    protocol = subject.protocols[0]
    trial = next(iter(protocol.trials(subject.dataset)))
    found = _ranked(subject, protocol, trial.query, trial.gallery)
    valid = np.flatnonzero(found.first_rank > 0)
    order = valid[np.lexsort((found.average_precision[valid], -found.first_rank[valid]))]
    targets = np.asarray(subject.features.targets)
    _, first = np.unique(targets[trial.query[order]], return_index=True)
    rows = trial.query[order[np.sort(first)[:count]]]
    at_first = int((found.first_rank[valid] == 1).sum())
    queries = _answers(subject, protocol, rows, trial.gallery)
    return HardQueries(queries, protocol, len(valid), at_first)


def _ranked(
    subject: Subject, protocol: Protocol, query: np.ndarray, gallery: np.ndarray, top: int = 0
) -> Any:
    features, rules = subject.features, protocol.rules()
    return rank_metrics(
        features.features[query],
        features.features[gallery],
        features.targets[query],
        features.targets[gallery],
        features.camids[query],
        features.camids[gallery],
        metric=subject.cfg.TEST.METRIC,
        skip_camera_pairs=rules.skip_camera_pairs,
        skip_same_camera=rules.skip_same_camera,
        cmc=rules.cmc,
        top=top,
    )


def _answers(
    subject: Subject, protocol: Protocol, rows: np.ndarray, gallery: np.ndarray
) -> List[HardQuery]:
    """The rankings of a few queries (H,)."""
    if len(rows) == 0:
        return []
    nearest = _ranked(subject, protocol, rows, gallery, top=len(gallery)).nearest  # (H, G)
    targets = np.asarray(subject.features.targets)
    found = []
    for row, order in zip(rows, nearest):
        order = order[order >= 0]
        right = targets[gallery[order]] == targets[row]
        first = int(right.argmax())
        places = [*range(min(first, WRONG)), first]
        shown = gallery[order[places]]
        scores = _scores(subject, row, shown)
        answers = [Answer(int(one), place + 1, float(score))
                   for one, place, score in zip(shown, places, scores)]  # fmt: skip
        found.append(HardQuery(int(row), answers[:-1], answers[-1], len(order)))
    return found


def _scores(subject: Subject, row: int, others: np.ndarray) -> np.ndarray:
    features = subject.features.features
    query, gallery = features[row].double().numpy(), features[others].double().numpy()
    if subject.cfg.TEST.METRIC == "euclidean":
        return np.linalg.norm(gallery - query, axis=1)
    lengths = np.linalg.norm(gallery, axis=1) * np.linalg.norm(query)
    return gallery @ query / np.maximum(lengths, 1e-12)


def modality_of(subject: Subject, row: int) -> Optional[str]:
    """``"visible"`` or ``"infrared"``; None where the loader does not say."""
    modality = int(subject.features.modalities[row])
    return Modality(modality).label if modality in tuple(Modality) else None


def words_of(subject: Subject, row: int) -> Sequence[str]:
    """Identity and camera of a test image."""
    features = subject.features
    return [f"identity {features.targets[row]}", f"camera {features.camids[row]}"]
