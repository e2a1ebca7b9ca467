"""Render one image from (seed, domain, identity, camera, frame), with key points and mask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Tuple

import cv2
import numpy as np

from ..joints import JOINTS
from .person.figure import sketch_person
from .person.identity import Identity
from .person.looks import Material
from .person.pose import Skeleton, make_skeleton
from .person.shapes import depth_level
from .place.camera import BAND_CODES, Camera, View, sample_view
from .place.domains import Domain
from .place.scene import cut_background, scene
from .seeding import Stream, generator

OCCLUDER_LEVEL = 255  # depth level of things in front of the person
HIDDEN_MARGIN = 0.16  # meters of body and cloth that may be in front of a visible joint
TEXTURE_SIZE = 512


@dataclass(frozen=True)
class Rendered:
    """A rendered image, and where the person is in it.

    ``image`` (H, W, 3) uint8 is blue, green, red; the channels are equal outside the visible band.
    ``keypoints`` (17, 3) float32 has x and y in pixels and 1 for a joint that is seen, 0 for one
    that is hidden or outside, in COCO's order. ``mask`` (H, W) bool is True where the person, with
    the things carried, covers more than half of a pixel. ``materials`` (H, W) uint8 has the
    ``Material`` in the middle of each pixel.
    """

    image: np.ndarray
    keypoints: np.ndarray
    mask: np.ndarray
    materials: np.ndarray


def render_image(
    seed: int,
    domain: Domain,
    identity: Identity,
    camera: Camera,
    frame: int,
    size: Tuple[int, int],
    difficulty: float = 1.0,
) -> Rendered:
    """Render one image.

    Args:
        seed: the seed of the dataset.
        domain: the domain of identity and camera.
        identity: the person in the image.
        camera: the camera that takes it.
        frame: number of the image of this identity in this camera, from 0.
        size: (height, width) in pixels.
        difficulty: 0 = tidy and uniform, 1 = as designed; scales clutter, noise, light, variation
            of pose and view, framing errors and occlusion.
    """
    height, width = size
    key = (seed, domain.code)
    moment = (identity.number, camera.spec.number, BAND_CODES[camera.band], frame)
    view_rng = generator(*key, Stream.VIEW, *moment)
    pose_rng = generator(*key, Stream.POSE, *moment)
    occlusion_rng = generator(*key, Stream.OCCLUSION, *moment)
    light_rng = generator(*key, Stream.PHOTOMETRY, *moment)

    body = make_skeleton(identity.body, identity.gait, pose_rng, difficulty)
    view = sample_view(camera, identity.body.height, view_rng, difficulty)
    skeleton = body.turned(view.rotation, view.target)
    factor = 2 if height >= 192 else 3  # paint larger, then average, for smooth edges
    canvas = np.zeros((height * factor, width * factor, 3), np.uint8)
    sketch = sketch_person(identity, skeleton)
    sketch.paint(canvas, lambda points: _to_canvas(view.project(points, height, width), factor))
    if occlusion_rng.random() < camera.occlusion * difficulty:
        _paint_occluder(canvas, occlusion_rng)

    picture = scene(seed, domain.name, camera.spec.scene, camera.band, camera.spec.indoor)
    background = cut_background(picture, height, width, view_rng, difficulty)
    look = _look_with_occluder(identity, camera.band, occlusion_rng)
    plain = _compose(canvas, look, background * np.float32(camera.background_light), light_rng)
    image = _photograph(plain, camera, light_rng, difficulty)
    return Rendered(
        image=image,
        keypoints=_keypoints(skeleton, view, canvas, factor, (height, width)),
        mask=cv2.resize(canvas[..., 2], (width, height), interpolation=cv2.INTER_AREA) > 127,
        materials=canvas[factor // 2 :: factor, factor // 2 :: factor, 0].copy(),
    )


def _to_canvas(pixels: np.ndarray, factor: int) -> np.ndarray:
    return (pixels + 0.5) * factor - 0.5


def _paint_occluder(canvas: np.ndarray, rng: np.random.Generator) -> None:
    """Paint a post, a box or a plant in front of the person; what it covers leaves the mask."""
    height, width = canvas.shape[:2]
    plain = (int(Material.OCCLUDER), OCCLUDER_LEVEL, 0)
    detail = (int(Material.OCCLUDER_DETAIL), OCCLUDER_LEVEL, 0)
    kind = str(rng.choice(("post", "box", "plant")))
    if kind == "post":
        x, thick = rng.uniform(0.15, 0.85) * width, rng.uniform(0.06, 0.14) * width
        cv2.rectangle(canvas, (int(x), 0), (int(x + thick), height), plain, -1)
        cv2.rectangle(canvas, (int(x), 0), (int(x + 0.3 * thick), height), detail, -1)
    elif kind == "box":
        top = int(rng.uniform(0.68, 0.9) * height)
        left, right = sorted(rng.uniform(-0.2, 1.2, 2) * width)
        cv2.rectangle(canvas, (int(left), top), (int(right), height), plain, -1)
        cv2.rectangle(canvas, (int(left), top), (int(right), top + height // 40), detail, -1)
    else:
        side = rng.choice((0.05, 0.95)) * width
        for i in range(14):
            x, y = side + rng.normal(0, 0.14) * width, rng.uniform(0.62, 1.0) * height
            axes = (int(0.03 * width + rng.random() * 0.06 * width), int(0.05 * height))
            color = plain if i % 2 else detail
            cv2.ellipse(canvas, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, color, -1)


def _look_with_occluder(identity: Identity, band: str, rng: np.random.Generator) -> np.ndarray:
    look = identity.looks[band].copy()
    shades = rng.uniform(0.1, 0.7, (2, 1)) * rng.uniform(0.75, 1.25, (2, 3))
    if band != "visible":
        shades[:] = shades.mean(axis=1, keepdims=True)
    look[[Material.OCCLUDER, Material.OCCLUDER_DETAIL]] = shades
    return look


@lru_cache(maxsize=1)
def _texture() -> np.ndarray:
    """Return a tile (TEXTURE_SIZE, TEXTURE_SIZE) of soft folds around 0, the same for everyone."""
    rng = generator(Stream.PHOTOMETRY)
    tile = np.zeros((TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
    for cells, weight in ((32, 0.5), (64, 0.35), (128, 0.25)):
        coarse = rng.normal(size=(cells, cells)).astype(np.float32)
        shape = (TEXTURE_SIZE, TEXTURE_SIZE)
        tile += weight * cv2.resize(coarse, shape, interpolation=cv2.INTER_CUBIC)
    return tile


def _compose(
    canvas: np.ndarray, look: np.ndarray, background: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the picture, float32 in 0-1: the canvas, colored and shaded, on ``background``."""
    height, width = background.shape[:2]
    table = np.zeros((256, 1), np.uint8)
    planes = []
    for channel in range(3):
        table[:16, 0] = np.clip(np.round(look[:, channel] * 255), 0, 255)
        planes.append(cv2.LUT(canvas[..., 0], table))
    color = cv2.resize(cv2.merge(planes), (width, height), interpolation=cv2.INTER_AREA)
    covered = (canvas[..., 0] > 0).astype(np.uint8) * np.uint8(255)
    alpha = cv2.resize(covered, (width, height), interpolation=cv2.INTER_AREA)
    alpha = alpha.astype(np.float32)[..., None] / np.float32(255)
    shade = _shading(canvas[..., 1], height, width, rng)
    shadow = _ground_shadow(height, width)
    return color.astype(np.float32) / 255 * shade[..., None] + background * shadow * (1 - alpha)


