"""Persons of drawn videos. Oracle: the places at which the walkers were drawn."""

from pathlib import Path

import numpy as np
import pytest

from vireid_plugins.errors import UserError
from vireid_plugins.video.frames import Frames
from vireid_plugins.video.sightings import _is_clean, find_sightings

from .drawn import BLUE, FPS, GREEN, HEIGHT, RED, TALL, WIDE, WIDTH, Walker, frames, walker_at


class Drawn(Frames):
    """Frames in memory."""

    def __init__(self, pictures, fps=FPS):
        self.path, self.fps, self.size = Path("drawn.avi"), fps, pictures[0].shape[:2]
        self.pictures = pictures

    def __iter__(self):
        return iter(self.pictures)


def found_in(walkers, every=2, number=60, **options):
    """Return what is found in a video of these walkers."""
    return find_sightings(Drawn(frames(walkers, number, **options)), every, min_height=20)


def walkers_of_tracks(walkers, sightings):
    """Return {track: set of the walkers it shows}, by their middles."""
    shown = {}
    for one in sightings:
        shown.setdefault(one.track, set()).update(walker_at(walkers, one.frame, one[2:]))
    return shown


@pytest.fixture(scope="module")
def three():
    """Return what is found of two persons who meet and of one who walks alone."""
    return found_in([RED, BLUE, GREEN])


def test_a_person_who_meets_nobody_is_one_track(three):
    shown = walkers_of_tracks([RED, BLUE, GREEN], three.sightings)
    assert [people for people in shown.values() if 0 in people] == [{0}]
    red = [one for one in three.sightings if shown[one.track] == {0}]
    assert len(red) >= 0.9 * 60 / 2


def test_boxes_are_where_the_persons_were_drawn(three):
    walkers = [RED, BLUE, GREEN]
    for one in three.sightings:
        (number,) = walker_at(walkers, one.frame, one[2:])
        assert np.abs(np.array(one[2:]) - walkers[number].box(one.frame)).max() <= 4


def test_no_track_holds_two_persons(three):
    """GREEN at 20 + 1.5 t and BLUE at 180 - 2 t touch from t = 42 to t = 50."""
    shown = walkers_of_tracks([RED, BLUE, GREEN], three.sightings)
    assert all(len(people) == 1 for people in shown.values())
    assert {next(iter(people)) for people in shown.values()} == {0, 1, 2}
    together = [one.frame for one in three.sightings if shown[one.track] != {0}]
    assert not set(together) & set(range(42, 51))
    assert max(together) < 42  # 1 s is left after they part, in which each would be a new track


def test_persons_who_part_after_walking_side_by_side_were_a_group():
    left = Walker((40, 40, 220), (60.0, 60.0), (1.0, -0.0))
    right = Walker((220, 60, 30), (72.0, 60.0), (1.0, 0.0))  # two pixels of it are hidden
    part = [left, Walker(right.color, (72.0 - 20 * 1.5, 60.0), (2.5, 0.0))]
    pictures = np.concatenate([frames([left, right], 20), frames(part, 60)[20:]])
    found = find_sightings(Drawn(pictures), 2, 20)
    assert found.num_groups >= 1
    assert all(
        len(walker_at(part if one.frame >= 20 else [left, right], one.frame, one[2:])) == 1
        for one in found.sightings
    )


def test_a_person_at_the_border_is_cut_out_only_when_whole():
    entering = Walker((40, 40, 220), (-20.0, 50.0), (2.0, 0.0))
    found = found_in([entering])
    assert found.sightings and min(one.frame for one in found.sightings) >= 11  # left >= 2


def test_things_that_are_wider_than_tall_and_who_stands_still_are_no_persons():
    standing = Walker((40, 40, 220), (30.0, 50.0), (0.0, 0.0))

    class Car(Walker):
        def box(self, frame):
            left, top, width, height = super().box(frame)
            return left, top, 3 * width, height

    found = found_in([standing, Car((220, 60, 30), (20.0, 100.0), (2.0, 0.0))])
    assert found.sightings == []
    assert found.num_moving >= 1  # the car


