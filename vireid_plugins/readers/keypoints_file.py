"""Read files of key points: where the joints of the person of each image are.

Three kinds of files are read; the name of a file says which it is.

``*.npz`` holds three arrays: ``paths`` (N,) text, ``keypoints`` (N, 17, 3) and ``sizes`` (N, 2)
whole numbers, height and width of each image in pixels. It may hold ``estimator``, the name of the
program that found the points.

``*.csv`` has the columns ``path,height,width,joint,x,y,confidence`` and one row for each joint that
was found; ``joint`` is a name of COCO, such as ``left_knee``.

``synthvi/index.csv``, in the folder of a rendered dataset, names its side files, which hold the
exact key points.

``x`` and ``y`` are in pixels of the image, and (0, 0) is the middle of the upper left one. The
confidence is from 0 to 1; 0: the joint is unknown, or hidden. Paths are relative to the folder of
the images.
"""

import math
import os
import posixpath
from pathlib import Path
from typing import Dict, NamedTuple, Sequence

import numpy as np

from ..errors import FileContentError, UserError
from ..joints import JOINTS
from .csv_file import Row, read_csv
from .npz_file import read_npz
from .side_files import INDEX_FILE, Annotations
from .text import AnyPath, shown

COLUMNS = ("path", "height", "width", "joint", "x", "y", "confidence")
ARRAYS = ("paths", "keypoints", "sizes")
_REMEDY = "`vireid pose` makes such a file; docs/keypoints.md describes it."
_NUMBERS = {name: number for number, name in enumerate(JOINTS)}
_LARGEST = 1_000_000  # pixels: the height or width of an image, or how far a joint is from it


class KeyPointFile(NamedTuple):
    """What a file of key points says about N images."""

    path: str  # of the file
    rows: Dict[str, int]  # path of an image, with "/" between folders -> its row
    points: np.ndarray  # (N, 17, 3) float32
    sizes: np.ndarray  # (N, 2) int64, height and width in pixels
    estimator: str = ""  # what found the points; empty: the file does not say

    def row_of(self, image: AnyPath, folder: AnyPath) -> int:
        """Return the row of an image, or -1.

        The path is looked up as it is written, and then with all links resolved.

        Args:
            image: the path of the image.
            folder: the folder that the paths in the file are relative to.
        """
        for resolved in (os.path.abspath, os.path.realpath):
            full = resolved(image)
            for name in (_relative(full, resolved(folder)), full):
                row = self.rows.get(plain_name(name))
                if row is not None:
                    return row
        return -1


def read_keypoints(path: AnyPath) -> KeyPointFile:
    """Return the content of a file of key points.

    Raises:
        MissingFileError: there is no such file.
        FileContentError: it is damaged, or a value in it is not allowed.
        UserError: its name ends otherwise, or it cannot be read.
    """
    name, estimator = os.fspath(path), ""
    if name.replace("\\", "/").endswith(INDEX_FILE):
        root = Path(name).parent.parent
        names, points, sizes = Annotations(root).all_keypoints()
    elif name.lower().endswith(".npz"):
        names, points, sizes, estimator = _read_arrays(name)
    elif name.lower().endswith(".csv"):
        names, points, sizes = _read_rows(name)
    else:
        raise UserError(
            f"{shown(name)} is not the name of a file of key points: expected one that ends with "
            f".npz, .csv or {INDEX_FILE}. {_REMEDY}"
        )
    rows = {plain_name(one): number for number, one in enumerate(names)}
    if len(rows) < len(names):
        twice = next(n for k, n in enumerate(names) if rows[plain_name(n)] != k)
        raise FileContentError(f"{shown(name)}: the image {shown(twice)} appears twice.")
    return KeyPointFile(name, rows, _known(points, names, name), sizes, estimator)


def plain_name(path: str) -> str:
    """Return a path of an image as the files of key points spell it, with ``/``."""
    return posixpath.normpath(path.replace("\\", "/"))


def _relative(path: str, folder: str) -> str:
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # another drive
        return path


