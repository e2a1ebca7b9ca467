"""Rank-1 from each camera to each other: where a model fails, within a modality or across.

A cell is a single-shot search: all images of the query's camera, in a gallery of one image of each
identity that the other camera has seen. Galleries are drawn as on SYSU-MM01 (``galleries.py``).
The field leaves out images of the query's own camera, which show the same place at nearly the same
time, so a camera is not compared with itself. Pairs of cameras that the protocol never compares are
left out in both directions.

C cameras, N test images.
"""

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from ..data.item import test_items
from ..modality import Modality
from .features import TestFeatures
from .galleries import folders_of, random_galleries
from .protocols import Trial
from .ranking.arguments import labels_of
from .ranking.scores import FeatureScorer
from .ranking.trials import rank_with
from .rules import RankRules

OWN, NEVER, NOBODY = "own camera", "never compared", "no common identity"


class Camera(NamedTuple):
    """A camera in one modality; LLCM's cameras film in both."""

    modality: int  # of ``Modality``; -1: the dataset has none
    number: int

    @property
    def group(self) -> str:
        """Return the name of its modality; empty if the dataset has none."""
        return Modality(self.modality).label if self.modality >= 0 else ""


@dataclass(frozen=True)
class CameraMatrix:
    """Rank-1 from query camera (row) to gallery camera (column)."""

    cameras: Tuple[Camera, ...]  # visible ones first
    rank1: np.ndarray  # (C, C) percent, mean over the trials; NaN: not compared
    std: np.ndarray  # (C, C) over the trials
    queries: np.ndarray  # (C, C) images whose identity the gallery's camera has seen
    identities: np.ndarray  # (C,) size of each camera's gallery
    why: Tuple[Tuple[str, ...], ...]  # (C, C) why a cell is empty; "": it is not
    trials: int

    def means(self) -> Dict[str, float]:
        """Return the mean over the cells within each modality and in each direction across.

        A mean of no cell is left out.
        """
        groups = list(dict.fromkeys(camera.group for camera in self.cameras))
        names = {(own, own): f"within {own or 'all cameras'}" for own in groups}
        for own in groups:
            names.update({(own, other): f"{own} to {other}" for other in groups if other != own})
        cells = {
            name: self.rank1[np.ix_(self._of(own), self._of(other))]
            for (own, other), name in names.items()
        }
        return {n: float(np.nanmean(c)) for n, c in cells.items() if np.isfinite(c).any()}

    def _of(self, group: str) -> List[int]:
        return [place for place, camera in enumerate(self.cameras) if camera.group == group]


def camera_matrix(
    features: TestFeatures,
    dataset: Any,
    rules: RankRules,
    *,
    metric: str = "cosine",
    trials: int = 10,
    device: str = "",
) -> CameraMatrix:
    """Search with the images of each camera among those of each other camera.

    Args:
        features: of all test images of ``dataset``.
        dataset: has ``query`` and ``gallery``.
        rules: which cameras are never compared.
        metric: ``"cosine"`` or ``"euclidean"``.
        trials: galleries that are drawn; trial t has seed t.
        device: where to compute; empty: where the features are.

    Raises:
        UserError: the features do not suit the dataset or are not finite, or an argument is wrong.
    """
    own = [Camera(*pair) for pair in zip(features.modalities.tolist(), features.camids.tolist())]
    cameras = tuple(sorted(set(own)))
    place = {camera: number for number, camera in enumerate(cameras)}
    camera_of = np.array([place[camera] for camera in own])
    galleries = _galleries(dataset, camera_of, len(cameras), trials)
    everyone = np.arange(len(own))
    labels = labels_of(features.targets, features.camids, len(own), "features", RankRules())
    scorer = FeatureScorer(features.features, metric, device)
    ranked = rank_with(
        scorer, labels, [Trial(everyone, rows) for rows in galleries], RankRules(max_rank=1)
    )
    shape = (len(cameras), len(cameras))
    hits, queries = np.zeros((trials, *shape)), np.zeros(shape, dtype=np.int64)
    for number, result in enumerate(ranked):
        assert result.first_rank is not None
        trial, other = divmod(number, len(cameras))
        known = result.first_rank > 0
        queries[:, other] = np.bincount(camera_of[known], minlength=len(cameras))
        found = camera_of[result.first_rank == 1]
        hits[trial, :, other] = np.bincount(found, minlength=len(cameras))
    why = _why_empty(cameras, queries, rules)
    empty = np.array([[bool(word) for word in line] for line in why])
    with np.errstate(invalid="ignore", divide="ignore"):
        percent = np.where(empty, np.nan, 100.0 * hits / queries)
    return CameraMatrix(
        cameras=cameras,
        rank1=percent.mean(axis=0),
        std=percent.std(axis=0),
        queries=np.where(empty, 0, queries),
        identities=np.array([len(rows) for rows in galleries[: len(cameras)]]),
        why=why,
        trials=trials,
    )


def _galleries(dataset: Any, camera_of: np.ndarray, cameras: int, trials: int) -> List[np.ndarray]:
    """Return the rows of each trial's galleries, one after the other: one for each camera."""
    items = test_items(dataset)
    drawn: List[List[np.ndarray]] = [[] for _ in range(trials)]
    for modality in sorted({item.modality for item in items}):
        numbers = sorted({item.camid for item in items if item.modality == modality})
        folders = folders_of(dataset, Modality(modality), numbers, "The matrix of cameras")
        for trial, rows in enumerate(random_galleries(folders, 1, trials)):
            drawn[trial].append(rows)
    together = [np.concatenate(parts) for parts in drawn]
    return [rows[camera_of[rows] == camera] for rows in together for camera in range(cameras)]


def _why_empty(
    cameras: Tuple[Camera, ...], queries: np.ndarray, rules: RankRules
) -> Tuple[Tuple[str, ...], ...]:
    numbers = np.array([camera.number for camera in cameras])
    same = np.ones((), dtype=bool)
    never = rules.hides(same, numbers[:, None], numbers[None])
    never = np.broadcast_to(never | never.T, queries.shape)

    def word(row: int, column: int) -> str:
        if row == column:
            return OWN
        if never[row, column]:
            return NEVER
        return NOBODY if queries[row, column] == 0 else ""

    return tuple(tuple(word(r, c) for c in range(len(cameras))) for r in range(len(cameras)))
