"""Compare approximate neighbors with the exact ones: recall@10, time, size on disk."""

import os
import tempfile
import time
from functools import partial
from typing import Any, Dict, Sequence

import numpy as np

from ..evaluation import NearestNeighbors
from .measures import Measure
from .measuring import MEASURES, ratio, say_all, times_in_turn
from .million import make_case
from .rates import PRODUCT


def run(
    *,
    queries: int = 1000,
    gallery: int = 200_000,
    size: int = 256,
    indexes: Sequence[str] = ("HNSW32", "IVF,SQ8", "IVF,PQ64", "OPQ64,IVF,PQ64"),
    probes: Sequence[int] = (8, 32, 128),
    repeats: int = 3,
    threads: int = 2,
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure each index with each number of probes.

    Args:
        queries: number of queries.
        gallery: number of items.
        size: dimensions of a feature.
        indexes: index names of faiss.
        probes: lists that an index with lists looks at.
        processor_time: measure seconds of the processor, see ``times_in_turn``.
    """
    query, items = make_case(queries, gallery, size, positives=10)[:2]
    exact = NearestNeighbors().fit(items)
    wanted = exact.search(query, 10)[1]
    results: Dict[str, Any] = {"flat": {"bytes": items.nbytes}}
    for words in indexes:
        begin = time.perf_counter()
        index = NearestNeighbors(index=words).fit(items)
        training = time.perf_counter() - begin
        bytes_on_disk = _size_on_disk(index)
        for lists in probes if "IVF" in words else [0]:
            index.probes = max(1, lists)
            found = index.search(query, 10)[1]
            cases = {
                "exact": partial(exact.search, query, 10),
                "approximate": partial(index.search, query, 10),
            }
            seconds = times_in_turn(cases, repeats, warm_up=False, processor=processor_time)
            name = f"{words}, {lists} probes" if lists else words
            results[name] = {
                "recall@10": float(np.mean([np.isin(a, b).mean() for a, b in zip(wanted, found)])),
                **seconds,
                MEASURES: [
                    Measure("exact", seconds["exact"], {PRODUCT: queries * gallery * size}),
                    Measure("approximate", seconds["approximate"], {}, seconds["exact"]),
                ],
                "ratio of exact to approximate": ratio(seconds, "exact", "approximate"),
                "seconds to train and fill": training,
                "share of the items' size on disk": bytes_on_disk / items.nbytes,
            }
            say_all(name, results[name])
    return results


def _size_on_disk(index: NearestNeighbors) -> int:
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "index")
        index.save(target)
        return sum(entry.stat().st_size for entry in os.scandir(target))