@pytest.mark.parametrize(
    ("box", "clean"),
    [
        ([50, 50, 20, 50], True),
        ([50, 50, 20, 27], False),  # wider than an upright person
        ([50, 50, 8, 50], False),  # narrower
        ([50, 50, 10, 19], False),  # smaller than 20 pixels
        ([1, 50, 20, 50], False),  # at the border
        ([69, 50, 20, 50], True),  # the other one, at 87, covers a tenth of it
        ([70, 50, 20, 50], False),
    ],
)
def test_which_boxes_are_cut_out(box, clean):
    box, other = np.array(box, float), np.array([87.0, 50, 20, 50])
    assert _is_clean(box, np.array([box, other]), (150, 240), 20) == clean


def test_a_small_person_needs_a_smaller_least_height():
    small = Walker((40, 40, 220), (20.0, 60.0), (2.0, 0.0), tall=16)
    pictures = Drawn(frames([small]))
    assert find_sightings(pictures, 2, 25).sightings == []
    assert len(find_sightings(pictures, 2, 12).sightings) >= 25


@pytest.mark.slow
def test_large_frames_are_reduced_and_boxes_are_in_pixels_of_the_video():
    pictures = np.repeat(np.repeat(frames([RED], 24), 5, axis=1), 5, axis=2)  # 750 pixels high
    found = find_sightings(Drawn(pictures), 4, 100)
    for one in found.sightings:
        assert np.abs(np.array(one[2:]) - 5 * np.array(RED.box(one.frame))).max() <= 15
    assert len(found.sightings) >= 5


def test_a_background_changes_from_part_to_part(monkeypatch):
    """The light changes for good in the middle; with one background, half of it is movement."""
    from vireid_plugins.video import foreground

    dark = np.clip(frames([RED], 60).astype(int) - 50, 0, 255).astype(np.uint8)
    late = [Walker(RED.color, (20.0 - 2 * 60, 10.0), RED.speed)]
    pictures = np.concatenate([dark, frames(late, 120)[60:]])
    monkeypatch.setattr(foreground, "_CHUNK_SECONDS", 6.0)
    found = find_sightings(Drawn(pictures), 2, 20)
    shown = walkers_of_tracks([RED], [one for one in found.sightings if one.frame < 60])
    assert found.num_whole == 0
    assert {tuple(people) for people in shown.values()} == {(0,)}
    assert len([one for one in found.sightings if one.frame >= 60]) >= 25


def test_a_moving_camera_is_named():
    """The camera pans over a large ground, 3 pixels in a frame."""
    ground = np.concatenate([frames([], 1, seed=seed)[0] for seed in range(3)], axis=1)
    ground = np.clip(ground.astype(int) * 4 - 390, 0, 255).astype(np.uint8)  # more contrast
    pan = np.array([ground[:, 3 * number : 3 * number + WIDTH] for number in range(60)])
    with pytest.raises(UserError, match="from second 0 on, more than half .* must not move"):
        find_sightings(Drawn(pan), 2, 20)


def test_flickering_light_is_named():
    pictures = frames([RED], 60)
    pictures[::2] = 255 - pictures[::2] // 2
    pictures[1::4] = pictures[1::4] // 4
    with pytest.raises(UserError, match="more than half of the picture"):
        find_sightings(Drawn(pictures), 2, 20)


def test_a_short_flash_is_left_out_and_counted(caplog):
    pictures = frames([RED], 60)
    pictures[30] = 255
    found = find_sightings(Drawn(pictures), 2, 20)
    assert found.num_whole == 1 and "in 1 of 60 frames" in caplog.text
    assert len({one.track for one in found.sightings}) == 1  # the track goes on


def test_a_video_of_few_frames_is_named():
    with pytest.raises(UserError, match="has 19 frames; a background needs 20"):
        find_sightings(Drawn(frames([RED], 19)), 2, 20)


def test_the_drawing_is_as_tall_as_it_says():
    empty, one = frames([], 1, noise=0)[0], frames([RED], 1, noise=0)[0]
    rows, columns = np.nonzero((empty != one).any(axis=2))
    assert rows.max() - rows.min() + 1 == TALL and columns.max() - columns.min() + 1 == WIDE
    assert one.shape == (HEIGHT, WIDTH, 3)
