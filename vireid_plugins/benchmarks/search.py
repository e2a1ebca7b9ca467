"""An index of a folder, asked for one image at a time: opening, latency, recall, size on disk."""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import faiss
import numpy as np

from vireid_plugins.search import SearchIndex
from vireid_plugins.search.approximate import KINDS, factory_words
from vireid_plugins.search.catalog import Catalog
from vireid_plugins.search.folder import FoundImage

from .measuring import say, times_in_turn
from .million import make_case

_BLOCK = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this topic."""
    parser.add_argument("--gallery", type=int, default=100_000, help="number of images")
    parser.add_argument("--queries", type=int, default=100, help="queries of the recall")
    parser.add_argument("--size", type=int, default=512, help="dimensions of a feature")
    parser.add_argument("--topk", type=int, default=10, help="results of a query")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), help="of --index")


def run(args: argparse.Namespace) -> Dict[str, Any]:
    """Measure each kind on the same made-up features, ten of each identity; no image is read."""
    faiss.omp_set_num_threads(args.threads)
    case = SimpleNamespace(queries=args.queries, gallery=args.gallery, size=args.size)
    query, gallery = make_case(case, positives=10)[:2]
    query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    results: Dict[str, Any] = {}
    exact: List[Any] = []
    for kind in args.kinds:
        with tempfile.TemporaryDirectory() as folder:
            results[kind] = _measured(Path(folder), kind, query, gallery, args, exact)
        for key, value in results[kind].items():
            say(kind, key, value)
    return results


def _measured(
    folder: Path,
    kind: str,
    query: np.ndarray,
    gallery: np.ndarray,
    args: argparse.Namespace,
    exact: List[Any],
) -> Dict[str, Any]:
    _write_index(folder, gallery)
    begin = time.perf_counter()
    if kind != "flat":
        words = factory_words(kind, args.size, args.gallery)
        index = SearchIndex(folder)
        index.approximate_search().update(
            words, index.features, index.catalog.rows(), progress=False
        )
    built = time.perf_counter() - begin
    opened = times_in_turn({kind: lambda: SearchIndex(folder).search(query[:1], args.topk)}, 1)
    index = SearchIndex(folder)
    asked = times_in_turn({kind: partial(index.search, query[:1], args.topk)}, args.repeats)
    names = index.search(query, args.topk).names
    if not exact:
        scores = query @ gallery.T
        exact += [set(row) for row in np.argsort(-scores, axis=1)[:, : args.topk].tolist()]
    hits = sum(len({int(name) for name in row} & right) for row, right in zip(names, exact))
    return {
        "seconds to build the approximate search": built,
        "open and first query": opened[kind],
        "a query": asked[kind],
        f"recall@{args.topk}": hits / sum(map(len, exact)),
        "MiB on disk": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20,
    }


def _write_index(folder: Path, gallery: np.ndarray) -> None:
    """As ``index_folder`` writes it, of images that do not exist."""
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
        index.feature_file().append(begin, block)
        index.catalog.add([FoundImage(b"%d" % (begin + i), 0, 0) for i in range(len(block))])
    index.catalog.close()
