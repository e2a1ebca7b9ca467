"""Choose from the tracks of a video which persons are cut out at which moments.

H, W height and width of a frame in pixels; a box is (left, top, width, height).
"""

import logging
from dataclasses import dataclass
from typing import Dict, List, NamedTuple, Tuple

import numpy as np
from tqdm import tqdm

from ..errors import UserError
from .boxes import areas, common_areas, touches_border
from .foreground import check_length, find_moving
from .frames import Frames
from .tracking import Track, Tracker

logger = logging.getLogger(__name__)

_PATIENCE_SECONDS = 0.4
_LEAST_SECONDS = 1.0  # shorter tracks are left out
_LEAST_WAY = 0.3  # of its height: what moves less, such as a branch, is no walking person
_ASPECT = (1.4, 5.0)  # height / width of one upright person
_HIDDEN = 0.1  # part of a box that another box may cover
_MOST_WHOLE = 0.5  # part of the frames that may have changed everywhere


class Sighting(NamedTuple):
    """One person at one moment: one crop."""

    track: int
    frame: int  # number of the frame, from 0
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Found:
    """What was found in a video."""

    sightings: List[Sighting]  # ordered by frame and track
    num_frames: int
    num_whole: int  # frames in which almost everything had changed, which are left out
    num_moving: int  # things that moved for a second or longer
    num_groups: int  # of them, persons who walk together


def find_sightings(frames: Frames, every: int, min_height: float, progress: bool = False) -> Found:
    """Find the persons of a video, and where they are at every ``every``-th frame.

    A person is left out at moments at which the box touches the border of the frame, is not
    upright, is smaller than ``min_height`` or overlaps another one.

    Args:
        frames: the video.
        every: frames from one moment to the next.
        min_height: height in pixels of the smallest person.
        progress: show a progress bar on a terminal.

    Raises:
        UserError: the video is too short, or the camera moves.
    """
    tracker = Tracker(patience=max(1, round(_PATIENCE_SECONDS * frames.fps)))
    boxes_at: Dict[int, np.ndarray] = {}
    number, num_whole = -1, 0
    hidden = None if progress else True
    for seen in tqdm(find_moving(frames, min_height), unit="frame", disable=hidden):
        number = seen.number
        num_whole += seen.whole
        tracker.step(number, seen.boxes)
        if number % every == 0:
            boxes_at[number] = seen.boxes
    num_frames = number + 1
    check_length(num_frames, frames)
    _check_fixed(num_whole, num_frames, frames)
    moving = [track for track in tracker.finish() if _is_walking(track, frames.fps)]
    groups = [track for track in moving if track.is_group]
    sightings = [
        sighting
        for track in moving
        if not track.is_group
        for sighting in _clean(track, boxes_at, frames.size, min_height)
    ]
    sightings.sort(key=lambda one: (one.frame, one.track))
    return Found(sightings, num_frames, num_whole, len(moving), len(groups))


def _check_fixed(num_whole: int, num_frames: int, frames: Frames) -> None:
    if num_whole > _MOST_WHOLE * num_frames:
        raise UserError(
            f"{frames.path}: in {num_whole} of {num_frames} frames more than half of the picture "
            "differs from the background. The camera must not move, and the light not flicker."
        )
    if num_whole:
        logger.warning(
            "%s: in %d of %d frames more than half of the picture had changed; they are left out.",
            *(frames.path, num_whole, num_frames),
        )


def _is_walking(track: Track, fps: float) -> bool:
    """Return whether a track is long enough in time and space to be a person's."""
    heights = np.array(track.boxes)[:, 3]
    lasting = track.frames[-1] - track.frames[0] + 1 >= _LEAST_SECONDS * fps
    return bool(lasting and track.distance() >= _LEAST_WAY * np.median(heights))


def _clean(
    track: Track, boxes_at: Dict[int, np.ndarray], size: Tuple[int, int], min_height: float
) -> List[Sighting]:
    """Return the moments at which one whole person is seen."""
    found = []
    for frame, box in zip(track.frames, track.boxes):
        if frame in boxes_at and _is_clean(box, boxes_at[frame], size, min_height):
            begin = np.floor(box[:2]).astype(int)
            end = np.ceil(box[:2] + box[2:]).astype(int)
            found.append(Sighting(track.number, frame, *begin.tolist(), *(end - begin).tolist()))
    return found


def _is_clean(
    box: np.ndarray, others: np.ndarray, size: Tuple[int, int], min_height: float
) -> bool:
    upright = _ASPECT[0] <= box[3] / box[2] <= _ASPECT[1] and box[3] >= min_height
    if not upright or touches_border(box[None], *size)[0]:
        return False
    others = others[(others != box).any(axis=1)]
    return bool((common_areas(box[None], others) <= _HIDDEN * areas(box[None])[0]).all())
