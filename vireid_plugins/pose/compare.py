"""How near key points are to those of another file: the percentage of correct key points (PCK).

Y. Yang and D. Ramanan, "Articulated Human Detection with Flexible Mixtures of Parts", TPAMI 2013: a
point is correct if it lies within a share of the longer side of the person's box.
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from tabulate import tabulate

from ..errors import FileContentError
from ..joints import JOINTS, OTHER_SIDE
from ..readers.keypoints_file import KeyPointFile
from ..readers.text import shown

SHARES = (0.05, 0.1)
#: joints that are counted together
GROUPS = {
    "face": ("nose", "eye", "ear"),
    "shoulders": ("shoulder",),
    "elbows, wrists": ("elbow", "wrist"),
    "hips": ("hip",),
    "knees, ankles": ("knee", "ankle"),
}


class Agreement(NamedTuple):
    """How near the key points of some images are to the reference; in percent of its known joints.

    A joint is correct if it lies within a share of the longer side of the box around the joints
    that the reference knows.
    """

    images: int
    joints: int  # known joints of the reference
    correct: Dict[float, float]  # share of the box -> percent
    groups: Dict[str, float]  # of each group of joints, for the larger share
    either_side: float  # for the larger share, if left and right of an image may be exchanged


def compare(file: KeyPointFile, reference: KeyPointFile) -> Dict[str, Agreement]:
    """Return how near a file is to the reference, for all images and for each folder at the top.

    Images that only one of both has are left out.

    Raises:
        FileContentError: the files have no image in common, or other sizes of one.
    """
    names = [name for name in reference.rows if name in file.rows]
    if not names:
        raise FileContentError(
            f"{shown(file.path)} and {shown(reference.path)} have no image in common: the first "
            f"ones are {shown(next(iter(file.rows), ''))} and "
            f"{shown(next(iter(reference.rows), ''))}. Both must be relative to one folder."
        )
    found, true = _rows_of(file, names), _rows_of(reference, names)
    _check_sizes(names, file, reference)
    folders: Dict[str, List[int]] = {}
    for row, name in enumerate(names):
        if "/" in name:
            folders.setdefault(name.split("/")[0], []).append(row)
    result = {"all": agreement(found, true)}
    if len(folders) > 1:
        result.update({name: agreement(found[r], true[r]) for name, r in sorted(folders.items())})
    return result


def agreement(found: np.ndarray, true: np.ndarray) -> Agreement:
    """Return how near ``found`` is to ``true``, both (N, 17, 3)."""
    known = true[..., 2] > 0
    distances, swapped = _distances(found, true), _distances(found[:, list(OTHER_SIDE)], true)
    correct = {share: _percent(distances <= share, known) for share in SHARES}
    largest = max(SHARES)
    groups = {}
    for group, words in GROUPS.items():
        rows = [k for k, name in enumerate(JOINTS) if name.split("_")[-1] in words]
        groups[group] = _percent(distances[:, rows] <= largest, known[:, rows])
    as_told = ((distances <= largest) & known).sum(axis=1)
    exchanged = ((swapped <= largest) & known).sum(axis=1)
    either = 100 * np.maximum(as_told, exchanged).sum() / max(1, known.sum())
    return Agreement(len(true), int(known.sum()), correct, groups, float(either))


def _distances(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the distances (N, 17), in longer sides of the person's box."""
    known = true[..., 2:] > 0
    low = np.where(known, true[..., :2], np.inf).min(axis=1)
    high = np.where(known, true[..., :2], -np.inf).max(axis=1)
    side = np.maximum((high - low).max(axis=-1), 1.0)  # one joint alone: a pixel
    return np.linalg.norm(found[..., :2] - true[..., :2], axis=-1) / side[:, None]


def _percent(correct: np.ndarray, known: np.ndarray) -> float:
    return float(100 * (correct & known).sum() / known.sum()) if known.any() else float("nan")


def _rows_of(file: KeyPointFile, names: Sequence[str]) -> np.ndarray:
    return file.points[[file.rows[name] for name in names]].astype(np.float64)


def _check_sizes(names: Sequence[str], one: KeyPointFile, other: KeyPointFile) -> None:
    for name in names:
        sizes = [tuple(file.sizes[file.rows[name]].tolist()) for file in (one, other)]
        if sizes[0] != sizes[1]:
            raise FileContentError(
                f"{shown(name)} is {sizes[0]} (height, width) in {shown(one.path)} and {sizes[1]} "
                f"in {shown(other.path)}."
            )


def agreement_table(found: Dict[str, Agreement]) -> str:
    """Return a table of what ``compare`` returned, for a terminal; percentages."""
    largest = max(SHARES)
    headers = ["", "images", *(f"PCK@{share:g}" for share in SHARES), f"either side@{largest:g}"]
    headers += [f"{group}@{largest:g}" for group in GROUPS]
    rows: List[Tuple] = [
        (name, one.images, *one.correct.values(), one.either_side, *one.groups.values())
        for name, one in found.items()
    ]
    return tabulate(rows, headers, floatfmt=".1f", disable_numparse=[0])
