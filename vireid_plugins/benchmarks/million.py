"""10,000 queries in a gallery of 1,000,000: metrics and top-100, against faiss's top-100 alone."""

import argparse
from typing import Any, Dict, Tuple

import faiss
import numpy as np

from vireid_plugins.evaluation import rank_metrics

from .measuring import memory_text, peak_memory, ratio, say, times_in_turn

_ROWS = 50_000  # made at once


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this topic."""
    parser.add_argument("--queries", type=int, default=10_000, help="number of queries")
    parser.add_argument("--gallery", type=int, default=1_000_000, help="number of gallery items")
    parser.add_argument("--size", type=int, default=256, help="dimensions of a feature")
    parser.add_argument("--positives", type=int, nargs="+", default=[2, 10], help="of each query")
    parser.add_argument("--top", type=int, default=100, help="nearest items of each query")
    parser.set_defaults(repeats=3)


def make_features(
    num: int, size: int, targets: np.ndarray, rng: np.random.Generator, centres: np.ndarray
) -> np.ndarray:
    """(num, size) float32 of length 1: an identity's centre plus noise; in place, in blocks."""
    features = np.empty((num, size), np.float32)
    for begin in range(0, num, _ROWS):
        part = features[begin : begin + _ROWS]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= 1.5
        part += centres[targets[begin : begin + _ROWS]]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return features


def make_case(args: argparse.Namespace, positives: int) -> Tuple[np.ndarray, ...]:
    """Query and gallery features, query and gallery targets."""
    rng = np.random.default_rng(0)
    num_identities = max(1, args.gallery // positives)
    gallery_targets = rng.permutation(np.arange(args.gallery) % num_identities)
    query_targets = rng.integers(0, num_identities, args.queries)
    centres = rng.standard_normal((num_identities, args.size), dtype=np.float32)
    return (
        make_features(args.queries, args.size, query_targets, rng, centres),
        make_features(args.gallery, args.size, gallery_targets, rng, centres),
        query_targets,
        gallery_targets,
    )


def run(args: argparse.Namespace) -> Dict[str, Any]:
    """Measure each number of positives."""
    faiss.omp_set_num_threads(args.threads)
    results: Dict[str, Any] = {"faiss": faiss.__version__}
    for positives in args.positives:
        name = f"{positives} positives"
        results[name] = bench_case(args, positives)
        for key, value in results[name].items():
            say(name, key, memory_text(value) if "memory" in key else value)
    return results


def _rank(case: Tuple[np.ndarray, ...], top: int = 100) -> Any:
    return rank_metrics(*case, top=top)


def bench_case(args: argparse.Namespace, positives: int) -> Dict[str, Any]:
    """Times of both, and the peak memory of ours beyond the features."""
    memory = peak_memory(_rank, args, positives, make=make_case)
    query, gallery, *_ = case = make_case(args, positives)

    def ours() -> Any:
        return _rank(case, args.top)

    index = faiss.IndexFlatIP(args.size)
    index.add(gallery)
    index.search(query[:100], args.top)
    metrics = ours()
    found = index.search(query, args.top)[1]
    seconds = times_in_turn(
        {"faiss": lambda: index.search(query, args.top), "metrics and top": ours},
        args.repeats,
        warm_up=False,
    )
    return {
        **seconds,
        "ratio of ours to faiss": ratio(seconds, "metrics and top", "faiss"),
        "peak memory beyond the features": memory,
        "mAP": metrics.mAP,
        "share of nearest equal to faiss's": float((metrics.nearest == found).mean()),
    }
