"""Ask which person of one moment is the person of another moment: the measurement.

A *question* is a crop of a person (the query) and the crops of all persons of one other moment
(the gallery), which show the query's person exactly once. So no query is compared with crops of the
same second, and a person who comes back as a new track causes no wrong answer.

S sightings, Q questions, T tracks, D features.
"""

from dataclasses import dataclass
from typing import Dict, Hashable, List, NamedTuple, Sequence

import numpy as np

from ..errors import UserError
from .sightings import Sighting

_RESAMPLED = 2000  # times that the persons are drawn again
_INTERVAL = (2.5, 97.5)  # percentiles
_PAIRS = 1 << 13  # pairs of crops that are compared at once


class Question(NamedTuple):
    """One query with its gallery; all are numbers of sightings."""

    query: int
    gallery: List[int]  # two or more
    right: int  # the one of the gallery that shows the query's person


def ask(sightings: Sequence[Sighting], persons: Sequence[Hashable], gap: int) -> List[Question]:
    """Return all questions whose gallery is ``gap`` frames before or after the query.

    A gallery holds two persons or more, and one of them is the query's.

    Args:
        sightings: S sightings.
        persons: S persons, who they show.
        gap: frames.

    Raises:
        UserError: one person is at two places of one frame.
    """
    at: Dict[int, Dict[Hashable, int]] = {}  # frame -> person -> number of the sighting
    for number, (one, person) in enumerate(zip(sightings, persons)):
        there = at.setdefault(one.frame, {})
        if person in there:
            raise UserError(
                f"Tracks {sightings[there[person]].track} and {one.track} cannot both be person "
                f"{person}: in frame {one.frame} they are at two places."
            )
        there[person] = number
    questions = []
    for number, (one, person) in enumerate(zip(sightings, persons)):
        for frame in (one.frame - gap, one.frame + gap):
            there = at.get(frame, {})
            if person in there and len(there) > 1:
                questions.append(Question(number, sorted(there.values()), there[person]))
    return questions


def chance(questions: Sequence[Question]) -> float:
    """Return the rank-1 in percent of an answer at random."""
    return 100 * float(np.mean([1 / len(question.gallery) for question in questions]))


def answers(questions: Sequence[Question], queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Return for each question whether the most similar crop is the right one, (Q,) from 0 to 1.

    Where several crops are equally similar, one of them is taken at random: with two of them, the
    right one among them, the answer counts 0.5.

    Args:
        queries: (S, D) features of all sightings as queries.
        gallery: (S, D) features of all sightings in galleries.
    """
    if not questions:
        return np.zeros(0)
    asked, galleries, right = zip(*questions)
    sizes = np.array([len(gallery_of) for gallery_of in galleries])
    rows = np.concatenate(galleries)  # P pairs of a query and a crop of its gallery
    asked_for, right_one = np.repeat(asked, sizes), np.repeat(right, sizes)
    scores = np.concatenate(
        [
            np.einsum("pd,pd->p", gallery[rows[pairs]], queries[asked_for[pairs]])
            for pairs in (slice(i, i + _PAIRS) for i in range(0, len(rows), _PAIRS))
        ]
    )
    starts = np.cumsum(sizes) - sizes
    best = scores == np.repeat(np.maximum.reduceat(scores, starts), sizes)
    hits = np.add.reduceat(best & (rows == right_one), starts, dtype=float)
    return hits / np.add.reduceat(best, starts, dtype=float)


@dataclass(frozen=True)
class Rate:
    """Rank-1 in percent, with an interval of 95 % over persons.

    Attributes:
        rank1: of all questions.
        low, high: the interval.
        drawn: (2000,) rank-1 of the persons of each drawing.
    """

    rank1: float
    low: float
    high: float
    drawn: np.ndarray


def rate(right: np.ndarray, persons: Sequence[Hashable]) -> Rate:
    """Return rank-1, and how far it would differ with other persons of the same kind.

    The persons are drawn with replacement, each with all questions that ask for them (a bootstrap
    over clusters). The drawings are the same in each call with the same persons, so two models can
    be compared drawing by drawing.

    Args:
        right: (Q,) from ``answers``.
        persons: Q persons, whom each question asks for.
    """
    number_of = {person: number for number, person in enumerate(dict.fromkeys(persons))}
    place = np.array([number_of[person] for person in persons])
    weights = np.random.default_rng(0).multinomial(
        len(number_of), np.full(len(number_of), 1 / len(number_of)), _RESAMPLED
    )
    of_person = np.bincount(place, right), np.bincount(place)
    drawn = 100 * (weights @ of_person[0]) / (weights @ of_person[1])
    low, high = np.percentile(drawn, _INTERVAL)
    return Rate(100 * float(right.mean()), float(low), float(high), drawn)


def difference(one: Rate, other: Rate) -> Rate:
    """Return by how much ``one`` is above ``other``, in percent points, with its interval."""
    drawn = one.drawn - other.drawn
    low, high = np.percentile(drawn, _INTERVAL)
    return Rate(one.rank1 - other.rank1, float(low), float(high), drawn)
