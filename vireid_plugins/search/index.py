"""Open the index of a folder of images, and search in it.

Shapes: N images, R rows of features (those of images that are gone stay for a while), D features,
Q queries, k results.
"""

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..engine.feature_extractor import FeatureExtractor
from ..errors import CheckpointError, MissingFileError, UserError
from ..evaluation import NearestNeighbors
from ..modality import Modality
from .approximate import BLOCK, ApproximateSearch
from .catalog import CATALOG, Catalog
from .feature_file import CheckedRows, FeatureFile, sole_writer
from .threshold import Calibration

# Features up to this size are kept in memory, twice, from one search to the next.
_KEPT_BYTES = 1 << 29
# An approximate search fetches more results than were asked for; exact scores put them in order.
_FETCHED, _FETCHED_AT_LEAST, _GONE_AT_MOST = 4, 100, 1_000


class Hits(NamedTuple):
    """The results of a search, best first; k is smaller where the index holds fewer images."""

    scores: np.ndarray  # (Q, k) float32, cosine similarities
    names: List[List[bytes]]  # Q lists of k names, relative to the folder of the images


class _Opened(NamedTuple):
    """What is read at the first search."""

    rows: np.ndarray  # (N,) ascending: the rows of the images
    features: CheckedRows  # (R, D)
    approximate: ApproximateSearch


