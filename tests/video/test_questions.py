"""Questions and their rates. Oracles: worked by hand, and loops."""

import numpy as np
import pytest

from vireid_plugins.errors import UserError
from vireid_plugins.video.questions import Question, answers, ask, chance, difference, rate
from vireid_plugins.video.sightings import Sighting


def sightings(*places):
    """Return sightings of (track, frame)."""
    return [Sighting(track, frame, 0, 0, 10, 30) for track, frame in places]


SEEN = sightings((1, 0), (2, 0), (1, 5), (3, 5), (2, 10), (1, 10), (4, 20))
TRACKS = [one.track for one in SEEN]


def test_questions_worked_by_hand():
    """Number 0 is track 1 in frame 0, and so on."""
    assert ask(SEEN, TRACKS, 5) == [
        Question(0, [2, 3], 2),  # track 1, frame 0 -> frame 5: tracks 1 and 3
        Question(2, [0, 1], 0),  # back to frame 0: tracks 1 and 2
        Question(2, [4, 5], 5),  # on to frame 10: tracks 2 and 1
        Question(5, [2, 3], 2),
    ]
    assert ask(SEEN, TRACKS, 10) == [
        Question(0, [4, 5], 5),
        Question(1, [4, 5], 4),
        Question(4, [0, 1], 1),
        Question(5, [0, 1], 0),
    ]
    assert ask(SEEN, TRACKS, 15) == []  # nobody is seen twice 15 frames apart


def test_joined_tracks_are_one_person():
    persons = ["a", "b", "a", "c", "b", "a", "c"]  # tracks 3 and 4 are one
    assert ask(SEEN, persons, 15) == [Question(6, [2, 3], 3)]  # frame 20 has nobody else


def test_a_person_at_two_places_is_named():
    with pytest.raises(UserError, match="Tracks 1 and 2 cannot both be person a: in frame 0"):
        ask(SEEN, ["a", "a", "c", "d", "e", "f", "g"], 5)


def test_chance_is_the_mean_of_one_over_the_gallery():
    asked = [Question(0, [1, 2], 1), Question(0, [1, 2, 3, 4], 2)]
    assert chance(asked) == pytest.approx(100 * (1 / 2 + 1 / 4) / 2)


def test_answers_follow_a_loop_over_cosines():
    noise = np.random.default_rng(3)
    queries, gallery = noise.normal(size=(2, 7, 5))
    asked = ask(SEEN, TRACKS, 5) + ask(SEEN, TRACKS, 10)
    expected = []
    for question in asked:
        best = max(question.gallery, key=lambda n: sum(gallery[n] * queries[question.query]))
        expected.append(float(best == question.right))
    assert answers(asked, queries, gallery).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_equal_scores_count_as_a_draw():
    same = np.ones((7, 3))
    asked = [Question(0, [1, 2], 1), Question(0, [1, 2, 3, 4], 2)]
    assert answers(asked, same, same).tolist() == [0.5, 0.25]


def test_rate_is_the_mean_and_its_interval_is_over_persons():
    """One person with ten right answers, one with ten wrong ones: a drawing has 0, 1 or 2 of it."""
    right = np.array([1.0] * 10 + [0.0] * 10)
    found = rate(right, ["a"] * 10 + ["b"] * 10)
    assert (found.rank1, found.low, found.high) == (50, 0, 100)
    assert set(found.drawn) == {0, 50, 100}
    assert np.mean(found.drawn == 50) == pytest.approx(0.5, abs=0.05)
    nine = rate(right, list(range(20)))  # twenty persons: a binomial of 20
    assert nine.low == pytest.approx(30, abs=6) and nine.high == pytest.approx(70, abs=6)


def test_the_interval_holds_95_percent_of_the_same_drawings_each_time():
    """Of 2000 drawings in their order, 50 are below it and 50 above it."""
    right = np.linspace(0, 1, 20)
    found = rate(right, list(range(20)))
    drawn = sorted(found.drawn)
    assert len(drawn) == 2000
    assert drawn[49] <= found.low <= drawn[50] < drawn[1949] <= found.high <= drawn[1950]
    over = difference(found, rate(1 - right, list(range(20))))
    drawn = sorted(over.drawn)
    assert drawn[49] <= over.low <= drawn[50] < drawn[1949] <= over.high <= drawn[1950]
    assert (rate(right, list("abcdefghijklmnopqrst")).drawn == found.drawn).all()


def test_persons_with_more_questions_count_more():
    right = np.array([1.0, 1.0, 1.0, 0.0])
    found = rate(right, ["a", "a", "a", "b"])
    assert found.rank1 == 75 and set(found.drawn) == {0, 75, 100}


def test_a_difference_is_taken_drawing_by_drawing():
    persons = list(range(10))
    one, other = rate(np.ones(10), persons), rate(np.array([0.0] + [1.0] * 9), persons)
    over = difference(one, other)
    assert over.rank1 == pytest.approx(10) and over.low == 0  # person 0 may not be drawn
    assert difference(one, one).high == 0
    assert np.allclose(over.drawn, one.drawn - other.drawn)
