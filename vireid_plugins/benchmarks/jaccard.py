"""Compare sparse Jaccard distances of k-reciprocal encodings with the usual dense forms.

Both dense forms are written here from the definition, as they are commonly written: arrays of
N x N float32 for distances, encodings and results, and one Python step per item.
"""

from functools import partial
from typing import Any, Callable, Dict, List, Sequence

import faiss
import numpy as np
import torch

from ..clustering import automatic_radius, cluster
from ..evaluation import jaccard_distance
from .measures import Measure
from .measuring import MEASURES, peak_memory, ratio, say_all, times_in_turn
from .rates import PRODUCT

K1, K2 = 30, 6


def make_features(num: int, size: int) -> np.ndarray:
    """Return (num, size) of length 1: 17 images of each identity, 20 identities of each look."""
    rng = np.random.default_rng(0)
    num_identities = max(1, num // 17)
    looks = rng.standard_normal((max(1, num_identities // 20), size), dtype=np.float32)
    centers = looks[rng.integers(0, len(looks), num_identities)]
    centers += rng.standard_normal(centers.shape, dtype=np.float32)
    features = centers[rng.integers(0, num_identities, num)]
    features += rng.standard_normal(features.shape, dtype=np.float32)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def dense_original(features: np.ndarray, k1: int = K1) -> np.ndarray:
    """Compute as Zhong et al. do: sort all distances; k1 + 1 neighbors, exponential weights."""
    tensor = torch.from_numpy(features)
    squares = tensor.square().sum(1)
    distances = (squares[:, None] + squares - 2 * tensor @ tensor.T).clamp_(min=0).numpy()
    distances /= distances.max(axis=1, keepdims=True)
    ranks = np.argsort(distances, axis=1, kind="stable").astype(np.int32)

    def weights(item: int, members: np.ndarray) -> np.ndarray:
        found = np.exp(-distances[item, members])
        return found / found.sum()

    return _dense(ranks, k1, k1 + 1, weights)


def dense_softmax(features: np.ndarray, k1: int = K1) -> np.ndarray:
    """Compute as OpenUnReID and FastReID do: faiss finds k1 neighbors; softmax weights."""
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    ranks = index.search(features, k1)[1]

    def weights(item: int, members: np.ndarray) -> np.ndarray:
        difference = features[members] - features[item]
        found = np.exp(-np.square(difference).sum(1))
        return found / found.sum()

    return _dense(ranks, k1, k1, weights)


def _dense(
    ranks: np.ndarray, k1: int, length: int, weights: Callable[[int, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return (N, N) float32 Jaccard distances, from neighbor lists that begin with the item."""
    num, half = len(ranks), int(np.around(k1 / 2))

    def reciprocal(item: int, k: int) -> np.ndarray:
        kept = min(k + 1, length)
        forward = ranks[item, :kept]
        return forward[(ranks[forward, :kept] == item).any(1)]

    wholes = [reciprocal(item, k1) for item in range(num)]
    halves = [reciprocal(item, half) for item in range(num)]
    encodings = np.zeros((num, num), np.float32)
    is_member = np.zeros(num, bool)
    for item in range(num):
        members = [wholes[item]]
        is_member[wholes[item]] = True
        for candidate in wholes[item]:
            own = halves[candidate]
            if np.count_nonzero(is_member[own]) > 2.0 / 3.0 * len(own):
                members.append(own)
        is_member[wholes[item]] = False
        joined = np.unique(np.concatenate(members))
        encodings[item, joined] = weights(item, joined)
    if K2 > 1:
        encodings = np.stack([encodings[ranks[item, :K2]].mean(0) for item in range(num)])
    columns: List[np.ndarray] = [np.flatnonzero(encodings[:, column]) for column in range(num)]
    distances = np.empty((num, num), np.float32)
    for item in range(num):
        shared = np.zeros(num, np.float32)
        for column in np.flatnonzero(encodings[item]):
            rows = columns[column]
            shared[rows] += np.minimum(encodings[item, column], encodings[rows, column])
        distances[item] = 1 - shared / (2 - shared)
    return distances


DENSE = {"original": dense_original, "softmax": dense_softmax}
SPARSE = {name: partial(jaccard_distance, k1=K1, k2=K2, definition=name) for name in DENSE}


def run(
    *,
    items: Sequence[int] = (5000, 12_936),
    sparse_items: Sequence[int] = (50_000,),
    sizes: Sequence[int] = (256, 2048),
    repeats: int = 3,
    threads: int = 2,
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure every size with both definitions, and clustering on the result.

    Args:
        items: numbers of items N for all forms.
        sparse_items: numbers of items for the sparse form only.
        sizes: dimensions of a feature.
        processor_time: measure seconds of the processor, see ``times_in_turn``.
    """
    faiss.omp_set_num_threads(threads)
    results: Dict[str, Any] = {"faiss": faiss.__version__, "k1": K1, "k2": K2}
    results["processor time"] = processor_time
    timed = partial(times_in_turn, warm_up=False, processor=processor_time)
    for size in sizes:
        for num in [*items, *sparse_items]:
            features = make_features(num, size)
            for definition, dense in DENSE.items():
                name = f"{definition}, N {num}, d {size}"
                compared = dense if num in items else None
                results[name] = bench_case(features, definition, compared, repeats, timed)
                say_all(name, results[name])
    return results


def bench_case(
    features: np.ndarray,
    definition: str,
    dense: Any,
    repeats: int,
    timed: Callable[..., Dict[str, List[float]]],
) -> Dict[str, Any]:
    """Return times and peak memory of ours and, if given, of the dense form, with equal results.

    Args:
        features: (N, D).
        definition: of the distances.
        dense: the dense form, or None.
        repeats: timed runs of ours.
        timed: ``times_in_turn`` or a form of it.
    """

    def ours() -> Any:
        return SPARSE[definition](features)

    out: Dict[str, Any] = {
        "sparse: peak memory": peak_memory(SPARSE[definition], *features.shape, make=make_features)
    }
    found = ours()
    out["pairs stored per item"] = found.nnz / len(features)
    if dense is None:
        out.update(timed({"sparse": ours}, repeats))
    else:
        out["dense: peak memory"] = peak_memory(dense, *features.shape, make=make_features)
        expected = dense(features)
        rows = np.random.default_rng(1).choice(len(features), 100, replace=False)
        got = np.ones((100, len(features)), np.float32)
        part = found[rows].tocoo()
        got[part.row, part.col] = part.data
        out["greatest difference, 100 rows"] = float(np.abs(got - expected[rows]).max())
        del expected, got
        times = timed({"sparse": ours}, repeats)
        times.update(timed({"dense": lambda: dense(features)}, 1))
        out.update(times)
        out["ratio of dense to sparse"] = ratio(times, "dense", "sparse")

    def clustered() -> np.ndarray:
        return cluster(found, automatic_radius(found))

    # This run also imports scikit-learn, so it is not the one that is timed.
    out["clusters"] = int(clustered().max()) + 1
    out.update(timed({"radius and DBSCAN": clustered}, 1))
    each_pair_once = {PRODUCT: len(features) ** 2 / 2 * features.shape[1]}
    out[MEASURES] = [
        Measure("sparse", out["sparse"], each_pair_once, out.get("dense", [])),
        Measure("radius and DBSCAN", out["radius and DBSCAN"]),
    ]
    return out
