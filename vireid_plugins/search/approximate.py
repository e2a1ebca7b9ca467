"""Approximate search for large indexes: building it from the features on the disk, and asking it.

Shapes: R rows of features of which N belong to images, D features, Q queries.
"""

import logging
import math
import shutil
from pathlib import Path
from typing import Any, Optional

import numpy as np
from tqdm import tqdm

from ..evaluation import NearestNeighbors
from ..evaluation.neighbors.faiss_index import FLAT, approximate_index

logger = logging.getLogger(__name__)

KINDS = (FLAT, "hnsw", "ivf-pq")
#: below this many images every kind is searched exactly: that takes milliseconds, and centres of
#: fewer would mean little
LEAST_IMAGES = 10_000
BLOCK = 1 << 16  # rows handled at once
_TRAINING_BYTES = 1 << 29
_MOST_GONE = 0.1  # share of images that are gone, above which the structure is made anew
_MOST_CODES = 64  # bytes of a product quantiser


def factory_words(kind: str, size: int, num_images: int) -> str:
    """What faiss calls ``kind`` for N images: ``"flat"``, or words of its factory.

    Args:
        kind: of ``KINDS``, or faiss's own words, in which ``IVF`` gets a number of lists.
        size: D.

    Raises:
        ValueError: faiss does not know the words. RuntimeError: it is not installed.
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
        raise ValueError(f"--index {kind!r} is none of {', '.join(KINDS)}; {error}") from error
    return words


def _num_training(size: int, num_images: int) -> int:
    return min(num_images, max(1, _TRAINING_BYTES // (4 * size)))


class Structure:
    """An approximate index over the first rows of the features, in a folder of its own.

    Args:
        folder: of the index.
        generation: of the features: their rows are numbered anew in each.
        fingerprint: of the model.
    """

    def __init__(self, folder: Path, generation: int, fingerprint: str) -> None:
        self._index_folder = folder
        self.folder = folder / f"neighbors-{generation}"
        self.fingerprint = fingerprint
        self.neighbors: Optional[NearestNeighbors] = None
        self.end = 0  # rows from here on are not in it

    def load(self) -> "Structure":
        """Read what was built; without anything, ``neighbors`` stays None. Returns itself."""
        if (self.folder / "index.json").is_file():
            self._use(NearestNeighbors.load(self.folder, fingerprint=self.fingerprint))
        return self

    def _use(self, neighbors: NearestNeighbors) -> None:
        self.neighbors, self.end = neighbors, int(neighbors.ids.max()) + 1

    def num_gone(self, rows: np.ndarray) -> int:
        """How many of its images are gone, where those of ``rows`` (N,), ascending, are left."""
        if self.neighbors is None:
            return 0
        return len(self.neighbors) - int(np.searchsorted(rows, self.end))

    def remove(self) -> None:
        """Delete it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.neighbors, self.end = None, 0

    def remove_others(self) -> None:
        """Delete what other generations, or killed processes, have left."""
        for pattern in ("neighbors-*", ".neighbors-*.partial"):
            for folder in self._index_folder.glob(pattern):
                if folder != self.folder:
                    shutil.rmtree(folder, ignore_errors=True)

    def update(self, words: str, features: Any, rows: np.ndarray, progress: bool = True) -> None:
        """Bring it up to ``rows`` (N,) of ``features`` (R, D).

        Rows are added to what there is, unless that is of another kind or many images of it are
        gone.

        Args:
            words: of faiss's factory, not ``"flat"``.
        """
        self._try_to_load()
        if self.neighbors is not None:
            same = self.neighbors.index == words
            if not same or self.num_gone(rows) > _MOST_GONE * len(self.neighbors):
                self.neighbors, self.end = None, 0
        new = rows[rows >= self.end]
        if len(new) == 0:
            return
        with tqdm(total=len(new), unit="img", desc=words, disable=_hidden(progress)) as bar:
            if self.neighbors is None:
                new = self._train(words, features, rows)
                bar.update(len(rows) - len(new))
            for begin in range(0, len(new), BLOCK):
                block = new[begin : begin + BLOCK]
                self.neighbors.add(features[block], ids=block)
                bar.update(len(block))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.neighbors.save(self.folder)
        self._use(self.neighbors)

    def _try_to_load(self) -> None:
        try:
            self.load()
        except Exception as error:  # half removed by a kill, or of another version of faiss
            logger.warning("%s cannot be read and is made anew: %s", self.folder, error)
            self.remove()

    def _train(self, words: str, features: Any, rows: np.ndarray) -> np.ndarray:
        """A new index, of rows drawn at random; returns the others."""
        size = features.shape[1]
        count = _num_training(size, len(rows)) if "IVF" in words or "PQ" in words else BLOCK
        drawn = np.random.default_rng(0).permutation(len(rows))[:count]
        drawn.sort()
        chosen = np.zeros(len(rows), bool)
        chosen[drawn] = True
        self.neighbors = NearestNeighbors(index=words)
        self.neighbors.fingerprint = self.fingerprint
        self.neighbors.fit(features[rows[drawn]], ids=rows[drawn])
        return rows[~chosen]


def _hidden(progress: bool) -> Optional[bool]:
    return None if progress else True  # None: hidden where there is no terminal
