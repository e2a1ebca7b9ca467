"""Boxes joined into tracks. Oracles: worked by hand; what must hold for any boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.video.boxes import common_areas, overlaps, touches_border
from vireid_plugins.video.tracking import Tracker


def followed(frames, patience=3):
    """Return the tracks of lists of boxes, one list for each frame."""
    tracker = Tracker(patience)
    for number, boxes in enumerate(frames):
        tracker.step(number, np.array(boxes, float).reshape(-1, 4))
    return tracker.finish()


def test_overlaps_worked_by_hand():
    one = np.array([[0.0, 0, 10, 10], [20, 0, 10, 10]])
    other = np.array([[5.0, 5, 10, 10], [0, 0, 10, 10]])
    assert common_areas(one, other).tolist() == [[25, 100], [0, 0]]
    assert overlaps(one, other) == pytest.approx(np.array([[25 / 175, 1], [0, 0]]))


def test_borders_worked_by_hand():
    boxes = np.array([[1.0, 50, 10, 20], [50, 50, 10, 20], [50, 50, 10, 49], [88, 50, 11, 20]])
    assert touches_border(boxes, height=100, width=100).tolist() == [True, False, True, True]


def test_a_missed_frame_is_bridged_and_a_long_gap_is_not():
    boxes = [[[10 + 3 * number, 10, 10, 30]] for number in range(20)]  # 9 pixels in the gap of 3
    gap = [*boxes[:8], [], [], *boxes[10:]]
    (track,) = followed(gap)
    assert track.frames == [*range(8), *range(10, 20)]
    longer = [*boxes[:8], [], [], [], *boxes[11:]]
    assert [one.frames[0] for one in followed(longer)] == [0, 11]


def test_a_track_goes_on_where_its_speed_leads():
    """Two persons pass each other above one another; each keeps its row."""
    right = [[10 + 4 * number, 10, 10, 30] for number in range(20)]
    left = [[90 - 4 * number, 50, 10, 30] for number in range(20)]
    tracks = followed([list(pair) for pair in zip(right, left)])
    assert [{box[1] for box in track.boxes} for track in tracks] == [{10.0}, {50.0}]


def test_persons_who_meet_end_both_tracks_and_their_box_is_a_group():
    apart = [[[10 + n, 10, 10, 30], [40 - n, 10, 10, 30]] for n in range(8)]
    together = [[[15, 10, 30, 30]] for _ in range(6)]
    tracks = followed(apart + together + apart[::-1])
    assert [(track.frames[0], track.is_group) for track in tracks] == [
        (0, False),
        (0, False),
        (8, True),
        (14, False),
        (14, False),
    ]


def test_nobody_walks_on_through_a_meeting():
    """Two persons of one size pass through each other: at frame 10 they are one box as large."""
    frames = []
    for number in range(21):
        one, other = sorted([10 + 2 * number, 50 - 2 * number])
        apart = [[one, 10, 10, 30], [other, 10, 10, 30]]
        frames.append(apart if other > one + 10 else [[one, 10, other + 10 - one, 30]])
    for track in followed(frames):
        assert not (track.frames[0] < 8 and track.frames[-1] > 12)
        assert track.is_group == (8 <= track.frames[0] <= 12)


def test_a_person_whose_height_jumps_begins_a_new_track():
    boxes = [[[10, 10, 10, 30]]] * 6 + [[[10, 10, 10, 15]]] * 6  # the legs are hidden
    assert [track.frames[0] for track in followed(boxes)] == [0, 6]


BOX = st.tuples(st.integers(0, 90), st.integers(0, 90), st.integers(1, 60), st.integers(1, 60)).map(
    list
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(BOX, max_size=4), max_size=12), st.integers(1, 3))
def test_each_box_is_in_one_track_once(frames, patience):
    tracks = followed(frames, patience)
    held = sorted(
        (frame, *box.astype(int).tolist())
        for track in tracks
        for frame, box in zip(track.frames, track.boxes)
    )
    assert held == sorted((number, *box) for number, boxes in enumerate(frames) for box in boxes)
    for track in tracks:
        steps = np.diff(track.frames)
        assert (steps > 0).all() and (steps <= patience).all()
    assert [track.number for track in tracks] == list(range(1, len(tracks) + 1))
