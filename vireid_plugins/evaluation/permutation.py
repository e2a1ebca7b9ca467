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
    path = path or os.path.join(str(dataset.dataset_dir), "exp", _VARIABLE + ".mat")
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
    try:
        orders = [
            np.asarray(cells[camera - 1][0][identity - 1][0][trial], dtype=np.int64) - 1
            for trial in range(trials)
        ]
    except (IndexError, TypeError, ValueError):
        raise UserError(
            f"{path} has no {trials} permutations for identity {identity}, camera {camera}."
        ) from None
    for trial, order in enumerate(orders):
        if not np.array_equal(np.sort(order.reshape(-1)), np.arange(count)):
            raise UserError(
                f"{path}, identity {identity}, camera {camera}, trial {trial}: a permutation of "
                f"{order.size} images, but the folder has {count}. The file and the images belong "
                "to different copies of the dataset; check that no image is missing."
            )
    return orders