class SearchIndex:
    """Features of a folder of images, and the facts about them.

    Args:
        folder: folder of the index, as ``index_folder`` makes it.
        writable: open it for writing.

    Raises:
        MissingFileError: the folder holds no index.
        UserError: the index cannot be read.
    """

    def __init__(self, folder: Union[str, Path], *, writable: bool = False) -> None:
        self.folder = Path(folder)
        if not (self.folder / CATALOG).is_file():
            raise MissingFileError(
                f"{self.folder} is not an index: it has no {CATALOG}. Make one: vireid search "
                f"index --weights model_final.pth --images DIR --modality visible "
                f"--out {self.folder}"
            )
        self.catalog = Catalog(self.folder, writable)
        self._opened: Optional[_Opened] = None
        self._blocks: Dict[int, Tuple[np.ndarray, NearestNeighbors]] = {}

    @property
    def facts(self) -> Dict[str, Any]:
        """Return facts about the index: ``weights``, ``fingerprint``, ``modality``, ..."""
        return self.catalog.facts

    @property
    def modality(self) -> Modality:
        """Return the modality of the images."""
        return Modality.parse(self.facts["modality"])

    @property
    def images(self) -> Path:
        """Return the folder of the images."""
        return Path(self.facts["images"])

    def __len__(self) -> int:
        return len(self.catalog)

    def path_of(self, name: bytes) -> Path:
        """Return the path of an image by its name in the index."""
        return self.images / os.fsdecode(name)

    # --------------------------------------------------------------------------------- model

    def extractor(self, weights: str = "", **options: Any) -> FeatureExtractor:
        """Return the model of this index.

        Args:
            weights: its checkpoint; empty: the path that it had when the index was made.
            options: keyword arguments of ``FeatureExtractor``; the ranges of gray values are those
                of the images of the index.

        Raises:
            MissingFileError: the checkpoint is not there.
            CheckpointError: it holds another model.
        """
        path = Path(weights or self.facts["weights"])
        if not path.is_file():
            was = "--weights names" if weights else "The index remembers its model as"
            raise MissingFileError(
                f"{was} {path}, and there is no such file. If it was moved: --weights NEW_PATH"
            )
        ranges = {f"{m}_range": words for m, words in self.facts.get("ranges", {}).items()}
        extractor = FeatureExtractor(str(path), **{**ranges, **options})
        self.check_model(extractor.fingerprint, str(path))
        return extractor

    def check_model(self, fingerprint: str, weights: str) -> None:
        """Raise ``CheckpointError`` unless the model's features can be compared with the index."""
        if fingerprint != self.facts["fingerprint"]:
            raise CheckpointError(
                f"{self.folder} was made by the model {self.facts['fingerprint']} "
                f"({self.facts['weights']}), and {weights} is the model {fingerprint}: their "
                "features cannot be compared. Use that model, or make another index with this one."
            )

    def calibration(self, modality: Modality) -> Optional[Calibration]:
        """Return the calibration for queries of ``modality``; None if there is none."""
        known = self.facts.get("thresholds", {}).get(modality.label)
        return None if known is None else Calibration(**known)

    def keep_calibrations(self, found: Mapping[str, Calibration]) -> None:
        """Keep what ``calibrate`` returned in the index, also on the disk.

        Raises:
            UserError: another process is writing into the index.
        """
        with sole_writer(self.folder):
            catalog = Catalog(self.folder, writable=True)
            try:
                thresholds = {query: calibration._asdict() for query, calibration in found.items()}
                catalog.remember(thresholds=thresholds)
            finally:
                catalog.close()
        self.facts["thresholds"] = thresholds

    # -------------------------------------------------------------------------------- search

    @property
    def features(self) -> CheckedRows:
        """Return the rows (R, D), mapped from the disk; those that are used are checked first."""
        if self._opened is not None:
            return self._opened.features
        _, sums = self.catalog.read()
        return self.feature_file().read(self.catalog.num_rows, sums)

    def feature_file(self) -> FeatureFile:
        """Return the file of the features."""
        return FeatureFile(self.folder, self.facts["generation"], self.facts["dimensions"])

    def approximate_search(self) -> ApproximateSearch:
        """Return the approximate search of this index, without reading it."""
        return ApproximateSearch(self.folder, self.facts["generation"], self.facts["fingerprint"])

    def search(self, queries: np.ndarray, k: int) -> Hits:
        """Find the ``k`` images most similar to each query.

        Args:
            queries: features (Q, D) by the index's model, of either modality.
            k: at least 1; an index with fewer images returns all.

        Raises:
            UserError: k is below 1, the index is empty, or the features do not fit.
        """
        if k < 1:
            raise UserError(f"k must be at least 1; got {k}.")
        if self._opened is None:
            rows, sums = self.catalog.read()
            features = self.feature_file().read(self.catalog.num_rows, sums)
            self._opened = _Opened(rows, features, self.approximate_search().load())
        opened = self._opened
        if len(opened.rows) == 0:
            raise UserError(f"{self.folder} holds no image: there is nothing to find.")
        k = min(k, len(opened.rows))
        if len(queries) == 0:
            return Hits(np.zeros((0, k), np.float32), [])
        found = [*self._approximate(queries, k, opened), *self._exact(queries, k, opened)]
        scores, rows = _best(found, k)
        names = self.catalog.names(np.unique(rows).tolist())
        return Hits(scores, [[names[row] for row in line] for line in rows.tolist()])

    def _approximate(
        self, queries: np.ndarray, k: int, opened: _Opened
    ) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield exact scores and rows (Q, F) of candidates; -inf where there is no candidate."""
        neighbors = opened.approximate.neighbors
        if neighbors is None:
            return
        assert neighbors.ids is not None, "it was built with the numbers of its rows"
        gone = min(opened.approximate.num_gone(opened.rows), _GONE_AT_MOST)
        fetched = min(max(_FETCHED * k, _FETCHED_AT_LEAST) + gone, len(neighbors))
        indices = neighbors.search(queries, fetched)[1]
        rows = neighbors.ids[indices]
        place = np.searchsorted(opened.rows, rows).clip(max=len(opened.rows) - 1)
        usable = (indices >= 0) & (opened.rows[place] == rows)
        scores = np.full(rows.shape, -np.inf, np.float32)
        features = opened.features
        for number, query in enumerate(np.asarray(queries, np.float32)):
            mine = usable[number]
            scores[number, mine] = features[rows[number, mine]] @ query
        yield scores, rows

    def _exact(
        self, queries: np.ndarray, k: int, opened: _Opened
    ) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Yield exact scores and rows (Q, <= k) of all rows that no approximate search covers."""
        rest = opened.rows[np.searchsorted(opened.rows, opened.approximate.end) :]
        keep = len(rest) * self.facts["dimensions"] * 4 <= _KEPT_BYTES
        for begin in range(0, len(rest), BLOCK):
            if begin in self._blocks:
                rows, neighbors = self._blocks[begin]
            else:
                rows = rest[begin : begin + BLOCK]
                neighbors = NearestNeighbors().fit(self._rows(rows))
            if keep:
                self._blocks[begin] = rows, neighbors
            distances, indices = neighbors.search(queries, min(k, len(rows)))
            yield 1.0 - distances, rows[indices]

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        whole = rows[-1] - rows[0] == len(rows) - 1
        return np.array(self.features[rows[0] : rows[-1] + 1] if whole else self.features[rows])


def _best(found: List[Tuple[np.ndarray, np.ndarray]], k: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the k greatest scores (Q, k) and their rows; equal scores are ordered by row."""
    scores = np.concatenate([part[0] for part in found], axis=1)
    rows = np.concatenate([part[1] for part in found], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    order = order[:, : int(np.isfinite(np.take_along_axis(scores, order, 1)).sum(1).min())]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
