"""Read side files, which hold the key points and masks of rendered images beside them.

``<dataset>/synthvi/index.csv`` names, for every image, a side file and a row in it. A side file is
one compressed ``.npz`` for one identity in one camera: ``keypoints`` (n, 17, 3) float32, ``masks``
(n, ceil(H * W / 8)) uint8, packed bits row by row, and ``size`` (2,) height and width.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Tuple, Union

import numpy as np

from ..errors import FileContentError, MissingFileError, UnknownNameError
from .csv_file import read_table
from .npz_file import read_npz

INDEX_FILE = "synthvi/index.csv"
_POINTS = (17, 3)  # key points of a person: x, y, and 1 if seen
_REMEDY = "Render the dataset again (vireid render --overwrite)."


class Annotations:
    """Key points and masks of the images under a rendered dataset.

    Args:
        root: the dataset's own folder, such as ``.../SYSU-MM01``.

    Raises:
        MissingFileError: ``root`` was not rendered by this package, or not completely.
    """

    def __init__(self, root: Union[str, Path]) -> None:
        self.root = Path(root)
        index = self.root / INDEX_FILE
        if not index.is_file():
            raise MissingFileError(
                f"No side files in {self.root}: {index} is missing. Render the dataset with "
                "vireid render (tools/make_synthetic.py)."
            )
        self._rows: Dict[str, Tuple[str, int]] = {}
        for line, (path, side_file, row) in read_table(index, 3, _REMEDY):
            if not (row.isascii() and row.isdecimal() and len(row) < 10):
                raise FileContentError(
                    f"{index}, line {line}: expected a row number, found {row!r}. {_REMEDY}"
                )
            self._rows[path] = (side_file, int(row))
        self._load = lru_cache(maxsize=64)(self._read)

    def __len__(self) -> int:
        return len(self._rows)

    def _read(self, side_file: str) -> Tuple[np.ndarray, np.ndarray, Tuple[int, int]]:
        file = self.root / side_file
        content = read_npz(file, ("keypoints", "masks", "size"), _REMEDY)
        points, masks, size = content["keypoints"], content["masks"], content["size"]
        height, width = map(int, size) if size.shape == (2,) and size.dtype.kind in "iu" else (0, 0)
        images = len(points) if points.ndim else 0
        if (
            points.shape != (images, *_POINTS)
            or masks.shape != (images, (height * width + 7) // 8)
            or masks.dtype != np.uint8
        ):
            raise FileContentError(f"{file} holds arrays of other shapes. {_REMEDY}")
        return points, masks, (height, width)

    def _row(self, path: Union[str, Path]) -> Tuple[np.ndarray, np.ndarray, Tuple[int, int]]:
        """Return the key points and the packed mask of an image, and its height and width."""
        side_file, row = self._find(path)
        points, masks, size = self._load(side_file)
        self._check_row(side_file, row, len(points))
        return points[row], masks[row], size

    def _check_row(self, side_file: str, row: int, images: int) -> None:
        if row >= images:
            raise FileContentError(
                f"{self.root / side_file} holds {images} images, and {INDEX_FILE} names number "
                f"{row + 1}. {_REMEDY}"
            )

    def _find(self, path: Union[str, Path]) -> Tuple[str, int]:
        path = Path(path)
        if path.is_absolute() or self.root in path.parents:
            path = path.resolve().relative_to(self.root.resolve())
        try:
            return self._rows[path.as_posix()]
        except KeyError:
            raise UnknownNameError(
                f"{path} is not an image of the dataset in {self.root}."
            ) from None

    def all_keypoints(self) -> Tuple[List[str], np.ndarray, np.ndarray]:
        """Return the n paths, the key points (n, 17, 3) and the sizes (n, 2) of all images.

        Paths are relative to the dataset's folder; a size is height and width in pixels.

        Raises:
            FileContentError: a side file is damaged.
        """
        points = np.zeros((len(self), *_POINTS), np.float32)
        sizes = np.zeros((len(self), 2), np.int64)
        files: Dict[str, List[Tuple[int, int]]] = {}
        for place, (side_file, row) in enumerate(self._rows.values()):
            files.setdefault(side_file, []).append((place, row))
        for side_file, rows in files.items():
            own, _, size = self._read(side_file)
            for place, row in rows:
                self._check_row(side_file, row, len(own))
                points[place], sizes[place] = own[row], size
        return list(self._rows), points, sizes

    def keypoints(self, path: Union[str, Path]) -> np.ndarray:
        """Return the key points (17, 3) float32 of an image: x, y in pixels, and 1 if seen, else 0.

        Args:
            path: the path of the image, absolute or relative to the dataset's folder.

        Raises:
            UnknownNameError: the dataset has no such image.
        """
        return self._row(path)[0].copy()

    def mask(self, path: Union[str, Path]) -> np.ndarray:
        """Return the mask (H, W) bool of the person and the things carried.

        Args:
            path: the path of the image, absolute or relative to the dataset's folder.

        Raises:
            UnknownNameError: the dataset has no such image.
        """
        _, mask, (height, width) = self._row(path)
        return np.unpackbits(mask, count=height * width).reshape(height, width).astype(bool)
