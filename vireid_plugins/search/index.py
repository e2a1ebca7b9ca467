"""An index of the images of a folder: what it is, and searching in it.

Shapes: N images, R rows of features (those of images that are gone stay for a while), D features,
Q queries, k results.
"""

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from ..engine.feature_extractor import FeatureExtractor
from ..evaluation import NearestNeighbors
from ..modality import Modality
from .approximate import BLOCK, Structure
from .catalogue import CATALOGUE, Catalogue
from .feature_file import FeatureFile

# Features up to this size are kept in memory, twice, from one search to the next.
_KEPT_BYTES = 1 << 29
# An approximate search fetches more than was asked for, and exact scores put it in order.
_FETCHED, _FETCHED_AT_LEAST, _GONE_AT_MOST = 4, 100, 1_000


class Hits(NamedTuple):
    """What a search found, best first; k is smaller where the index holds fewer images."""

    scores: np.ndarray  # (Q, k) float32, cosine similarities
    names: List[List[bytes]]  # Q lists of k names, relative to the folder of the images


class SearchIndex:
    """Features of a folder of images, and what is known of them.

    Args:
        folder: of the index, as ``index_folder`` makes it.
        writable: to write into it.

    Raises:
        FileNotFoundError: no index there. ValueError: it cannot be read.
    """

    def __init__(self, folder: Union[str, Path], *, writable: bool = False) -> None:
        self.folder = Path(folder)
        if not (self.folder / CATALOGUE).is_file():
            raise FileNotFoundError(
                f"{self.folder} is no index ({CATALOGUE} is absent). Make one: python "
                f"tools/search.py index --weights model_final.pth --images DIR --modality visible "
                f"--out {self.folder}"
            )
        self.catalogue = Catalogue(self.folder, writable)
        self._live: Optional[np.ndarray] = None
        self._blocks: Dict[int, Tuple[np.ndarray, NearestNeighbors]] = {}
        self._structure: Optional[Structure] = None

    @property
    def facts(self) -> Dict[str, Any]:
        """What the index stands on: ``weights``, ``fingerprint``, ``modality``, ``images``, ..."""
        return self.catalogue.facts

    @property
    def modality(self) -> Modality:
        """Of the images in it."""
        return Modality.parse(self.facts["modality"])

    @property
    def images(self) -> Path:
        """The folder of the images."""
        return Path(self.facts["images"])

    def __len__(self) -> int:
        return len(self.catalogue)

    def path_of(self, name: bytes) -> Path:
        """Where an image is, by its name in the index."""
        return self.images / os.fsdecode(name)

    # --------------------------------------------------------------------------------- model

    def extractor(self, weights: str = "", **options: Any) -> FeatureExtractor:
        """The model of this index: at ``weights``, or where it was when the index was made.

        Args:
            options: for ``FeatureExtractor``.

        Raises:
            FileNotFoundError: it is there no more. ValueError: it is another model.
        """
        path = Path(weights or self.facts["weights"])
        if not path.is_file():
            was = "--weights names" if weights else "The index remembers its model as"
            raise FileNotFoundError(
                f"{was} {path}, and there is no such file. If it was moved: --weights NEW_PATH"
            )
        extractor = FeatureExtractor(str(path), **options)
        self.check_model(extractor.fingerprint, str(path))
        return extractor

    def check_model(self, fingerprint: str, weights: str) -> None:
        """Raise ``ValueError`` unless features of this model can be compared with the index's."""
        if fingerprint != self.facts["fingerprint"]:
            raise ValueError(
                f"{self.folder} was made by the model {self.facts['fingerprint']} "
                f"({self.facts['weights']}), and {weights} is the model {fingerprint}: their "
                "features cannot be compared. Use that model, or make another index with this one."
            )

    # -------------------------------------------------------------------------------- search

    @property
    def features(self) -> np.ndarray:
        """Rows (R, D), mapped from the disk."""
        return self.feature_file().read(self.catalogue.num_rows)

    def feature_file(self) -> FeatureFile:
        """The file of the features."""
        return FeatureFile(self.folder, self.facts["generation"], self.facts["dimensions"])

    def structure(self) -> Structure:
        """What searches approximately, not read yet."""
        return Structure(self.folder, self.facts["generation"], self.facts["fingerprint"])

    def search(self, queries: np.ndarray, k: int) -> Hits:
        """The ``k`` images most similar to each query.

        Args:
            queries: features (Q, D) by the index's model, of either modality.
            k: at least 1; an index with fewer images gives all.

        Raises:
            ValueError: k below 1, an empty index, or features that do not fit.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1; got {k}.")
        if self._live is None:
            self._live = self.catalogue.rows()
            self._structure = self.structure().load()
        if len(self._live) == 0:
            raise ValueError(f"{self.folder} holds no image: nothing to search among.")
        k = min(k, len(self._live))
        if len(queries) == 0:
            return Hits(np.zeros((0, k), np.float32), [])
        found = [self._approximate(queries, k)] if self._structure.neighbors is not None else []
        found += list(self._exact(queries, k))
        scores, rows = _best(found, k)
        names = self.catalogue.names(np.unique(rows).tolist())
        return Hits(scores, [[names[row] for row in line] for line in rows.tolist()])

    def _approximate(self, queries: np.ndarray, k: int) -> Tuple[np.ndarray, np.ndarray]:
        """Scores and rows (Q, F) of candidates, -inf where there is none; scores are exact."""
        neighbors = self._structure.neighbors
        gone = min(self._structure.num_gone(self._live), _GONE_AT_MOST)
        fetched = min(max(_FETCHED * k, _FETCHED_AT_LEAST) + gone, len(neighbors))
        indices = neighbors.search(queries, fetched)[1]
        rows = neighbors.ids[indices]
        place = np.searchsorted(self._live, rows).clip(max=len(self._live) - 1)
        usable = (indices >= 0) & (self._live[place] == rows)
        scores = np.full(rows.shape, -np.inf, np.float32)
        features = self.features
        for number, query in enumerate(np.asarray(queries, np.float32)):
            mine = usable[number]
            scores[number, mine] = features[rows[number, mine]] @ query
        return scores, rows

    def _exact(self, queries: np.ndarray, k: int) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
        """Scores and rows (Q, <= k) in each block of what no structure covers."""
        rest = self._live[np.searchsorted(self._live, self._structure.end) :]
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
    """The k greatest scores (Q, k) and their rows; equal ones by row."""
    scores = np.concatenate([part[0] for part in found], axis=1)
    rows = np.concatenate([part[1] for part in found], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    order = order[:, : int(np.isfinite(np.take_along_axis(scores, order, 1)).sum(1).min())]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
