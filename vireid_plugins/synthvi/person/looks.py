"""Draw the shades of surfaces in each band, independently of their shape and of other bands.

A table (16, 3) holds intensities in 0-1: a row for each `Material`, columns blue, green, red, which
are equal outside the visible band.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Callable, Dict, TypeVar

import numpy as np

from ..place.domains import Domain
from ..seeding import Stream, generator

Shade = TypeVar("Shade", float, np.ndarray)


class Material(IntEnum):
    """Index of a surface in the color table of an image; 0 is the background."""

    BACKGROUND = 0
    SKIN = 1
    HAIR = 2
    UPPER = 3
    UPPER_PATTERN = 4
    INNER = 5
    LOWER = 6
    LOWER_PATTERN = 7
    SHOES = 8
    BAG = 9
    BAG_DETAIL = 10
    HEADWEAR = 11
    SCARF = 12
    EYES = 13
    OCCLUDER = 14
    OCCLUDER_DETAIL = 15


DETAILS = {
    Material.UPPER_PATTERN: Material.UPPER,
    Material.LOWER_PATTERN: Material.LOWER,
    Material.BAG_DETAIL: Material.BAG,
}
GARMENTS = (
    Material.UPPER,
    Material.INNER,
    Material.LOWER,
    Material.SHOES,
    Material.BAG,
    Material.HEADWEAR,
    Material.SCARF,
)
CONTRAST = 0.42  # smallest difference of brightness between a pattern and its cloth


def make_looks(
    seed: int, domain: Domain, number: int, pattern_bands: Dict[str, str]
) -> Dict[str, np.ndarray]:
    """Return the table of identity ``number`` in every band, each from its own random stream.

    Args:
        pattern_bands: for 'upper' and 'lower', where the pattern is seen: 'both', 'visible' or
            'infrared'; in other bands it has the shade of its cloth.
    """
    key = (seed, domain.code)
    looks = {
        "visible": _visible_look(generator(*key, Stream.VISIBLE, number), domain),
        "infrared": _infrared_look(generator(*key, Stream.INFRARED, number)),
        "thermal": _thermal_look(generator(*key, Stream.THERMAL, number)),
    }
    for name, look in looks.items():
        for garment, pattern in (
            ("upper", Material.UPPER_PATTERN),
            ("lower", Material.LOWER_PATTERN),
        ):
            band = pattern_bands[garment]
            if band != "both" and (name == "visible") != (band == "visible"):
                look[pattern] = look[DETAILS[pattern]]
    return looks


def _visible_look(rng: np.random.Generator, domain: Domain) -> np.ndarray:
    look = np.zeros((16, 3), dtype=np.float32)
    look[Material.SKIN] = np.array([0.52, 0.66, 0.86]) * rng.uniform(0.4, 1.0)
    look[Material.HAIR] = _hair_color(rng)
    for material in GARMENTS:
        look[material] = _cloth_color(rng, domain)
    for detail, base in DETAILS.items():
        look[detail] = _contrasting(lambda: _cloth_color(rng, domain), look[base])
    look[Material.EYES] = 0.12
    return look


def _cloth_color(rng: np.random.Generator, domain: Domain) -> np.ndarray:
    if rng.random() < domain.neutral_share:
        gray = rng.choice((0.07, 0.16, 0.35, 0.6, 0.85))
        return np.clip(gray + rng.uniform(-0.04, 0.04, 3), 0.02, 0.95)
    hue = (rng.normal(domain.hue, 0.16) if rng.random() < 0.35 else rng.random()) % 1.0
    saturation, value = rng.uniform(0.25, 0.7), rng.uniform(0.25, 0.92)
    wheel = np.clip(np.abs((hue + np.array([1 / 3, 2 / 3, 0.0])) % 1.0 * 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - wheel))


def _hair_color(rng: np.random.Generator) -> np.ndarray:
    tones = (
        (0.05, 0.05, 0.06),
        (0.09, 0.13, 0.20),
        (0.20, 0.34, 0.50),
        (0.42, 0.60, 0.72),
        (0.55, 0.55, 0.55),
        (0.14, 0.20, 0.46),
    )
    share = (0.36, 0.26, 0.14, 0.1, 0.08, 0.06)
    return np.array(tones[int(rng.choice(len(tones), p=share))]) * rng.uniform(0.85, 1.15)


def _infrared_look(rng: np.random.Generator) -> np.ndarray:
    gray = np.zeros(16)
    gray[1:14] = rng.uniform(0.10, 0.95, 13)
    gray[Material.SKIN] = rng.uniform(0.5, 0.9)
    gray[Material.HAIR] = rng.uniform(0.12, 0.8)
    for detail, base in DETAILS.items():
        gray[detail] = _contrasting(lambda: rng.uniform(0.10, 0.95), gray[base])
    gray[Material.EYES] = 0.15
    return np.repeat(gray[:, None], 3, axis=1).astype(np.float32)


def _thermal_look(rng: np.random.Generator) -> np.ndarray:
    gray = np.zeros(16)
    gray[1:14] = rng.uniform(0.25, 0.72, 13)
    gray[Material.SKIN] = rng.uniform(0.86, 0.98)
    gray[Material.EYES] = 0.8
    for detail, base in DETAILS.items():
        gray[detail] = np.clip(gray[base] + rng.choice((-1, 1)) * rng.uniform(0.1, 0.2), 0.1, 0.95)
    return np.repeat(gray[:, None], 3, axis=1).astype(np.float32)


def _contrasting(draw: Callable[[], Shade], base: Shade) -> Shade:
    """Draw until the brightness differs from that of ``base`` by `CONTRAST`, but not forever."""
    value = draw()
    for _ in range(20):
        if abs(float(np.mean(value)) - float(np.mean(base))) >= CONTRAST:
            break
        value = draw()
    return value
