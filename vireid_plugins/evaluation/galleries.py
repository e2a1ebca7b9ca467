"""Choose the test images of each gallery, as row numbers in ``dataset.query + dataset.gallery``.

Random galleries are those of AGW's code (Ye et al.; LLCM's code does the same): for each trial the
generator is seeded with the trial's number, then draws over the sorted files, identities in sorted
order, cameras in the listed order. A private generator yields the same stream as ``random.seed``
and leaves the global one alone.
"""

import random
from collections import defaultdict
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from ..data.item import test_items
from ..errors import UserError
from ..modality import Modality
from .permutation import read_permutations

#: the rows of each pair (identity, camera), which is one folder of images
Folders = Dict[Tuple[int, int], List[int]]


def rows_of_modality(dataset: Any, modality: Modality, protocol: str) -> np.ndarray:
    """Return the rows of all test images of a modality, int64.

    Raises:
        UserError: there are none; the message names ``protocol``.
    """
    rows = [row for row, item in enumerate(test_items(dataset)) if item.modality == modality]
    if not rows:
        raise UserError(f"{protocol}: the test set has no {modality.label} images.")
    return np.array(rows, dtype=np.int64)


def folders_of(dataset: Any, modality: Modality, cameras: Sequence[int], protocol: str) -> Folders:
    """Return the rows of each identity and camera, sorted by file.

    Identities come in ascending order, the cameras of each in the order of ``cameras``.

    Raises:
        UserError: there is no image; the message names ``protocol``.
    """
    items = test_items(dataset)
    found: Folders = defaultdict(list)
    for row, item in enumerate(items):
        if item.modality == modality:
            found[item.pid, item.camid].append(row)
    identities = sorted({identity for identity, _ in found})
    keys = [(i, camera) for i in identities for camera in cameras if (i, camera) in found]
    if not keys:
        raise UserError(
            f"{protocol}: the test set has no {modality.label} image of the cameras "
            f"{', '.join(map(str, cameras))}, which make the gallery. Check the test list."
        )
    return {key: sorted(found[key], key=lambda row: _file_key(items[row].path)) for key in keys}


def _file_key(path: str) -> str:
    return path.replace("\\", "/")


def random_galleries(folders: Folders, shots: int, trials: int) -> Iterator[np.ndarray]:
    """Yield the rows of each trial's gallery; trial t is drawn with seed t.

    Each folder gives one image (``random.choice``) if ``shots`` is 1, else at most ``shots``
    (``random.sample``).
    """
    for trial in range(trials):
        generator = random.Random(trial)
        rows: List[int] = []
        for files in folders.values():
            if shots == 1:
                rows.append(generator.choice(files))
            else:
                rows += generator.sample(files, min(shots, len(files)))
        yield np.array(rows, dtype=np.int64)


def official_galleries(
    dataset: Any, folders: Folders, shots: int, trials: int, path: str
) -> Iterator[np.ndarray]:
    """Yield the rows of each trial's gallery: the first ``shots`` of the official permutations.

    Args:
        dataset: SYSU-MM01.
        folders: its visible test images, by identity and camera.
        shots: images per folder.
        trials: number of galleries.
        path: the permutation file; empty: where the dataset has it.

    Raises:
        UserError: the file is missing or does not fit, see ``read_permutations``.
    """
    counts = {key: len(files) for key, files in folders.items()}
    orders = read_permutations(dataset, counts, trials, path)
    for trial in range(trials):
        picks = [
            np.asarray(files, dtype=np.int64)[orders[key][trial][:shots]]
            for key, files in folders.items()
        ]
        yield np.concatenate(picks)
