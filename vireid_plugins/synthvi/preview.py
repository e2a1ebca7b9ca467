"""Draw a sheet that shows identities in all cameras, and key points and masks below."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple, Union

import cv2
import numpy as np

from .dataset import encode_image
from .folder import write_whole
from .person.identity import Identity, sample_identity
from .place.camera import Camera, make_camera
from .place.domains import DOMAINS
from .plan import identity_numbers
from .render import Rendered, render_image
from .settings import Settings

CELL_HEIGHT = 160
HEADER = 26
ROWS = 7
FRAMES = 2
MOST_CAMERAS = 6
MARGIN = 82
LINE = 14  # pixels from one line of words to the next
LIMBS = (
    (5, 6),
    (5, 7),
    (7, 9),
    (6, 8),
    (8, 10),
    (5, 11),
    (6, 12),
    (11, 12),
    (11, 13),
    (13, 15),
    (12, 14),
    (14, 16),
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
)
SEEN, HIDDEN, MASK_TINT = (60, 230, 60), (60, 60, 255), (255, 160, 0)


def write_preview(path: Union[str, Path], settings: Settings) -> Path:
    """Render a sheet of the dataset that ``settings`` describe, as a PNG file; return its path.

    Rows are identities, labeled with the dyes of their upper and lower garments if the domain has
    infrared cameras. Columns are cameras with two moments each, labeled with their modality. Two
    strips below show key points (green: seen, red: hidden) and masks. No dataset is read.
    """
    domain = DOMAINS[settings.layout]
    numbers = identity_numbers(settings)[:ROWS]
    specs = list(domain.cameras)
    if len(specs) > MOST_CAMERAS:  # the first half of the sheet visible, the second infrared
        others = [spec for spec in specs if spec.band != "visible"]
        kept = MOST_CAMERAS // 2 if others else MOST_CAMERAS
        specs = [s for s in specs if s.band == "visible"][:kept] + others[:kept]
    cameras = [make_camera(domain, spec) for spec in specs]
    people = [sample_identity(settings.seed, domain, n, settings.infrared) for n in numbers]
    cells = [[_cell(settings, person, camera) for camera in cameras] for person in people]
    rows = [_header(cameras, cells[0])]
    for person, row in zip(people, cells):
        images = [_scaled(r.image) for cell in row for r in cell]
        rows.append(_labeled(_about(person, cameras), np.hstack(images)))
    for name, draw in (("joints", draw_keypoints), ("mask", draw_mask)):
        images = [draw(cells[i % len(cells)][j][k]) for i, j, k in _diagonal(cells)]
        rows.append(_labeled([name], np.hstack([_scaled(image) for image in images])))
    path = Path(path)
    write_whole(path, encode_image(np.vstack(rows), ".png"))
    return path


def _cell(settings: Settings, person: Identity, camera: Camera) -> List[Rendered]:
    """Render the first moments of a person in a camera, large enough to look at."""
    height, width = settings.size
    size = (2 * CELL_HEIGHT, round(2 * CELL_HEIGHT * width / height))
    domain = DOMAINS[settings.layout]
    return [
        render_image(settings.seed, domain, person, camera, frame, size, settings.difficulty)
        for frame in range(FRAMES)
    ]


def _diagonal(cells: List[List[List[Rendered]]]) -> List[Tuple[int, int, int]]:
    return [(j * FRAMES + k, j, k) for j in range(len(cells[0])) for k in range(FRAMES)]


def _scaled(image: np.ndarray) -> np.ndarray:
    width = round(image.shape[1] * CELL_HEIGHT / image.shape[0])
    return cv2.resize(image, (width, CELL_HEIGHT), interpolation=cv2.INTER_AREA)


def _text(image: np.ndarray, words: str, at: Tuple[int, int]) -> None:
    cv2.putText(image, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (20, 20, 20), 1, cv2.LINE_AA)


def _about(person: Identity, cameras: List[Camera]) -> List[str]:
    lines = [f"id {person.number}"]
    if any(camera.band == "infrared" for camera in cameras):
        lines += [f"{name} {person.dyes[name]}" for name in ("upper", "lower")]
    return lines


def _labeled(lines: List[str], strip: np.ndarray) -> np.ndarray:
    margin = np.full((strip.shape[0], MARGIN, 3), 255, np.uint8)
    for number, words in enumerate(lines):
        _text(margin, words, (4, strip.shape[0] // 2 + LINE * number))
    return np.hstack([margin, strip])


def _header(cameras: List[Camera], row: List[List[Rendered]]) -> np.ndarray:
    strips = [np.full((HEADER, MARGIN, 3), 255, np.uint8)]
    for camera, cell in zip(cameras, row):
        width = sum(_scaled(rendered.image).shape[1] for rendered in cell)
        strip = np.full((HEADER, width, 3), 255 if camera.band == "visible" else 200, np.uint8)
        place = "indoor" if camera.spec.indoor else "outdoor"
        _text(strip, f"{camera.spec.number} {camera.band}", (4, 11))
        _text(strip, f"{place}, place {camera.spec.scene}", (4, 23))
        strips.append(strip)
    return np.hstack(strips)


def draw_keypoints(rendered: Rendered) -> np.ndarray:
    """Return the image (H, W, 3) uint8 with its skeleton; joints are green if seen, else red."""
    image = rendered.image.copy()
    thick = max(1, image.shape[0] // 160)
    points = [(int(round(x)), int(round(y))) for x, y, _ in rendered.keypoints]
    for first, second in LIMBS:
        cv2.line(image, points[first], points[second], (0, 220, 255), thick, cv2.LINE_AA)
    for point, (_, _, seen) in zip(points, rendered.keypoints):
        cv2.circle(image, point, 2 * thick, SEEN if seen else HIDDEN, -1, cv2.LINE_AA)
    return image


def draw_mask(rendered: Rendered) -> np.ndarray:
    """Return the image (H, W, 3) uint8 with its background tinted and darkened."""
    image = rendered.image.copy()
    outside = ~rendered.mask
    image[outside] = (0.35 * image[outside] + 0.35 * np.array(MASK_TINT)).astype(np.uint8)
    return image
