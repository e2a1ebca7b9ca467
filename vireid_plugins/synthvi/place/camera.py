"""Cameras: their optics, their light, and how people pass them.

The character of a camera depends on the domain and its number alone; ``seed`` changes people,
places and moments, but not how difficult a camera is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import Tuple

import numpy as np

from ..person.pose import view_rotation
from ..seeding import generator
from .domains import CameraSpec, Domain

BAND_CODES = {"visible": 1, "infrared": 2, "thermal": 3}
CHARACTER = 31  # random stream of the characters of cameras
MEAN_HEIGHT = 1.70  # meters
SHARE_OF_HEIGHT = 0.4  # how much of a person's height the framing leaves in the image


@dataclass(frozen=True)
class Camera:
    """One camera.

    Angles are in radians, ``distance`` in meters; noise and gain act on intensities in 0-1;
    ``blur`` is a standard deviation as a share of the image's height; ``jpeg_quality`` is 1-100.
    """

    spec: CameraSpec
    yaw: float
    yaw_range: float
    turn_share: float
    pitch: float
    distance: float
    gain: float
    gamma: float
    cast: Tuple[float, float, float]
    haze: float
    contrast: float
    blur: float
    noise: float
    vignette: float
    background_light: float
    framing: float
    occlusion: float
    jpeg_quality: int

    @property
    def band(self) -> str:
        """What the camera sees: 'visible', 'infrared' or 'thermal'."""
        return self.spec.band


def make_camera(domain: Domain, spec: CameraSpec) -> Camera:
    """Return the camera that ``spec`` describes, with the optics and the light of the domain."""
    rng = generator(CHARACTER, domain.code, spec.number, BAND_CODES[spec.band])
    visible, infrared = spec.band == "visible", spec.band == "infrared"
    cast = np.ones(3)
    gain = rng.uniform(0.9, 1.1)
    if visible:
        warmth = domain.warmth * 0.12 + rng.uniform(-0.1, 0.1)
        cast = np.array([1 - warmth, 1.0 + rng.uniform(-0.03, 0.03), 1 + warmth])
        gain *= domain.brightness * (0.85 if spec.indoor else 1.0)
    return Camera(
        spec=spec,
        yaw=float(rng.choice((0.0, pi))) + rng.uniform(-0.5, 0.5),
        yaw_range=rng.uniform(0.25, 0.45),
        turn_share=rng.uniform(0.06, 0.15),
        pitch=rng.uniform(0.06, 0.22),
        distance=rng.uniform(4.5, 9.0),
        gain=gain,
        gamma=rng.uniform(0.85, 1.2),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        haze=rng.uniform(0.0, 0.06),
        contrast=rng.uniform(0.85, 1.05) if visible else rng.uniform(0.7, 0.9),
        blur=rng.uniform(0.001, 0.0025) if visible else rng.uniform(0.002, 0.0035),
        noise=rng.uniform(0.008, 0.014) if visible else rng.uniform(0.012, 0.022),
        vignette=rng.uniform(0.05, 0.15) if not infrared else rng.uniform(0.3, 0.5),
        background_light=1.0 if visible else rng.uniform(0.45, 0.7),
        framing=rng.uniform(0.025, 0.04),
        occlusion=rng.uniform(0.03, 0.08),
        jpeg_quality=int(rng.integers(84, 95)),
    )


@dataclass(frozen=True)
class View:
    """The position of the camera for one image, and the part of its picture that is cut out."""

    rotation: np.ndarray
    target: np.ndarray
    distance: float
    box: Tuple[float, float, float]
    roll: float

    def project(self, points: np.ndarray, height: int, width: int) -> np.ndarray:
        """Return the pixels (n, 2), x then y, of view points (n, 3) in an image of this size.

        A pixel's center lies at its whole-number coordinates.
        """
        x, y, z = points[:, 0], points[:, 1], points[:, 2]
        near = self.distance / (self.distance - z)
        x, y = x * near, -y * near
        cosine, sine = np.cos(self.roll), np.sin(self.roll)
        x, y = x * cosine - y * sine, x * sine + y * cosine
        left, top, extent = self.box
        scale = height / extent
        return np.stack([(x - left) * scale + width / 2 - 0.5, (y - top) * scale - 0.5], axis=1)


def sample_view(
    camera: Camera, body_height: float, rng: np.random.Generator, difficulty: float
) -> View:
    """Draw a view of a person of ``body_height`` meters.

    A detector would frame the person in this way, with the same kind of errors.
    """
    yaw = camera.yaw + difficulty * rng.uniform(-camera.yaw_range, camera.yaw_range)
    if rng.random() < camera.turn_share * min(difficulty, 2.0):
        yaw += pi
    pitch = max(0.0, camera.pitch + 0.04 * difficulty * rng.normal())
    distance = camera.distance * rng.uniform(0.85, 1.2)
    rotation = view_rotation(yaw, pitch)
    target = np.array([0.0, 0.52 * body_height, 0.0])
    ends = np.array([[0.0, body_height + 0.03, 0.0], [0.0, -0.03, 0.0]])
    y, z = ((ends - target) @ rotation.T)[:, 1:].T
    top, bottom = -y * distance / (distance - z)
    # a detector's boxes fit the person, but not exactly: some differences in height stay visible
    bigger = (MEAN_HEIGHT / body_height) ** SHARE_OF_HEIGHT
    error = camera.framing * difficulty * np.clip(rng.normal(size=3), -2.5, 2.5)
    extent = (bottom - top) * (1.10 * bigger + abs(error[0]) + 0.5 * error[0])
    middle = bottom + (0.02 + error[1] - 0.5) * extent
    box = (error[2] * extent, middle - extent / 2, extent)
    return View(rotation, target, distance, box, roll=0.02 * difficulty * rng.normal())
