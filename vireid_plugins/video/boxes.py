"""Rectangles as rows of NumPy arrays.

N, M boxes; a box is (left, top, width, height) in pixels from the top left corner of the frame.
"""

import numpy as np


def areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (N,) of boxes (N, 4)."""
    return boxes[:, 2] * boxes[:, 3]


def common_areas(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the area that each box of ``one`` (N, 4) shares with each of ``other``, (N, M)."""
    begin = np.maximum(one[:, None, :2], other[None, :, :2])
    ends = one[:, :2] + one[:, 2:], other[:, :2] + other[:, 2:]
    end = np.minimum(ends[0][:, None], ends[1][None])
    return np.clip(end - begin, 0, None).prod(axis=2)


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the intersection over union (N, M) of boxes (N, 4) and (M, 4)."""
    common = common_areas(one, other)
    union = areas(one)[:, None] + areas(other)[None] - common
    return common / np.maximum(union, 1e-9)


def touches_border(boxes: np.ndarray, height: int, width: int, margin: float = 2) -> np.ndarray:
    """Return which boxes (N, 4) reach the border of a frame of ``height`` x ``width``, (N,)."""
    begin, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    return (begin < margin).any(1) | (end > np.array([width, height]) - margin).any(1)
