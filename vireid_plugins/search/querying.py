"""Search an index for the images most similar to your own."""

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from ..cells import safe_cells
from ..data.item import Item
from ..data.range_survey import check_ranges_suit
from ..engine.feature_extractor import FeatureExtractor
from ..files import write_atomically
from ..modality import Modality
from .folder import FoundImage
from .index import SearchIndex
from .loading import load_images

CSV_HEADER = ("query", "rank", "score", "at_or_above_threshold", "image")
_QUERIES_AT_ONCE = 512


@dataclass(frozen=True)
class Query:
    """A query and its results, best first."""

    path: Path
    name: str  # as the user gave it
    scores: np.ndarray  # (k,) float32, cosine similarities
    names: List[bytes]  # k images, relative to the folder of the index


def search_images(
    index: SearchIndex,
    extractor: FeatureExtractor,
    images: Iterable[bytes],
    modality: Modality,
    topk: int,
    *,
    folder: Path = Path(),
    workers: int = 0,
    on_broken: Callable[[bytes, str], None],
) -> Iterator[Query]:
    """Yield the ``topk`` images of ``index`` most similar to each of ``images``, in their order.

    Args:
        images: file names, relative to ``folder``.
        modality: the modality of the queries.
        on_broken: called with the name of a query that cannot be read, and the reason; the query
            is skipped.
        workers: number of processes that read images; 0: this process reads.

    Raises:
        UserError: for the same reasons as ``SearchIndex.search``; or the model needs key points,
            and the extractor has no file of them.
    """
    extractor.check_keypoints()
    images = list(images)
    _look_at_gray_values(extractor, folder, images, modality)
    found = (FoundImage(name, 0, 0) for name in images)
    asked: List[FoundImage] = []
    features: List[np.ndarray] = []
    for loaded in load_images(extractor, modality, folder, found, workers):
        for problem in loaded.broken:
            on_broken(*problem)
        asked += loaded.images
        features.append(loaded.features)
        if len(asked) >= _QUERIES_AT_ONCE:
            yield from _answers(index, folder, asked, np.concatenate(features), topk)
            asked, features = [], []
    if asked:
        yield from _answers(index, folder, asked, np.concatenate(features), topk)


def _look_at_gray_values(
    extractor: FeatureExtractor, folder: Path, images: Sequence[bytes], modality: Modality
) -> None:
    """Say by which range some of the queries are read if they have more than 8 bits."""
    names = [os.fsdecode(name) for name in images]
    items = [Item(str(folder / name), None, None, modality) for name in names]
    check_ranges_suit(extractor.reader, items, "Queries")


def _answers(
    index: SearchIndex, folder: Path, asked: List[FoundImage], features: np.ndarray, topk: int
) -> Iterator[Query]:
    hits = index.search(features, topk)
    for image, scores, names in zip(asked, hits.scores, hits.names):
        name = os.fsdecode(image.name)
        yield Query(folder / name, name, scores, names)


def write_csv(queries: Iterable[Query], path: Path, threshold: Optional[float]) -> int:
    """Write a line for each result as it comes; the file appears once it is complete.

    Returns:
        The number of queries.
    """
    number = 0

    def write(file: Any) -> None:
        nonlocal number
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(CSV_HEADER)
        for query in queries:
            rows.writerows(map(safe_cells, _lines(query, threshold)))
            number += 1
        text.flush()
        text.detach()

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, write)
    return number


def _lines(query: Query, threshold: Optional[float]) -> Iterator[Tuple[Any, ...]]:
    for rank, (score, name) in enumerate(zip(query.scores.tolist(), query.names), start=1):
        above = "" if threshold is None else "yes" if score >= threshold else "no"
        yield query.name, rank, f"{score:.6f}", above, os.fsdecode(name)
