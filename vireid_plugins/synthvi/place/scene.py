"""Places: each is one wide cluttered picture, from which the backgrounds of images are cut.

The layout of a place, its visible colors and its infrared reflectances come from three streams,
so two cameras in one place see the same things in unrelated shades.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, List, Tuple

import cv2
import numpy as np

from ..seeding import Stream, generator
from .domains import DOMAINS, Domain

SCENE_HEIGHT, SCENE_WIDTH = 320, 1100
HORIZON = 0.62  # of the height: where wall or sky meets the ground
PAINT_STREAMS = {
    "visible": Stream.SCENE_VISIBLE,
    "infrared": Stream.SCENE_INFRARED,
    "thermal": Stream.SCENE_THERMAL,
}
Shape = Tuple[str, np.ndarray]


def _layout(rng: np.random.Generator, indoor: bool) -> List[Shape]:
    """Draw the shapes of a place, far to near: a kind and four numbers in pixels for each."""
    high, wide = SCENE_HEIGHT, SCENE_WIDTH
    ground = HORIZON * high
    shapes: List[Shape] = [("box", np.array([0, ground, wide, high]))]
    for _ in range(16 if indoor else 12):
        x, width = rng.uniform(-40, wide), rng.uniform(30, 140)
        top = rng.uniform(0.05, 0.5) * high if indoor else rng.uniform(-0.1, 0.45) * high
        shapes.append(("box", np.array([x, top, x + width, ground + rng.uniform(-4, 6)])))
    for _ in range(26):
        x, y = rng.uniform(0, wide), rng.uniform(0, ground)
        width, height = rng.uniform(8, 50), rng.uniform(8, 60)
        shapes.append(("box", np.array([x, y, x + width, y + height])))
    for _ in range(8 if indoor else 22):
        x, y = rng.uniform(0, wide), rng.uniform(0.1, 0.75) * high
        shapes.append(("ellipse", np.array([x, y, rng.uniform(8, 45), rng.uniform(8, 55)])))
    for _ in range(14):
        x, width = rng.uniform(0, wide), rng.uniform(2, 12)
        shapes.append(("box", np.array([x, -5, x + width, ground + 30 * rng.random()])))
    for _ in range(16):
        y = rng.uniform(ground, high)
        slope = rng.uniform(-60, 60)
        shapes.append(("line", np.array([rng.uniform(0, wide), y, wide * rng.random(), y + slope])))
    return shapes


def _paint(rng: np.random.Generator, domain: Domain, band: str) -> Callable[[], np.ndarray]:
    """Return a function that draws shades of surfaces in one band: (3,) blue, green, red in 0-1."""

    def visible() -> np.ndarray:
        gray = rng.uniform(0.15, 0.8)
        tint = rng.normal(0, 0.045, 3) + 0.05 * domain.warmth * np.array([-1.0, 0.2, 1.0])
        return np.clip(gray + tint, 0.03, 0.95)

    def single() -> np.ndarray:
        low, high = (0.08, 0.75) if band == "infrared" else (0.15, 0.45)
        return np.full(3, rng.uniform(low, high))

    return visible if band == "visible" else single


@lru_cache(maxsize=32)
def scene(seed: int, domain_name: str, number: int, band: str, indoor: bool) -> np.ndarray:
    """Return the picture (SCENE_HEIGHT, SCENE_WIDTH, 3) uint8 of a place; results are cached."""
    domain = DOMAINS[domain_name]
    rng = generator(seed, domain.code, Stream.SCENE_LAYOUT, number)
    shapes = _layout(rng, indoor)
    grain = rng.normal(size=(SCENE_HEIGHT // 4, SCENE_WIDTH // 4)).astype(np.float32)
    paint = _paint(generator(seed, domain.code, PAINT_STREAMS[band], number), domain, band)
    picture = np.empty((SCENE_HEIGHT, SCENE_WIDTH, 3), np.uint8)
    picture[:] = np.round(255 * paint())
    for kind, (a, b, c, d) in shapes:
        shade = tuple(float(value) for value in np.round(255 * paint()))
        first, second = (int(round(a)), int(round(b))), (int(round(c)), int(round(d)))
        if kind == "box":
            cv2.rectangle(picture, first, second, shade, -1)
        elif kind == "ellipse":
            cv2.ellipse(picture, first, second, 0, 0, 360, shade, -1, cv2.LINE_AA)
        else:
            cv2.line(picture, first, second, shade, 2, cv2.LINE_AA)
    fine = cv2.resize(grain, (SCENE_WIDTH, SCENE_HEIGHT), interpolation=cv2.INTER_CUBIC)
    mixed = picture.astype(np.float32) + 10.0 * fine[..., None]
    return np.clip(cv2.GaussianBlur(mixed, (0, 0), 1.6), 0, 255).astype(np.uint8)


def cut_background(
    picture: np.ndarray, height: int, width: int, rng: np.random.Generator, difficulty: float
) -> np.ndarray:
    """Cut a random upright window out of ``picture``: (height, width, 3) float32 in 0-1.

    Args:
        difficulty: scales the contrast of the window; at 0 it is one even shade.
    """
    scale = height / (SCENE_HEIGHT * rng.uniform(0.72, 0.95))
    span = width / scale
    left = rng.uniform(0, SCENE_WIDTH - span)
    top = SCENE_HEIGHT - height / scale - rng.uniform(0, 0.04) * SCENE_HEIGHT
    matrix = np.array([[scale, 0, -left * scale], [0, scale, -max(top, 0.0) * scale]])
    window = cv2.warpAffine(
        picture, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.float32)
    mean = window.mean(axis=(0, 1), keepdims=True)
    strength = min(1.0, 0.4 * difficulty)
    return (mean + (window - mean) * strength) / np.float32(255.0)
