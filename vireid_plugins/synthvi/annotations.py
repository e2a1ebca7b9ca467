"""Side files, which hold the key points and masks of rendered images beside the dataset's files.

``<dataset>/synthvi/index.csv`` names, for every image, a side file and a row in it. A side file is
one compressed ``.npz`` for one identity in one camera: ``keypoints`` (n, 17, 3) float32, ``masks``
(n, ceil(H * W / 8)) uint8, packed bits row by row, and ``size`` (2,) height and width.
"""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from pathlib import Path
from typing import Dict, Sequence, Tuple, Union

import numpy as np

from ..errors import MissingFileError, UnknownNameError

INDEX_FILE = "synthvi/index.csv"
IDENTITY_FILE = "synthvi/identities.json"


def pack(keypoints: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> bytes:
    """Return the content of a side file of n key point arrays (17, 3) and n masks (H, W)."""
    buffer = io.BytesIO()
    stacked = np.stack(masks)
    np.savez_compressed(
        buffer,
        keypoints=np.stack(keypoints).astype(np.float32),
        masks=np.packbits(stacked.reshape(len(stacked), -1), axis=1),
        size=np.array(stacked.shape[1:], np.int32),
    )
    return buffer.getvalue()


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
        with open(index, newline="", encoding="ascii") as stream:
            for path, side_file, row in csv.reader(stream):
                self._rows[path] = (side_file, int(row))
        self._load = lru_cache(maxsize=64)(self._read)

    def __len__(self) -> int:
        return len(self._rows)

    def _read(self, side_file: str) -> Tuple[np.ndarray, np.ndarray, Tuple[int, int]]:
        with np.load(self.root / side_file) as content:
            height, width = (int(side) for side in content["size"])
            return content["keypoints"], content["masks"], (height, width)

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

    def keypoints(self, path: Union[str, Path]) -> np.ndarray:
        """Return the key points (17, 3) float32 of an image: x, y in pixels, and 1 if seen, else 0.

        Args:
            path: the path of the image, absolute or relative to the dataset's folder.

        Raises:
            UnknownNameError: the dataset has no such image.
        """
        side_file, row = self._find(path)
        return self._load(side_file)[0][row].copy()

    def mask(self, path: Union[str, Path]) -> np.ndarray:
        """Return the mask (H, W) bool of the person and the things carried.

        Args:
            path: the path of the image, absolute or relative to the dataset's folder.

        Raises:
            UnknownNameError: the dataset has no such image.
        """
        side_file, row = self._find(path)
        _, masks, (height, width) = self._load(side_file)
        return np.unpackbits(masks[row], count=height * width).reshape(height, width).astype(bool)
