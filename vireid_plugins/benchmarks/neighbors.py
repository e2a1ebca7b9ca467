"""Approximate neighbors, against the exact ones: recall@10, time, size on disk."""

import argparse
import os
import tempfile
import time
from functools import partial
from types import SimpleNamespace
from typing import Any, Dict

import numpy as np

from vireid_plugins.evaluation import NearestNeighbors

from .measuring import ratio, say, times_in_turn
from .million import make_case


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this topic."""
    parser.add_argument("--queries", type=int, default=1000, help="number of queries")
    parser.add_argument("--gallery", type=int, default=200_000, help="number of items")
    parser.add_argument("--size", type=int, default=256, help="dimensions of a feature")
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32, 128], help="lists")
    parser.add_argument(
        "--indexes",
        nargs="+",
        default=["HNSW32", "IVF,SQ8", "IVF,PQ64", "OPQ64,IVF,PQ64"],
        help="words of faiss's factory",
    )
    parser.set_defaults(repeats=3)


def run(args: argparse.Namespace) -> Dict[str, Any]:
    """Measure each index with each number of probes."""
    case = SimpleNamespace(queries=args.queries, gallery=args.gallery, size=args.size)
    query, gallery = make_case(case, positives=10)[:2]
    exact = NearestNeighbors().fit(gallery)
    wanted = exact.search(query, 10)[1]
    results: Dict[str, Any] = {"flat": {"bytes": gallery.nbytes}}
    for words in args.indexes:
        begin = time.perf_counter()
        index = NearestNeighbors(index=words).fit(gallery)
        training = time.perf_counter() - begin
        size = _size_on_disk(index)
        for probes in args.probes if "IVF" in words else [0]:
            index.probes = max(1, probes)
            found = index.search(query, 10)[1]
            cases = {
                "exact": partial(exact.search, query, 10),
                "approximate": partial(index.search, query, 10),
            }
            seconds = times_in_turn(cases, args.repeats, warm_up=False)
            name = f"{words}, {probes} probes" if probes else words
            results[name] = {
                "recall@10": float(np.mean([np.isin(a, b).mean() for a, b in zip(wanted, found)])),
                **seconds,
                "ratio of exact to approximate": ratio(seconds, "exact", "approximate"),
                "seconds to train and fill": training,
                "share of the items' size on disk": size / gallery.nbytes,
            }
            for key, value in results[name].items():
                say(name, key, value)
    return results


def _size_on_disk(index: NearestNeighbors) -> int:
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "index")
        index.save(target)
        return sum(entry.stat().st_size for entry in os.scandir(target))
