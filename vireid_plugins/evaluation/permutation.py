"""Read the official galleries of SYSU-MM01 from ``rand_perm_cam.mat``."""

import os
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from ..errors import MissingFileError, UserError
from ..readers.mat_file import read_mat

_VARIABLE = "rand_perm_cam"
_WHERE = (
    "The file comes with the dataset's evaluation code (github.com/wuancong/SYSU-MM01, folder "
    "evaluation/data_split); put it there, or set TEST.PROTOCOL.PERMUTATION_FILE to its path. "
    "TEST.PROTOCOL.GALLERY 'random' needs no file."
)


def permutation_path(dataset: Any) -> str:
    """Return where a copy of SYSU-MM01 has its permutation file.

    Raises:
        UserError: the dataset names no folder ``dataset_dir``.
    """
    folder = getattr(dataset, "dataset_dir", None)
    if folder is None:
        raise UserError(f"The dataset names no folder (dataset_dir) with exp/{_VARIABLE}.mat.")
    return os.path.join(str(folder), "exp", _VARIABLE + ".mat")


def read_permutations(
    dataset: Any, counts: Mapping[Tuple[int, int], int], trials: int, path: str = ""
) -> Dict[Tuple[int, int], List[np.ndarray]]:
    """Return an order of the sorted images of each (identity, camera) for each trial.

    Args:
        dataset: has ``dataset_dir``, below which ``exp/rand_perm_cam.mat`` is looked for.
        counts: the number of images of each (identity, camera).
        trials: how many of the file's trials to read.
        path: the path of the file if it lies elsewhere; empty: the file below ``dataset_dir``.

    Returns:
        For each key of ``counts``, ``trials`` arrays (count,) of positions from 0.

    Raises:
        MissingFileError: there is no such file; the message says where it comes from.
        UserError: the file is not built as the official one, or does not fit the images.
    """
    path = path or permutation_path(dataset)
    if not os.path.isfile(path):
        raise MissingFileError(
            f"There is no {path}, which the official SYSU-MM01 galleries need. {_WHERE}"
        )
    cells = read_mat(path, _VARIABLE, f"It is not the official permutation file. {_WHERE}")
    return {key: _orders(cells, key, count, trials, path) for key, count in counts.items()}


def _orders(
    cells: np.ndarray, key: Tuple[int, int], count: int, trials: int, path: str
) -> List[np.ndarray]:
    identity, camera = key
    of_camera = _cell(cells, camera, f"{path} has no camera {camera}")
    found = _cell(of_camera, identity, f"{path}, camera {camera}, has no identity {identity}")
    place = f"{path}, identity {identity}, camera {camera}"
    if found.dtype.kind not in "iuf" or found.ndim != 2 or len(found) < trials:
        raise UserError(
            f"{place}: expected {trials} rows of image numbers, one for each trial; got "
            f"{_kind_of(found)}. {_WHERE}"
        )
    expected = np.arange(1, count + 1)
    for trial, order in enumerate(found[:trials]):
        if not np.array_equal(np.sort(order), expected):
            raise UserError(f"{place}, trial {trial}: {_why(order, count)}")
    return [order.astype(np.int64) - 1 for order in found[:trials]]


def _cell(cells: np.ndarray, number: int, absent: str) -> np.ndarray:
    """Return the content of cell ``number``, from 1, of a column of cells."""
    if cells.dtype != object:
        raise UserError(f"{absent}: expected a column of cells; got {_kind_of(cells)}. {_WHERE}")
    column = cells.ravel()
    if not 1 <= number <= len(column):
        raise UserError(f"{absent}: it has {len(column)} cells. {_WHERE}")
    return np.asarray(column[number - 1])


def _kind_of(found: np.ndarray) -> str:
    shape = " x ".join(map(str, found.shape))
    return f"{shape} cells" if found.dtype == object else f"{shape} values of {found.dtype}"


def _why(order: np.ndarray, count: int) -> str:
    """Return why ``order`` is not an order of the images 1 to ``count``."""
    if len(order) == count:
        lacking = np.setdiff1d(np.arange(1, count + 1), order)
        return (
            f"not an order of the images 1 to {count}: image {lacking[0]} does not occur. The file "
            f"is damaged. {_WHERE}"
        )
    return (
        f"a permutation of {order.size} images, but the folder has {count}. The file and the "
        "images belong to different copies of the dataset; check that no image is missing."
    )
