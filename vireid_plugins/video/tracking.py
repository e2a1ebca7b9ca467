"""Join the boxes of moving things, frame by frame, into tracks of one person each.

Two short tracks are better than one that passes to another person: so a track ends where
its person meets another one, is partly hidden, or is lost, and a new track begins afterwards.

N boxes, T tracks; a box is (left, top, width, height) in pixels.
"""

from dataclasses import dataclass, field
from typing import List

import numpy as np
from scipy.optimize import linear_sum_assignment

from .boxes import common_areas, overlaps

_LEAST_OVERLAP = 0.2  # intersection over union of where a track is expected and where it goes on
_COVERED = 0.4  # part of a track's box inside another box from which on the two are one thing
_SAME_HEIGHT, _SAME_WIDTH = 1.3, 1.9  # largest change from the usual size; a gait changes the width
_SMOOTHED = 0.8  # weight of the past in the usual size and in the speed
_PART = 0.3  # a box with this part of a track's area is a part of the person, not noise
_TALL = 0.7  # parts with this part of a track's height are persons: it was a group


@dataclass
class Track:
    """Where one moving thing was.

    Attributes:
        number: different for each track of a video, from 1.
        frames: numbers of the frames in which it was seen, ascending.
        boxes: its box (4,) in each of them.
        is_group: it is known to be several persons, who walk together.
    """

    number: int
    frames: List[int] = field(default_factory=list)
    boxes: List[np.ndarray] = field(default_factory=list)
    is_group: bool = False
    _size: np.ndarray = field(default_factory=lambda: np.zeros(2))
    _speed: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels in a frame

    def add(self, frame: int, box: np.ndarray) -> None:
        """Continue the track at ``box`` (4,) in ``frame``."""
        if self.frames:
            moved = (_middle(box) - _middle(self.boxes[-1])) / (frame - self.frames[-1])
            begun = len(self.frames) > 1
            self._speed = _mixed(self._speed, moved) if begun else moved
            self._size = _mixed(self._size, box[2:])
        else:
            self._size = box[2:].astype(float)
        self.frames.append(frame)
        self.boxes.append(box)

    def expected(self, frame: int) -> np.ndarray:
        """Return the box (4,) where it will be in ``frame`` if it walks on."""
        middle = _middle(self.boxes[-1]) + self._speed * (frame - self.frames[-1])
        return np.concatenate([middle - self._size / 2, self._size])

    def fits(self, box: np.ndarray) -> bool:
        """Return whether ``box`` (4,) is about as large as the boxes so far."""
        width, height = np.maximum(box[2:] / self._size, self._size / box[2:])
        return bool(height <= _SAME_HEIGHT and width <= _SAME_WIDTH)

    def distance(self) -> float:
        """Return the largest distance from its first place, in pixels."""
        middles = np.array([_middle(box) for box in self.boxes])
        return float(np.linalg.norm(middles - middles[0], axis=1).max())


def _middle(box: np.ndarray) -> np.ndarray:
    return box[:2] + box[2:] / 2


def _mixed(past: np.ndarray, now: np.ndarray) -> np.ndarray:
    return _SMOOTHED * past + (1 - _SMOOTHED) * now


class Tracker:
    """Follow all moving things of a video.

    Args:
        patience: largest number of frames from one box of a track to its next one.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.ended: List[Track] = []
        self._open: List[Track] = []
        self._count = 0

    def step(self, frame: int, boxes: np.ndarray) -> None:
        """Continue the tracks with the boxes (N, 4) of ``frame``; frames come in ascending order.

        Each track goes on with one box at most. The pairs are those with the largest sum of
        overlaps.
        """
        self._end([track for track in self._open if frame - track.frames[-1] > self.patience])
        expected = np.array([track.expected(frame) for track in self._open]).reshape(-1, 4)
        meetings = self._part_of_others(expected, boxes)
        expected = np.array([track.expected(frame) for track in self._open]).reshape(-1, 4)
        gain = overlaps(expected, boxes)
        gain[gain < _LEAST_OVERLAP] = 0
        rows, columns = linear_sum_assignment(gain, maximize=True)
        pairs = {c: self._open[r] for r, c in zip(rows, columns) if gain[r, c] > 0}
        for number, box in enumerate(boxes):
            if number in pairs:
                self._continue(pairs[number], frame, box)
            else:
                self._begin(frame, box, is_group=number in meetings)

    def finish(self) -> List[Track]:
        """End all tracks and return them, by their numbers."""
        self._end(list(self._open))
        return sorted(self.ended, key=lambda track: track.number)

    def _part_of_others(self, expected: np.ndarray, boxes: np.ndarray) -> List[int]:
        """End the tracks that meet or fall apart; return the boxes in which tracks have met."""
        common = common_areas(expected, boxes)
        sizes = expected[:, 2:].prod(axis=1)[:, None]
        inside = common > _COVERED * sizes  # (T, N): the track is inside the box
        met = [number for number in range(len(boxes)) if inside[:, number].sum() > 1]
        parts = (common > 0.5 * boxes[:, 2:].prod(axis=1)) & (
            boxes[:, 2:].prod(axis=1) > _PART * sizes
        )
        ended = []
        for row, track in enumerate(self._open):
            tall = parts[row] & (boxes[:, 3] > _TALL * expected[row, 3])
            track.is_group |= bool(tall.sum() > 1)
            if inside[row, met].any() or parts[row].sum() > 1:
                ended.append(track)
        self._end(ended)
        return met

    def _begin(self, frame: int, box: np.ndarray, is_group: bool) -> None:
        self._count += 1
        track = Track(self._count, is_group=is_group)
        track.add(frame, box)
        self._open.append(track)

    def _continue(self, track: Track, frame: int, box: np.ndarray) -> None:
        if track.fits(box):
            track.add(frame, box)
        else:
            self._end([track])
            self._begin(frame, box, track.is_group)

    def _end(self, tracks: List[Track]) -> None:
        for track in tracks:
            self._open.remove(track)
        self.ended += tracks
