"""Make an index of a folder of images, and keep it up to date."""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Union

import numpy as np
from tqdm import tqdm

from ..engine.feature_extractor import FeatureExtractor
from ..errors import UserError
from ..evaluation.neighbors.faiss_index import FLAT
from ..modality import Modality
from .approximate import LEAST_IMAGES, factory_words
from .beginning import (
    absolute,
    check_same_index,
    create_catalog,
    look_at_gray_values,
    make_index_folder,
    require_images,
)
from .broken_list import BrokenList
from .catalog import CATALOG
from .feature_file import page_sums, sole_writer
from .folder import FoundImage, check_image_folder, scan_images
from .index import SearchIndex
from .loading import load_images

logger = logging.getLogger(__name__)

# Features are written after this many images or seconds; a kill loses at most these.
_IMAGES_AT_ONCE, _SECONDS = 4_096, 10.0
_COMPACT_FROM = 1_000  # the file is rewritten only if more rows belong to deleted images


@dataclass
class IndexingSummary:
    """What ``index_folder`` did."""

    found: int = 0  # images in the folder
    unchanged: int = 0  # images whose features were there
    added: int = 0
    dropped: int = 0  # changed or removed since the last time
    broken: int = 0  # files and folders that could not be read
    seconds: float = 0.0  # time spent on the images that were added or broken
    search: str = ""  # how the index is searched, in words

    @property
    def rate(self) -> float:
        """Return the images per second."""
        return (self.added + self.broken) / max(self.seconds, 1e-9)


def index_folder(
    extractor: FeatureExtractor,
    images: Union[str, Path],
    modality: Union[str, Modality],
    out: Union[str, Path],
    *,
    weights: str = "",
    kind: str = "",
    workers: int = 1,
    progress: bool = True,
) -> IndexingSummary:
    """Make an index of all images below a folder, or bring it up to date.

    Features of files whose size and time of change are as before are kept. A process that is
    killed loses at most the images of the last 10 seconds; call it again to continue.

    Args:
        extractor: the model.
        images: the folder of the images.
        modality: the modality of all images.
        out: the folder of the index.
        weights: the checkpoint of the extractor; it is remembered for queries.
        kind: ``"flat"`` (exact), ``"hnsw"``, ``"ivf-pq"`` or words of faiss's factory; empty: the
            kind that the index has, or flat for a new index.
        workers: number of processes that read images; 0: this process reads them.
        progress: show progress bars on a terminal.

    Raises:
        UserError: there are no images; the index belongs to another model, modality or folder;
            another process is writing into it; ``out`` holds something else; or the model needs
            key points, and the extractor has no file of them.
        OSError: the operating system reports an error, such as a full disk.
    """
    images, out = Path(os.path.abspath(images)), Path(os.path.abspath(out))
    modality = modality if isinstance(modality, Modality) else Modality.parse(modality)
    check_image_folder(images)
    extractor.check_keypoints()
    if workers < 0:
        raise UserError(f"--workers must be 0 or more; got {workers}.")
    if kind:
        factory_words(kind, extractor.feature_size, LEAST_IMAGES)
    make_index_folder(out)
    with sole_writer(out):
        if not (out / CATALOG).is_file():
            require_images(images, out)
            create_catalog(out, extractor, images, modality, weights, kind)
        index = SearchIndex(out, writable=True)
        try:
            check_same_index(index, extractor, images, modality, weights)
            look_at_gray_values(extractor, images, modality, out)
            index.catalog.remember(
                images=str(images),
                kind=kind or index.facts["kind"],
                weights=absolute(weights) or index.facts["weights"],
            )
            return _Indexing(index, extractor, workers, progress).run()
        finally:
            index.catalog.close()