def _shading(depth: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return a factor (H, W) on brightness: light from above and one side on these depth levels."""
    solid = cv2.resize(depth, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    soft = cv2.GaussianBlur(solid, (0, 0), 0.011 * height)
    across = cv2.Sobel(soft, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(soft, cv2.CV_32F, 0, 1, ksize=3)
    side = rng.uniform(-1.0, 1.0)
    slope = np.float32(height / 288 / 8 / 40) * (side * across + np.float32(0.5) * down)
    bowl = np.float32(height / 288 / 8 / 60) * cv2.magnitude(across, down)
    x, y = rng.integers(0, TEXTURE_SIZE - 300, 2)
    folds = _texture()[y : y + 288, x : x + 144]
    folds = cv2.resize(folds, (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(1.0 + slope - bowl + np.float32(0.08) * folds, 0.35, 1.35)


def _ground_shadow(height: int, width: int) -> np.ndarray:
    """Return a factor (H, W, 1) on brightness: the ground around the feet is darker."""
    y = np.arange(height, dtype=np.float32)[:, None] / height
    x = np.arange(width, dtype=np.float32)[None] / width
    blob = np.exp(-(((y - 0.96) / 0.05) ** 2) - ((x - 0.5) / 0.28) ** 2)
    return (1 - np.float32(0.45) * blob)[..., None]


def _photograph(
    plain: np.ndarray, camera: Camera, rng: np.random.Generator, difficulty: float
) -> np.ndarray:
    """Apply light, lens and sensor of the camera: from float32 in 0-1 to uint8."""
    height, width = plain.shape[:2]
    visible = camera.band == "visible"
    light = camera.gain * np.exp(0.1 * difficulty * rng.normal())
    cast = np.asarray(camera.cast) * np.exp(0.04 * difficulty * rng.normal(size=3) * visible)
    field = _light_field(height, width, camera.vignette, difficulty, rng)
    image = plain * (field[..., None] * (light * cast).astype(np.float32))
    if not visible:
        image = image[..., :1]
    image = np.maximum(image, 0) ** np.float32(camera.gamma)
    mean = np.float32(0.42)
    image = mean + (image - mean) * np.float32(camera.contrast)
    image = image + np.float32(camera.haze * difficulty)
    sigma = camera.blur * height * max(0.2, 1 + 0.5 * difficulty * (rng.random() - 0.3))
    if sigma > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), float(sigma)).reshape(image.shape)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    image = image + noise * np.float32(camera.noise * difficulty)
    image = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
    return image if visible else np.repeat(image, 3, axis=2)


def _light_field(
    height: int, width: int, vignette: float, difficulty: float, rng: np.random.Generator
) -> np.ndarray:
    """Return uneven light (H, W): a gradient in a random direction, and darker corners."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    gx, gy = (0.08 * difficulty * rng.normal(size=2)).astype(np.float32)
    field = 1 + gx * x + gy * y - np.float32(0.5 * vignette) * (x * x + y * y)
    return np.maximum(field, np.float32(0.2))


def _keypoints(
    skeleton: Skeleton, view: View, canvas: np.ndarray, factor: int, size: Tuple[int, int]
) -> np.ndarray:
    """Return the COCO joints (17, 3) of ``skeleton``: x, y, and 1 if seen."""
    points = np.stack([skeleton.joints[name] for name in JOINTS])
    pixels = view.project(points, *size)
    on_canvas = np.round(_to_canvas(pixels, factor)).astype(int)
    height, width = canvas.shape[:2]
    head = float(skeleton.joints["head"][2])
    seen = np.zeros(len(points))
    for i, (x, y) in enumerate(on_canvas):
        if not (0 <= x < width and 0 <= y < height):
            continue
        if i < 5 and points[i, 2] < head - 0.02:  # a face turned away
            continue
        surface = canvas[y, x, 1]
        seen[i] = surface <= depth_level(points[i, 2] + HIDDEN_MARGIN)
    return np.concatenate([pixels, seen[:, None]], axis=1).astype(np.float32)
