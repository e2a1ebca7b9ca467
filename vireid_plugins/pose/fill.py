"""Find the key points of all images below a folder, and write them to one file.

The file is written again from time to time, and at the end; a later call keeps what is in it, and
adds the images that it lacks.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import ExistingFileError, UserError
from ..files import check_can_write, write_atomically
from ..readers.image import ImageError, is_image_name, read_image
from ..readers.keypoints_file import ARRAYS, plain_name, read_keypoints, write_arrays
from ..readers.text import shown
from .estimator import Estimator

_SECONDS = 60.0  # between two times at which the file is written


class Filled(NamedTuple):
    """What was done."""

    path: Path  # of the file
    found: int  # images whose key points were found now
    kept: int  # images whose key points were in the file already
    broken: List[str]  # sentences about images that cannot be read
    unsure: int  # images of the file in which no joint has a confidence of at least 0.5


class _Rows:
    """Key points that are known so far, by the path of the image."""

    def __init__(self) -> None:
        self.names: List[str] = []
        self.points: List[np.ndarray] = []
        self.sizes: List[Tuple[int, int]] = []

    def add(self, name: str, points: np.ndarray, size: Tuple[int, int]) -> None:
        self.names.append(name)
        self.points.append(points)
        self.sizes.append(size)

    def write(self, path: Path, estimator: str) -> None:
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        points = np.array([self.points[k] for k in order], np.float32).reshape(-1, 17, 3)
        sizes = np.array([self.sizes[k] for k in order], np.int64).reshape(-1, 2)
        arrays = write_arrays([self.names[k] for k in order], points, sizes, estimator)
        write_atomically(path, lambda file: _save(file, arrays))


def _save(file: Any, arrays: Dict[str, np.ndarray]) -> None:
    paths, points, sizes = (arrays[name] for name in ARRAYS)
    estimator = arrays["estimator"]
    np.savez_compressed(file, paths=paths, keypoints=points, sizes=sizes, estimator=estimator)


def fill(
    images: str,
    out: str,
    estimator: Estimator,
    *,
    batch: int = 8,
    overwrite: bool = False,
    progress: bool = True,
) -> Filled:
    """Write the key points of all images below a folder; those that the file has are kept.

    Args:
        images: the folder; paths in the file are relative to it.
        out: the file to write, whose name ends with ``.npz``.
        estimator: finds the joints.
        batch: images that it gets at once.
        overwrite: find all of them again.
        progress: show a progress bar on the standard error stream.

    Raises:
        UserError: there is no such folder, it has no images, or ``out`` cannot be written.
        ExistingFileError: the file was made by another estimator.
    """
    names = check_words(images, out)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = _Rows() if overwrite or not path.is_file() else _kept(path, estimator.name)
    there = set(rows.names)
    kept = len(there)
    waiting = [name for name in names if plain_name(name) not in there]
    broken: List[str] = []
    last = time.monotonic()
    try:
        with tqdm(
            total=len(waiting), unit="img", desc="Poses", disable=not progress, file=sys.stderr
        ) as bar:
            for part in _parts(waiting, batch):
                _find(images, part, estimator, rows, broken)
                bar.update(len(part))
                if time.monotonic() - last > _SECONDS:
                    rows.write(path, estimator.name)
                    last = time.monotonic()
    finally:  # also after Ctrl-C
        if len(rows.names) > kept or not path.is_file():
            rows.write(path, estimator.name)
    unsure = sum(1 for points in rows.points if not (points[:, 2] >= 0.5).any())
    return Filled(path, len(rows.names) - kept, kept, broken, unsure)


def check_words(images: str, out: str) -> List[str]:
    """Return the paths of all images below a folder, see ``list_images``.

    It needs no estimator, whose network may have to be fetched.

    Raises:
        UserError: there is no such folder, it has no images, or ``out`` cannot be written.
    """
    names = list_images(images)
    if Path(out).suffix.lower() != ".npz":
        raise UserError(f"--out {shown(out)}: expected a file whose name ends with .npz.")
    check_can_write(Path(out))
    return names


def list_images(folder: str) -> List[str]:
    """Return the paths of all images below ``folder``, relative to it, with ``/``, sorted.

    Links to folders are followed.

    Raises:
        UserError: there is no such folder, or it has no images.
    """
    if not os.path.isdir(folder):
        raise UserError(f"--images {shown(folder)}: there is no such folder.")
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in filter(is_image_name, names):
            relative = os.path.relpath(os.path.join(place, name), folder)
            found.append(relative.replace(os.sep, "/"))
    if not found:
        raise UserError(f"--images {shown(folder)}: there are no images in it.")
    return sorted(found)


def _kept(path: Path, estimator: str) -> _Rows:
    """Return what a file holds already."""
    file = read_keypoints(path)
    if file.estimator not in ("", estimator):
        raise ExistingFileError(
            f"{path} holds key points of {file.estimator}, and this call takes {estimator}. Name "
            "another file, or replace it with --overwrite."
        )
    rows = _Rows()
    for name, row in file.rows.items():
        height, width = file.sizes[row].tolist()
        rows.add(name, file.points[row], (height, width))
    return rows


def _parts(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), size):
        yield names[begin : begin + size]


def _find(
    folder: str, names: Sequence[str], estimator: Estimator, rows: _Rows, broken: List[str]
) -> None:
    loaded: List[Tuple[str, Image.Image]] = []
    for name in names:
        image = _read(os.path.join(folder, name), broken)
        if image is not None:
            loaded.append((name, image))
    if not loaded:
        return
    points = estimator.find([image for _, image in loaded])
    for (name, image), own in zip(loaded, points):
        rows.add(plain_name(name), own, (image.height, image.width))


def _read(path: str, broken: List[str]) -> Optional[Image.Image]:
    try:
        return read_image(path)
    except ImageError as error:
        broken.append(str(error))
        return None