def _read_arrays(path: str) -> tuple:
    remedy = f"It must hold {', '.join(ARRAYS)}. {_REMEDY}"
    arrays = read_npz(path, ARRAYS, remedy, also=("estimator",))
    estimator = str(arrays.pop("estimator", ""))
    names, points, sizes = (arrays[name] for name in ARRAYS)
    count = len(names) if names.ndim == 1 else -1
    expected = {"paths": (count,), "keypoints": (count, len(JOINTS), 3), "sizes": (count, 2)}
    kinds = {"paths": "U", "keypoints": "fiu", "sizes": "iu"}
    for name, array in arrays.items():
        if count < 0 or array.shape != expected[name] or array.dtype.kind not in kinds[name]:
            raise FileContentError(
                f"{shown(path)}: {name} has the shape {array.shape} and the type {array.dtype}; "
                f"expected paths (N,) text, keypoints (N, {len(JOINTS)}, 3) numbers and sizes "
                f"(N, 2) whole numbers. {_REMEDY}"
            )
    if count and not (sizes.min() >= 1 and sizes.max() <= _LARGEST):
        row = int(np.argmax((sizes < 1).any(1) | (sizes > _LARGEST).any(1)))
        raise FileContentError(
            f"{shown(path)}: the size of {shown(names[row])} is {sizes[row].tolist()}; expected "
            "height and width in pixels."
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told later
        points = points.astype(np.float32)
    return [str(name) for name in names], points, sizes.astype(np.int64), estimator


def _read_rows(path: str) -> tuple:
    rows = read_csv(path, COLUMNS)
    places: Dict[str, int] = {}
    for row in rows:
        places.setdefault(row.cells["path"], len(places))
    points = np.zeros((len(places), len(JOINTS), 3), np.float32)
    sizes = np.zeros((len(places), 2), np.int64)
    filled = np.zeros(points.shape[:2], bool)
    for row in rows:
        place, joint = places[row.cells["path"]], _joint(row, path)
        size = [_number(row, name, path, whole=True) for name in ("height", "width")]
        if sizes[place].any() and sizes[place].tolist() != size:
            raise _wrong(row, path, f"another size of {row.cells['path']} than in a line above")
        if filled[place, joint]:
            raise _wrong(row, path, f"a second {JOINTS[joint]} of {row.cells['path']}")
        filled[place, joint], sizes[place] = True, size
        points[place, joint] = [_number(row, name, path) for name in ("x", "y", "confidence")]
    return list(places), points, sizes


def _joint(row: Row, path: str) -> int:
    name = row.cells["joint"].lower()
    if name not in _NUMBERS:
        raise _wrong(row, path, f"the joint {name!r}; expected one of {', '.join(JOINTS)}")
    return _NUMBERS[name]


def _number(row: Row, name: str, path: str, whole: bool = False) -> float:
    word = row.cells[name]
    try:
        value = int(word) if whole else float(word)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST or (whole and value < 1):
        kind = "a whole number of pixels" if whole else "a number"
        raise _wrong(row, path, f"the {name} {word!r}; expected {kind}")
    return value


def _wrong(row: Row, path: str, what: str) -> FileContentError:
    return FileContentError(f"{shown(path)}, line {row.line}: found {what}.")


def _known(points: np.ndarray, names: Sequence[str], path: str) -> np.ndarray:
    """Return the points; a joint of confidence 0 or without a number as place becomes (0, 0, 0)."""
    points = np.array(points, np.float32)
    confidence = points[..., 2]
    confidence[np.isnan(points).any(axis=-1)] = 0
    unknown = confidence == 0
    points[unknown & ~np.isfinite(points).all(axis=-1)] = 0
    _check(points, ~((confidence >= 0) & (confidence <= 1)), names, path)
    _check(points, ~(np.abs(points) <= _LARGEST).all(axis=-1), names, path)
    return points


def _check(points: np.ndarray, wrong: np.ndarray, names: Sequence[str], path: str) -> None:
    """Raise ``FileContentError`` for the first joint that is wrong (N, 17)."""
    if not wrong.any():
        return
    row, joint = (int(one[0]) for one in np.nonzero(wrong))
    x, y, confidence = points[row, joint].tolist()
    raise FileContentError(
        f"{shown(path)}: {JOINTS[joint]} of {shown(names[row])} is x {x:g}, y {y:g}, confidence "
        f"{confidence:g}; expected pixels and a confidence from 0 to 1. (The visibility of COCO, "
        "0, 1 or 2, is none: write 0 for 0, and 1 for 1 and 2.)"
    )


def write_arrays(
    names: Sequence[str], points: np.ndarray, sizes: np.ndarray, estimator: str = ""
) -> Dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file, by name, for ``numpy.savez_compressed``."""
    values = (np.array(names, dtype=np.str_), points.astype(np.float32), sizes.astype(np.int64))
    return {**dict(zip(ARRAYS, values)), "estimator": np.array(estimator)}
