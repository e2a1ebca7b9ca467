"""Measure an index of a folder, one query at a time: opening, latency, recall, size on disk."""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import faiss
import numpy as np

from ..search import SearchIndex
from ..search.approximate import KINDS, factory_words
from ..search.catalog import Catalog
from ..search.folder import FoundImage
from .measures import Measure
from .measuring import MEASURES, say_all, times_in_turn
from .million import make_case
from .rates import MEMORY

_BLOCK = 10_000


def run(
    *,
    gallery: int = 100_000,
    queries: int = 100,
    size: int = 512,
    topk: int = 10,
    kinds: Sequence[str] = KINDS,
    repeats: int = 5,
    threads: int = 2,
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure each kind of index on the same made-up features, ten of each identity.

    Args:
        gallery: number of images; none is read.
        queries: number of queries for the recall.
        size: dimensions of a feature.
        topk: results of a query.
        processor_time: measure seconds of the processor, see ``times_in_turn``.
    """
    timed = partial(times_in_turn, processor=processor_time)
    faiss.omp_set_num_threads(threads)
    features = make_case(queries, gallery, size, positives=10)[:2]
    query, rows = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in features)
    results: Dict[str, Any] = {}
    exact: List[Any] = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            results[kind] = _measured(Path(folder), kind, query, rows, topk, repeats, exact, timed)
        say_all(kind, results[kind])
    return results


def _measured(
    folder: Path,
    kind: str,
    query: np.ndarray,
    gallery: np.ndarray,
    topk: int,
    repeats: int,
    exact: List[Any],
    timed: Callable[..., Dict[str, List[float]]],
) -> Dict[str, Any]:
    _write_index(folder, gallery)
    begin = time.perf_counter()
    if kind != "flat":
        words = factory_words(kind, gallery.shape[1], len(gallery))
        index = SearchIndex(folder)
        index.approximate_search().update(
            words, index.features, index.catalog.rows(), progress=False
        )
    built = time.perf_counter() - begin
    opened = timed({kind: lambda: SearchIndex(folder).search(query[:1], topk)}, 1)
    index = SearchIndex(folder)
    asked = timed({kind: partial(index.search, query[:1], topk)}, repeats)
    names = index.search(query, topk).names
    if not exact:
        scores = query @ gallery.T
        exact += [set(row) for row in np.argsort(-scores, axis=1)[:, :topk].tolist()]
    hits = sum(len({int(name) for name in row} & right) for row, right in zip(names, exact))
    return {
        "seconds to build the approximate search": built,
        "open and first query": opened[kind],
        "a query": asked[kind],
        MEASURES: [
            Measure("open and first query", opened[kind]),
            Measure("a query", asked[kind], {MEMORY: gallery.nbytes} if kind == "flat" else {}),
        ],
        f"recall@{topk}": hits / sum(map(len, exact)),
        "MiB on disk": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20,
    }


def _write_index(folder: Path, gallery: np.ndarray) -> None:
    """Write what ``index_folder`` writes, of images that do not exist."""
    Catalog.create(
        folder,
        {
            "fingerprint": "0" * 16,
            "weights": "",
            "modality": "visible",
            "images": str(folder),
            "dimensions": gallery.shape[1],
            "kind": "flat",
            "complete": True,
        },
    )
    index = SearchIndex(folder, writable=True)
    index.feature_file().trim(0)
    for begin in range(0, len(gallery), _BLOCK):
        block = gallery[begin : begin + _BLOCK]
        sums = index.feature_file().append(begin, block, index.catalog.last_sum())
        images = [FoundImage(b"%d" % (begin + i), 0, 0) for i in range(len(block))]
        index.catalog.add(images, sums)
    index.catalog.close()