class _Indexing:
    """One run over the folder of the images.

    Args:
        index: the index, opened for writing.
    """

    def __init__(
        self, index: SearchIndex, extractor: FeatureExtractor, workers: int, progress: bool
    ) -> None:
        self._index, self._extractor, self._workers = index, extractor, workers
        self._hidden = None if progress else True  # None: hidden where there is no terminal
        self._progress = progress
        self._catalog = index.catalog
        self._file = index.feature_file()
        self._file.trim(self._catalog.num_rows)
        if not self._catalog.has_sums:
            self._catalog.add_sums(page_sums(index.features[:], 0))
        self._summary = IndexingSummary()

    def run(self) -> IndexingSummary:
        """Compare, compute what is missing, and build the approximate search."""
        summary, catalog = self._summary, self._catalog
        catalog.remember(complete=False)
        broken = BrokenList(self._index.folder)
        try:
            missing = self._compare(broken)
            begin = time.perf_counter()
            self._compute(missing, broken)
            summary.seconds = time.perf_counter() - begin
        except BaseException:
            broken.abandon()
            raise
        broken.finish()
        summary.broken = broken.number
        self._compact()
        summary.search = self._build_search()
        catalog.remember(complete=True)
        return summary

    def _compare(self, broken: BrokenList) -> int:
        """Look at what is in the folder; return how many images have no features yet."""
        index, summary, catalog = self._index, self._summary, self._catalog
        found = self._scanned(broken)
        with tqdm(found, unit="img", desc="looking", disable=self._hidden) as bar:
            summary.found = catalog.note_found(bar)
        for folder in broken.folders:
            catalog.keep_below(folder)
        if summary.found == 0 and len(catalog):
            raise UserError(
                f"{index.images} holds no image now, and the index has {len(catalog):,}. Is a "
                f"disk missing? To index other images, give a new --out."
            )
        summary.dropped = catalog.forget_others()
        summary.unchanged = len(catalog)
        return catalog.note_missing()

    def _scanned(self, broken: BrokenList) -> Iterator[FoundImage]:
        """Yield the images in the folder; other key points count as another time of change."""
        index, keypoints = self._index, self._extractor.keypoints
        for image in scan_images(index.images, broken.add, skip=index.folder):
            if keypoints is None:
                yield image
            else:
                known = keypoints.checksum(index.images / os.fsdecode(image.name))
                yield image._replace(mtime=image.mtime ^ known)

    def _compute(self, missing: int, broken: BrokenList) -> None:
        """Compute the missing features, and write them block by block."""
        images: List[FoundImage] = []
        features: List[np.ndarray] = []
        saved = time.perf_counter()
        with tqdm(total=missing, unit="img", desc="features", disable=self._hidden) as bar:
            for loaded in load_images(
                self._extractor,
                self._index.modality,
                self._index.images,
                self._catalog.missing(),
                self._workers,
            ):
                for problem in loaded.broken:
                    broken.add(*problem)
                images += loaded.images
                features.append(loaded.features)
                now = time.perf_counter()
                if len(images) >= _IMAGES_AT_ONCE or now - saved > _SECONDS:
                    self._save(images, features)
                    images, features, saved = [], [], now
                bar.update(len(loaded.images) + len(loaded.broken))
        self._save(images, features)

    def _save(self, images: List[FoundImage], features: List[np.ndarray]) -> None:
        if images:
            rows, last_sum = self._catalog.num_rows, self._catalog.last_sum()
            sums = self._file.append(rows, np.concatenate(features), last_sum)
            self._catalog.add(images, sums)
            self._summary.added += len(images)

    def _compact(self) -> None:
        """Drop the features of images that are gone, once they outnumber the others."""
        rows, sums = self._catalog.read()
        total = self._catalog.num_rows
        if total - len(rows) > max(len(rows), _COMPACT_FROM):
            other, sums_there = self._file.compacted(self._file.read(total, sums), rows)
            self._catalog.renumber(other.generation, sums_there)
            self._file = other
            self._file.trim(len(rows))

    def _build_search(self) -> str:
        """Build or remove the approximate search; return in words how the index is searched."""
        rows, kind = self._catalog.rows(), self._index.facts["kind"]
        search = self._index.approximate_search()
        search.remove_others()
        if kind == FLAT or len(rows) < LEAST_IMAGES:
            search.remove()
            later = f" ({kind} from {LEAST_IMAGES:,} images on)" if kind != FLAT else ""
            return f"exact{later}"
        words = self._words(kind, len(rows))
        search.update(words, self._index.features, rows, self._progress)
        return f"{words}, approximate; the scores of what it finds are exact"

    def _words(self, kind: str, num_images: int) -> str:
        """Return faiss's words for this number of images; they stay while the number is similar."""
        made_for: Dict[str, Any] = self._index.facts.get("made_for", {})
        if made_for.get("kind") != kind or not (
            num_images / 2 <= made_for["images"] <= num_images * 2
        ):
            made_for = {"kind": kind, "images": num_images}
            self._catalog.remember(made_for=made_for)
        return factory_words(kind, self._index.facts["dimensions"], made_for["images"])
