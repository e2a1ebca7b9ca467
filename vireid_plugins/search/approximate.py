"""Search large indexes approximately, with faiss indexes built from the features on the disk.

Shapes: R rows of features, of which N belong to images, D features.
"""

import logging
import math
import shutil
from pathlib import Path
from typing import Any, Optional

import numpy as np
from tqdm import tqdm

from ..errors import UserError
from ..evaluation import NearestNeighbors
from ..evaluation.neighbors.faiss_index import FLAT, approximate_index

logger = logging.getLogger(__name__)

KINDS = (FLAT, "hnsw", "ivf-pq")
#: below this many images every kind is searched exactly, which takes milliseconds; clusters of
#: fewer images would mean little
LEAST_IMAGES = 10_000
BLOCK = 1 << 16  # rows handled at once
_TRAINING_BYTES = 1 << 29
_MOST_GONE = 0.1  # if a larger share of the images is gone, everything is rebuilt
_MOST_CODES = 64  # bytes of a product quantizer


def factory_words(kind: str, size: int, num_images: int) -> str:
    """Return faiss's words for ``kind`` and N images: ``"flat"``, or words of its factory.

    Args:
        kind: one of ``KINDS``, or faiss's own words, in which ``IVF`` gets a number of lists.
        size: D.

    Raises:
        UserError: faiss does not know the words, or is not installed.
    """
    if kind == FLAT:
        return FLAT
    codes = max(n for n in range(1, min(size, _MOST_CODES) + 1) if size % n == 0)
    words = {"hnsw": "HNSW32", "ivf-pq": f"IVF,PQ{codes}"}.get(kind, kind)
    lists = max(1, min(_num_training(size, num_images) // 39, int(4 * math.sqrt(num_images))))
    words = ",".join(f"IVF{lists}" if word == "IVF" else word for word in words.split(","))
    try:
        approximate_index(words, size, "cosine", num_images)
    except ValueError as error:
        raise UserError(f"--index {kind!r} is none of {', '.join(KINDS)}; {error}") from error
    return words


def _num_training(size: int, num_images: int) -> int:
    return min(num_images, max(1, _TRAINING_BYTES // (4 * size)))


class ApproximateSearch:
    """A faiss index over the first rows of the features, in a folder of its own.

    ``neighbors`` is None until an index was built and loaded; rows from ``end`` on are not in it.

    Args:
        folder: the folder of the search index.
        generation: number of the feature file: each renumbers its rows.
        fingerprint: fingerprint of the model.
    """

    def __init__(self, folder: Path, generation: int, fingerprint: str) -> None:
        self._index_folder = folder
        self.folder = folder / f"neighbors-{generation}"
        self.fingerprint = fingerprint
        self.neighbors: Optional[NearestNeighbors] = None
        self.end = 0

    def load(self) -> "ApproximateSearch":
        """Read the faiss index, if one was built; return itself."""
        if (self.folder / "index.json").is_file():
            self._use(NearestNeighbors.load(self.folder, fingerprint=self.fingerprint))
        return self

    def _use(self, neighbors: NearestNeighbors) -> None:
        assert neighbors.ids is not None, "it was built with the numbers of its rows"
        self.neighbors, self.end = neighbors, int(neighbors.ids.max()) + 1

    def num_gone(self, rows: np.ndarray) -> int:
        """Return how many of its images are gone.

        Args:
            rows: (N,) ascending: the rows of the images that are left.
        """
        if self.neighbors is None:
            return 0
        return len(self.neighbors) - int(np.searchsorted(rows, self.end))

    def remove(self) -> None:
        """Delete it from the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.neighbors, self.end = None, 0

    def remove_others(self) -> None:
        """Delete the files that other generations or killed processes have left."""
        for pattern in ("neighbors-*", ".neighbors-*.partial"):
            for folder in self._index_folder.glob(pattern):
                if folder != self.folder:
                    shutil.rmtree(folder, ignore_errors=True)

    def update(self, words: str, features: Any, rows: np.ndarray, progress: bool = True) -> None:
        """Bring the index up to date, so that it holds ``rows`` (N,) of ``features`` (R, D).

        New rows are added. Everything is rebuilt if it was of another kind, or if many of its
        images are gone.

        Args:
            words: words of faiss's factory, not ``"flat"``.
        """
        self._try_to_load()
        if self.neighbors is not None and self._is_outdated(self.neighbors, words, rows):
            self.neighbors, self.end = None, 0
        new = rows[rows >= self.end]
        if len(new) == 0:
            return
        with tqdm(total=len(new), unit="img", desc=words, disable=_hidden(progress)) as bar:
            neighbors = self.neighbors
            if neighbors is None:
                neighbors = NearestNeighbors(index=words)
                neighbors.fingerprint = self.fingerprint
                new = _train(neighbors, features, rows)
                bar.update(len(rows) - len(new))
            for begin in range(0, len(new), BLOCK):
                block = new[begin : begin + BLOCK]
                neighbors.add(features[block], ids=block)
                bar.update(len(block))
        shutil.rmtree(self.folder, ignore_errors=True)
        neighbors.save(self.folder)
        self._use(neighbors)

    def _is_outdated(self, neighbors: NearestNeighbors, words: str, rows: np.ndarray) -> bool:
        return neighbors.index != words or self.num_gone(rows) > _MOST_GONE * len(neighbors)

    def _try_to_load(self) -> None:
        try:
            self.load()
        except Exception as error:  # half removed by a kill, or of another version of faiss
            logger.warning("%s cannot be read and is rebuilt: %s", self.folder, error)
            self.remove()


def _train(neighbors: NearestNeighbors, features: Any, rows: np.ndarray) -> np.ndarray:
    """Fit ``neighbors`` to rows drawn at random, and add these rows; return the other rows."""
    size, words = features.shape[1], neighbors.index
    count = _num_training(size, len(rows)) if "IVF" in words or "PQ" in words else BLOCK
    drawn = np.random.default_rng(0).permutation(len(rows))[:count]
    drawn.sort()
    chosen = np.zeros(len(rows), bool)
    chosen[drawn] = True
    neighbors.fit(features[rows[drawn]], ids=rows[drawn])
    return rows[~chosen]


def _hidden(progress: bool) -> Optional[bool]:
    return None if progress else True  # None: hidden where there is no terminal
