"""Compare metrics and top-100 of 10,000 queries in a gallery of 1,000,000 with faiss's top-100."""

from typing import Any, Dict, Sequence, Tuple

import faiss
import numpy as np
import torch

from ..evaluation import rank_metrics
from ..evaluation.ranking.counting import form_of
from .measures import Measure
from .measuring import MEASURES, peak_memory, ratio, say_all, times_in_turn
from .rates import MEMORY, PRODUCT

_ROWS = 50_000  # rows made at once


def make_features(
    num: int, size: int, targets: np.ndarray, rng: np.random.Generator, centers: np.ndarray
) -> np.ndarray:
    """Return features (num, size), float32 of length 1: an identity's center plus noise."""
    features = np.empty((num, size), np.float32)
    for begin in range(0, num, _ROWS):
        part = features[begin : begin + _ROWS]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= 1.5
        part += centers[targets[begin : begin + _ROWS]]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return features


def make_case(queries: int, gallery: int, size: int, positives: int) -> Tuple[np.ndarray, ...]:
    """Return query and gallery features, query and gallery targets.

    Args:
        size: dimensions of a feature.
        positives: gallery items of each query's identity.
    """
    rng = np.random.default_rng(0)
    num_identities = max(1, gallery // positives)
    gallery_targets = rng.permutation(np.arange(gallery) % num_identities)
    query_targets = rng.integers(0, num_identities, queries)
    centers = rng.standard_normal((num_identities, size), dtype=np.float32)
    return (
        make_features(queries, size, query_targets, rng, centers),
        make_features(gallery, size, gallery_targets, rng, centers),
        query_targets,
        gallery_targets,
    )


def run(
    *,
    queries: int = 10_000,
    gallery: int = 1_000_000,
    size: int = 256,
    positives: Sequence[int] = (2, 10),
    top: int = 100,
    repeats: int = 3,
    threads: int = 2,
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure each number of positives of a query.

    Args:
        queries: number of queries.
        gallery: number of gallery items.
        size: dimensions of a feature.
        positives: gallery items of each query's identity.
        top: nearest items of each query.
        processor_time: measure seconds of the processor, see ``times_in_turn``.
    """
    faiss.omp_set_num_threads(threads)
    results: Dict[str, Any] = {"faiss": faiss.__version__}
    for number in positives:
        name = f"{number} positives"
        results[name] = bench_case((queries, gallery, size, number), top, repeats, processor_time)
        say_all(name, results[name])
    return results


def _rank(case: Tuple[np.ndarray, ...], top: int = 100) -> Any:
    return rank_metrics(*case, top=top)


def bench_case(
    case: Tuple[int, int, int, int], top: int, repeats: int, processor: bool = False
) -> Dict[str, Any]:
    """Return the times of both, and the peak memory of ours beyond the features.

    Args:
        case: the arguments of ``make_case``.
    """
    memory = peak_memory(_rank, *case, make=make_case)
    query, gallery, *_ = features = make_case(*case)

    def ours() -> Any:
        return _rank(features, top)

    index = faiss.IndexFlatIP(query.shape[1])
    index.add(gallery)
    index.search(query[:100], top)
    metrics = ours()
    found = index.search(query, top)[1]
    seconds = times_in_turn(
        {"faiss": lambda: index.search(query, top), "metrics and top": ours},
        repeats,
        warm_up=False,
        processor=processor,
    )
    pairs = len(query) * len(gallery)
    work = {PRODUCT: pairs * query.shape[1], MEMORY: 4 * pairs}
    return {
        **seconds,
        MEASURES: [
            Measure("faiss", seconds["faiss"], work),
            Measure("metrics and top", seconds["metrics and top"], work, seconds["faiss"]),
        ],
        "ratio of ours to faiss": ratio(seconds, "metrics and top", "faiss"),
        "peak memory beyond the features": memory,
        "form": form_of(torch.from_numpy(query)),
        "mAP": metrics.mAP,
        "share of nearest equal to faiss's": float((metrics.nearest == found).mean()),
    }
