"""Solid shapes in the view frame, and the sketch that paints them back to front.

All points are (n, 3) in the view frame, meters: x right, y up, z toward the camera.
"""

from __future__ import annotations

from math import atan2, cos, hypot, pi, sin
from typing import Callable, List, Sequence, Tuple

import cv2
import numpy as np

Ring = Tuple[np.ndarray, float, float]  # center (3,), half axes to the left and to the front
DEPTH_ZERO, DEPTH_SCALE = 150.0, 130.0  # gray level of z = 0, gray levels per meter
DEPTH_RANGE = (75, 235)
SUBPIXEL_BITS = 4


def capsule(
    start: np.ndarray, end: np.ndarray, start_radius: float, end_radius: float, steps: int = 4
) -> np.ndarray:
    """Return the outline (2 * steps + 2, 3) of a limb with round ends."""
    heading = atan2(end[1] - start[1], end[0] - start[0])
    outline = []
    for center, radius, first in ((end, end_radius, -pi / 2), (start, start_radius, pi / 2)):
        for i in range(steps + 1):
            angle = heading + first + pi * i / steps
            outline.append(
                (center[0] + radius * cos(angle), center[1] + radius * sin(angle), center[2])
            )
    return np.array(outline)


def segment(
    start: np.ndarray, end: np.ndarray, start_radius: float, end_radius: float
) -> np.ndarray:
    """Return the outline (4, 3) of a limb with flat ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(hypot(dx, dy), 1e-6)
    across = np.array([-dy / length, dx / length, 0.0])
    return np.stack(
        [
            start + across * start_radius,
            end + across * end_radius,
            end - across * end_radius,
            start - across * start_radius,
        ]
    )


class Tube:
    """A trunk of elliptic rings: torso, skirt, coat, bag.

    Args:
        centers: (n, 3) centers of the rings, bottom to top.
        left_radii: (n,) half axes along ``left``.
        front_radii: (n,) half axes along ``front``.
        left: (3,) unit vector to the person's left.
        front: (3,) unit vector to the person's front.

    A height on the tube is ``v`` in 0 (bottom ring) .. 1 (top ring); an angle ``t`` on the visible
    half runs from -pi/2 (left edge in the image) to pi/2 (right edge).
    """

    def __init__(
        self,
        centers: Sequence[np.ndarray],
        left_radii: Sequence[float],
        front_radii: Sequence[float],
        left: np.ndarray,
        front: np.ndarray,
    ) -> None:
        self.centers = np.asarray(centers, dtype=float)
        a = np.asarray(left_radii, dtype=float)[:, None]
        b = np.asarray(front_radii, dtype=float)[:, None]
        theta = np.arctan2(b * front[0], a * left[0])
        self.edge = a * np.cos(theta) * left + b * np.sin(theta) * front
        face = -a * np.sin(theta) * left + b * np.cos(theta) * front
        self.flip = np.where(face[:, 2:] < 0, -1.0, 1.0)
        self.face = face * self.flip
        self.rings = np.stack([self.centers, self.edge, self.face], axis=1)
        self.theta = theta
        self.levels = np.linspace(0.0, 1.0, len(self.centers))

    @classmethod
    def of_rings(cls, rings: Sequence[Ring], left: np.ndarray, front: np.ndarray) -> Tube:
        """Return the tube of these rings, bottom to top."""
        centers, left_radii, front_radii = zip(*rings)
        return cls(centers, left_radii, front_radii, left, front)

    def _at(self, rings: np.ndarray, v: float) -> np.ndarray:
        """Return the vectors to center, edge and face (3, 3) at height ``v``, between two rings."""
        position = min(max(v, 0.0), 1.0) * (len(rings) - 1)
        low = min(int(position), len(rings) - 2)
        return rings[low] + (rings[low + 1] - rings[low]) * (position - low)

    def arc(self, v: float, t0: float = -pi / 2, t1: float = pi / 2, steps: int = 6) -> np.ndarray:
        """Return points (steps + 1, 3) of the visible half at height ``v``."""
        t = t0 + (t1 - t0) / steps * np.arange(steps + 1)[:, None]
        center, edge, face = self._at(self.rings, v)
        return center + edge * np.sin(t) + face * np.cos(t)

    def outline(self) -> np.ndarray:
        """Return the silhouette of the tube, closed by the visible arcs at both ends."""
        right, left = self.centers + self.edge, self.centers - self.edge
        bottom, top = self.arc(0.0), self.arc(1.0)
        return np.concatenate([bottom, right[1:-1], top[::-1], left[-2:0:-1]])

    def band(self, v0: float, v1: float, t0: float = -pi / 2, t1: float = pi / 2) -> np.ndarray:
        """Return a patch of the visible half, between two heights and two angles."""
        steps = 6 if t1 - t0 > 1.0 else 2
        middle = []
        if v1 - v0 > 0.25:  # follow the rings between, so that long patches keep to the surface
            middle = [v for v in self.levels if v0 + 0.02 < v < v1 - 0.02]
        rows = [self.arc(v, t0, t1, steps) for v in (v0, *middle, v1)]
        right = [row[-1:] for row in rows[1:-1]]
        left = [row[:1] for row in rows[-2:0:-1]]
        return np.concatenate([rows[0], *right, rows[-1][::-1], *left])

    def visible_range(self, center: float, half: float) -> Tuple[float, float]:
        """Return the angles at which a strip on the body is visible: t0 >= t1 if it is hidden.

        Args:
            center: angle of the strip's center: 0 is the person's left, pi/2 the front, pi the
                right, 3 pi/2 the back.
            half: half the width of the strip, in radians.
        """
        delta = center - float(self.theta[len(self.theta) // 2, 0])
        flip = float(self.flip[len(self.flip) // 2, 0])
        t = atan2(cos(delta), flip * sin(delta))
        return max(t - half, -pi / 2), min(t + half, pi / 2)


def hull(points: np.ndarray) -> np.ndarray:
    """Return the outline (m, 3) of the convex hull, in the image plane, of points (n, 3)."""
    order = cv2.convexHull(points[:, :2].astype(np.float32), returnPoints=False)
    return points[order[:, 0]]


def head_patch(
    center: np.ndarray,
    radii: np.ndarray,
    axes: np.ndarray,
    longitude: float,
    low: float,
    high: float,
) -> np.ndarray:
    """Return the visible part of a patch of a head as a convex outline (m, 3); (0, 3) if hidden.

    Args:
        radii: half axes (3,) of the head: left, up, front.
        axes: directions (3, 3) of the half axes, one a row.
        longitude: how far the patch reaches from the front to both sides, in radians.
        low, high: latitudes of the patch, in radians.
    """
    lon, lat = np.meshgrid(
        np.linspace(-longitude, longitude, 17), np.linspace(low, high, 7), indexing="ij"
    )
    flat = np.cos(lat)
    unit = np.stack([np.sin(lon) * flat, np.sin(lat), np.cos(lon) * flat], axis=-1).reshape(-1, 3)
    normals = (unit / radii) @ axes  # normals of the ellipsoid, of any length
    seen = unit[normals[:, 2] > 0]
    if len(seen) < 3:
        return np.zeros((0, 3))
    return hull(center + (seen * radii) @ axes)


class Sketch:
    """Parts collected in any order and painted by layer, then depth (far first).

    The canvas has three channels: material, depth gray level, and 255 where the person is.
    """

    def __init__(self) -> None:
        self._parts: List[Tuple[float, int, np.ndarray, int, float]] = []

    def add(
        self, layer: float, points: np.ndarray, material: int, *, depth: float, raised: float = 0.0
    ) -> None:
        """Add a polygon (n, 3) whose surface stands ``raised`` meters above ``depth``."""
        if len(points) >= 3:
            self._parts.append((layer, len(self._parts), points, int(material), depth + raised))

    def paint(self, canvas: np.ndarray, project: Callable[[np.ndarray], np.ndarray]) -> None:
        """Paint all parts; ``project`` maps view points (n, 3) to pixels (n, 2) of the canvas."""
        parts = sorted(self._parts, key=lambda part: part[:2])
        pixels = project(np.concatenate([part[2] for part in parts]))
        fixed = np.round(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)
        first = 0
        for _, _, points, material, depth in parts:
            outline = fixed[first : first + len(points)]
            first += len(points)
            cv2.fillPoly(
                canvas, [outline], (material, depth_level(depth), 255), shift=SUBPIXEL_BITS
            )


def depth_level(depth: float) -> int:
    """Return the gray level of a depth, which is in meters toward the camera."""
    low, high = DEPTH_RANGE
    return int(min(max(DEPTH_ZERO + DEPTH_SCALE * depth, low), high))
