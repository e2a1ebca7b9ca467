"""Find what moves in front of a fixed camera, by background subtraction.

OpenCV 5 has no detector of persons in its main modules (``HOGDescriptor`` of OpenCV 4 is gone), so
things that move and are taller than wide are taken for persons.

S samples; H, W height and width in pixels; a box is (left, top, width, height).
"""

import logging
from itertools import islice
from typing import Iterator, List, NamedTuple, Optional

import cv2
import numpy as np

from ..errors import UserError
from .frames import Frames

logger = logging.getLogger(__name__)

_WORK_HEIGHT = 576  # larger frames are reduced to this height to find what moves
_CHUNK_SECONDS = 100.0  # each part of the video has a background of its own
_SAMPLES = 60  # at least this many frames of each part give its background
LEAST_FRAMES = 20
_NOISE = 6.0  # so many median absolute deviations of a pixel are no movement
_LEAST_CHANGE, _MOST_CHANGE = 25, 120  # gray levels
_RESTLESS = 60  # gray levels that a pixel changes by all the time
_WHOLE = 0.5  # if more of a frame has changed, the light or the camera has
_CLOSING = (5, 11)  # width, height: parts of one person are joined, more so above each other


class Background:
    """What the camera sees where nobody is.

    Attributes:
        picture: (H, W, 3) uint8.
        restless: part of the pixels, 0 to 1, that never come to rest, as under a moving camera.

    Args:
        samples: (S, H, W, 3) uint8, frames from all parts of the time.
    """

    def __init__(self, samples: np.ndarray) -> None:
        self.picture = np.empty(samples.shape[1:], np.uint8)
        noise = np.empty(samples.shape[1:], np.float32)
        for row in range(samples.shape[1]):  # row by row: float copies of all samples are large
            middle = np.median(samples[:, row], axis=0)
            self.picture[row] = middle
            noise[row] = np.median(np.abs(samples[:, row] - middle), axis=0)
        change = np.clip(_NOISE * noise, _LEAST_CHANGE, _MOST_CHANGE).astype(np.uint8)
        self.restless = float((change > _RESTLESS).mean())
        self._change = np.asarray(cv2.dilate(change, np.ones((5, 5), np.uint8)))
        self._blurred = cv2.GaussianBlur(self.picture, (5, 5), 0)

    def changed(self, frame: np.ndarray) -> np.ndarray:
        """Return the mask (H, W) uint8 of what differs in ``frame`` (H, W, 3): 0 or 1."""
        difference = np.asarray(cv2.absdiff(cv2.GaussianBlur(frame, (5, 5), 0), self._blurred))
        mask = np.any(difference > self._change, axis=2).astype(np.uint8)
        without_dots = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)))
        whole = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, _CLOSING)
        return np.asarray(cv2.morphologyEx(without_dots, cv2.MORPH_CLOSE, whole))


class Seen(NamedTuple):
    """What moves in one frame."""

    number: int  # of the frame, from 0
    boxes: np.ndarray  # (N, 4) float
    whole: bool  # almost everything has changed; there are no boxes then


def find_moving(frames: Frames, min_height: float) -> Iterator[Seen]:
    """Yield what moves in each frame.

    The background is the median of frames spread over 100 seconds, so who stands still for 50 of
    them becomes a part of it.

    Args:
        frames: the video.
        min_height: height of the smallest person, in pixels of the video.

    Raises:
        UserError: the video has fewer frames than a background needs.
    """
    ahead, again = iter(frames), iter(frames)
    length = max(int(_CHUNK_SECONDS * frames.fps), _SAMPLES)
    background: Optional[Background] = None
    number = 0
    while True:
        samples = _sampled(islice(ahead, length))
        if not samples:
            return
        if background is None or len(samples) >= _SAMPLES // 2:
            background = Background(np.array(samples))
            _check_fixed(background, frames, number)
        for frame in islice(again, length):
            boxes = _boxes(background, frame, min_height)
            yield Seen(number, np.zeros((0, 4)) if boxes is None else boxes, boxes is None)
            number += 1


def _check_fixed(background: Background, frames: Frames, number: int) -> None:
    if background.restless > _WHOLE:
        raise UserError(
            f"{frames.path}: from second {number / frames.fps:.0f} on, more than half of the "
            "picture changes all the time. The camera must not move, and the light not flicker."
        )


def check_length(num_frames: int, frames: Frames) -> None:
    """Raise ``UserError`` unless a video of ``num_frames`` is long enough for a background."""
    if num_frames < LEAST_FRAMES:
        raise UserError(
            f"{frames.path} has {num_frames} frames; a background needs {LEAST_FRAMES} or more, "
            "better a minute of video."
        )


def _scale(height: int) -> float:
    return min(1.0, _WORK_HEIGHT / height)


def _reduced(frame: np.ndarray) -> np.ndarray:
    scale = _scale(frame.shape[0])
    if scale == 1.0:
        return frame
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _sampled(frames: Iterator[np.ndarray]) -> List[np.ndarray]:
    """Return frames spread evenly, reduced: 60 to 119 of them, or all if they are fewer."""
    samples: List[np.ndarray] = []
    step = 1
    for place, frame in enumerate(frames):
        if place % step == 0:
            samples.append(_reduced(frame))
        if len(samples) == 2 * _SAMPLES:
            samples, step = samples[::2], 2 * step
    return samples


def _boxes(background: Background, frame: np.ndarray, min_height: float) -> Optional[np.ndarray]:
    """Return the boxes (N, 4) of what moves in a frame; None if almost everything does."""
    scale = _scale(frame.shape[0])
    mask = background.changed(_reduced(frame))
    if mask.mean() > _WHOLE:
        return None
    found = cv2.connectedComponentsWithStats(mask)[2][1:]
    smallest = scale * min_height
    tall = found[:, cv2.CC_STAT_HEIGHT] >= 0.6 * smallest  # parts of persons too: they end a track
    large = found[:, cv2.CC_STAT_AREA] >= 0.1 * smallest**2
    return found[tall & large, :4] / scale


def least_height(frames: Frames, min_height: Optional[float]) -> float:
    """Return the height of the smallest person in pixels: as given, or 1/15 of the frame."""
    if min_height is None:
        return frames.size[0] / 15
    if not 8 <= min_height <= frames.size[0]:
        raise UserError(
            f"--min-height must be from 8 to {frames.size[0]} pixels, the height of a frame; got "
            f"{min_height:g}."
        )
    return float(min_height)
