"""Woven and printed patterns, which are fixed to the cloth of a trunk (`Tube`) or of a limb."""

from __future__ import annotations

from math import pi
from typing import Sequence

import numpy as np

from .identity import Pattern
from .shapes import Sketch, Tube, capsule, segment

FRONT, BACK = pi / 2, 3 * pi / 2
TOP = 0.95  # the pattern ends below the collar
STRIPE_SHARE, CHECK_SHARE = 0.5, 0.32  # painted part of a period


class Paint:
    """What a pattern is painted with: a sketch, a layer, a material and a depth."""

    def __init__(
        self, sketch: Sketch, layer: float, material: int, depth: float, raised: float = 0.0
    ) -> None:
        self._sketch, self._layer, self._material = sketch, layer, material
        self._surface = {"depth": depth, "raised": raised}

    def add(self, outline: np.ndarray) -> None:
        """Paint a polygon (n, 3) of the view frame."""
        self._sketch.add(self._layer, outline, self._material, **self._surface)


def add_strip(paint: Paint, tube: Tube, v0: float, v1: float, center: float, half: float) -> None:
    """Paint a strip fixed to the body between two heights, where it can be seen.

    Args:
        v0, v1: the heights on ``tube``, in 0-1.
        center: angle on the body, as in `Tube.visible_range`.
        half: half the width of the strip, in radians.
    """
    t0, t1 = tube.visible_range(center, half)
    if t1 - t0 > 0.02:
        paint.add(tube.band(v0, v1, t0, t1))


def paint_tube(paint: Paint, tube: Tube, pattern: Pattern, length: float) -> None:
    """Paint ``pattern`` around a trunk ``length`` times as long as a torso."""
    kind = pattern.kind
    rows = max(2, round(pattern.count * length))
    around = 2 * (pattern.count // 2) + 4
    if kind in ("hstripes", "check"):
        share = STRIPE_SHARE if kind == "hstripes" else CHECK_SHARE
        for i in range(rows):
            low = (i + 0.25) / rows * TOP
            paint.add(tube.band(low, low + share * TOP / rows))
    if kind in ("vstripes", "check"):
        share = STRIPE_SHARE if kind == "vstripes" else CHECK_SHARE
        for i in range(around):
            add_strip(paint, tube, 0.0, TOP, 2 * pi * i / around, pi / around * share)
    elif kind == "diagonal":
        _diagonals(paint, tube, around, 1.0 if pattern.offset > 0.5 else -1.0)
    elif kind == "dots":
        for row in range(rows):
            for i in range(around):
                center = 2 * pi * (i + 0.5 * (row % 2)) / around
                low = (row + 0.25) / rows * TOP
                add_strip(paint, tube, low, low + 0.5 * TOP / rows, center, pi / around * 0.55)
    elif kind == "block":
        paint.add(tube.band(0.0, pattern.offset))
    elif kind == "yoke":
        paint.add(tube.band(0.70, 1.0))
    elif kind == "logo":
        for side in (FRONT, BACK):
            top = pattern.offset + 0.06 + 0.03 * pattern.count
            add_strip(paint, tube, pattern.offset, top, side, 0.25 + 0.09 * pattern.count)


def _diagonals(paint: Paint, tube: Tube, around: int, sense: float) -> None:
    """Paint stripes that climb around the trunk, to one side (``sense`` +1) or the other (-1)."""
    levels = np.linspace(0.0, TOP, 6)
    half = pi / around * STRIPE_SHARE
    for i in range(around):
        for low, high in zip(levels[:-1], levels[1:]):
            start = 2 * pi * i / around + sense * 2.4 * low
            t0, t1 = tube.visible_range(start, half)
            u0, u1 = tube.visible_range(start + sense * 2.4 * (high - low), half)
            if t1 - t0 > 0.02 and u1 - u0 > 0.02 and abs(u0 - t0) < 1.5:
                bottom, top = tube.arc(low, t0, t1, 1), tube.arc(high, u0, u1, 1)
                paint.add(np.concatenate([bottom, top[::-1]]))


def paint_limb(
    paint: Paint,
    start: np.ndarray,
    end: np.ndarray,
    radii: Sequence[float],
    pattern: Pattern,
    rows: int,
) -> None:
    """Paint ``pattern`` on a sleeve or trouser leg.

    Args:
        start, end: the ends of the limb (3,).
        radii: radii of the cloth at both ends, in meters.
        rows: periods of the pattern along the limb.
    """
    kind = pattern.kind

    def at(part: float) -> np.ndarray:
        return start + (end - start) * part

    def radius(part: float) -> float:
        return radii[0] + (radii[1] - radii[0]) * part

    if kind in ("hstripes", "check"):
        share = STRIPE_SHARE if kind == "hstripes" else CHECK_SHARE
        for i in range(rows):
            low, high = (i + 0.25) / rows, (i + 0.25 + share) / rows
            paint.add(segment(at(low), at(high), radius(low), radius(high)))
    across = segment(start, end, 1.0, 1.0)[0] - start
    if kind in ("vstripes", "check"):
        for shift in (-0.55, 0.0, 0.55) if kind == "vstripes" else (-0.4, 0.4):
            first, last = at(0.0) + across * radii[0] * shift, at(1.0) + across * radii[1] * shift
            paint.add(segment(first, last, radii[0] * 0.15, radii[1] * 0.15))
    elif kind == "dots":
        for i in range(rows):
            for shift in (-0.45, 0.45) if i % 2 else (0.0,):
                part = (i + 0.5) / rows
                center = at(part) + across * radius(part) * shift
                size = radius(part) * 0.27
                paint.add(capsule(center, center + 1e-4, size, size, steps=3))
    elif kind == "diagonal":
        lean = 0.35 if pattern.offset > 0.5 else -0.35
        for i in range(rows):
            low, high = (i + 0.25) / rows, (i + 0.65) / rows
            band = segment(at(low), at(high), radius(low), radius(high))
            tilt = (end - start) / rows * lean
            band[:2] += tilt
            band[2:] -= tilt
            paint.add(band)
