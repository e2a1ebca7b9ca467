"""Compare a clustering of training images with the usual dense ways, from features to labels.

The dense ways are written here from their definitions, as they are commonly written: N x N float32
distances (``jaccard.py``), and DBSCAN on that matrix. ``mmt``: k1 20, all distances sorted, the
radius from the sorted upper triangle. ``fastreid``: k1 30, softmax weights, a given radius.
"""

from functools import partial
from typing import Any, Dict, List, NamedTuple, Sequence

import faiss
import numpy as np

from ..clustering import automatic_radius, cluster
from ..evaluation import jaccard_distance
from .jaccard import dense_original, dense_softmax, make_features
from .measures import Measure
from .measuring import (
    MEASURES,
    markdown_table,
    memory_text,
    peak_memory,
    ratio,
    say_all,
    times_in_turn,
)
from .rates import PRODUCT

_SHARE, _MIN_SAMPLES, _RADIUS = 1.6e-3, 4, 0.6
_FIRST = 200  # images of a first run
SYSU = 22_258 + 11_909  # training images of SYSU-MM01, visible and infrared


def dense_mmt(features: np.ndarray) -> np.ndarray:
    """Return labels (N,) by MMT's way; the radius is that of a first clustering."""
    distances = dense_original(features, k1=20)
    values = np.triu(distances, 1)
    values = np.sort(values[np.nonzero(values)])
    radius = float(values[: int(np.round(_SHARE * values.size))].mean())
    return _dense_dbscan(distances, radius)


def dense_fastreid(features: np.ndarray) -> np.ndarray:
    """Return labels (N,) by FastReID's way (and OpenUnReID's)."""
    return _dense_dbscan(dense_softmax(features, k1=30), _RADIUS)


def _dense_dbscan(distances: np.ndarray, radius: float) -> np.ndarray:
    from sklearn.cluster import DBSCAN

    distances = np.maximum(distances, 0)
    fitted = DBSCAN(eps=radius, min_samples=_MIN_SAMPLES, metric="precomputed").fit(distances)
    return np.asarray(fitted.labels_)


def sparse_mmt(features: np.ndarray) -> np.ndarray:
    """Return labels (N,) as ``CLUSTERS`` finds them with MMT's keys, the radius included."""
    distances = jaccard_distance(features, 20, 6)
    return cluster(distances, automatic_radius(distances, _SHARE), _MIN_SAMPLES)


def sparse_fastreid(features: np.ndarray) -> np.ndarray:
    """Return labels (N,) as ``CLUSTERS`` finds them with DEFINITION softmax and a radius."""
    distances = jaccard_distance(features, 30, 6, definition="softmax", max_distance=1.0)
    return cluster(distances, _RADIUS, _MIN_SAMPLES)


class Way(NamedTuple):
    """Two forms of one clustering."""

    ours: Any
    dense: Any


WAYS = {
    "mmt": Way(sparse_mmt, dense_mmt),
    "fastreid": Way(sparse_fastreid, dense_fastreid),
}


def run(
    *,
    items: Sequence[int] = (5000,),
    sparse_items: Sequence[int] = (SYSU,),
    size: int = 2048,
    repeats: int = 3,
    threads: int = 2,
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure both ways at every size.

    Args:
        items: numbers of images N for all forms; the dense ones need about 20 N^2 bytes.
        sparse_items: numbers of images for ours only.
        size: dimensions of a feature.
        processor_time: measure seconds of the processor, see ``times_in_turn``.
    """
    faiss.omp_set_num_threads(threads)
    results: Dict[str, Any] = {"faiss": faiss.__version__, "processor time": processor_time}
    lines = [["way, images", "ours", "dense", "time, dense / ours", "memory, dense / ours"]]
    for num in [*items, *sparse_items]:
        features = make_features(num, size)
        for name, way in WAYS.items():
            case = f"{name}, N {num}, d {size}"
            results[case] = _case(features, way, num in items, repeats, processor_time)
            say_all(case, results[case])
            lines.append(_line(f"{name}, {num:,}", results[case]))
    results["table"] = markdown_table(lines)
    return results


def _case(
    features: np.ndarray, way: Way, compared: bool, repeats: int, processor: bool
) -> Dict[str, Any]:
    """Return times, peak memory and clusters of ours and, if asked for, of the dense form."""
    forms = {"ours": way.ours, **({"dense": way.dense} if compared else {})}
    out: Dict[str, Any] = {}
    labels: Dict[str, np.ndarray] = {}

    def find(name: str) -> None:
        labels[name] = forms[name](features)

    way.ours(features[:_FIRST])  # what is loaded at the first use is not measured
    for name, form in forms.items():
        out[f"{name}: peak memory"] = peak_memory(form, *features.shape, make=make_features)
        runs = repeats if name == "ours" else 1
        cases = {name: partial(find, name)}
        out.update(times_in_turn(cases, runs, warm_up=False, processor=processor))
        out[f"{name}: clusters"] = int(labels[name].max()) + 1
    if compared:
        out["share of images with the same label"] = _agreement(labels["ours"], labels["dense"])
        out["ratio of dense to ours, time"] = ratio(out, "dense", "ours")
        peaks = [out[f"{name}: peak memory"] for name in forms]
        out["ratio of dense to ours"] = peaks[1] / max(1, peaks[0]) if all(peaks) else None
    each_pair_once = {PRODUCT: len(features) ** 2 / 2 * features.shape[1]}
    out[MEASURES] = [Measure("ours", out["ours"], each_pair_once, out.get("dense", []))]
    return out


def _agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of images whose clusters have the same members in both labelings."""
    pairs: Dict[Any, int] = {}
    for pair in zip(first.tolist(), second.tolist()):
        pairs[pair] = pairs.get(pair, 0) + 1
    sizes = [dict(zip(*np.unique(one, return_counts=True))) for one in (first, second)]
    same = [n for (a, b), n in pairs.items() if n == sizes[0][a] == sizes[1][b]]
    return sum(same) / max(1, len(first))


def _line(name: str, found: Dict[str, Any]) -> List[str]:
    def words(form: str) -> str:
        if form not in found:
            return "not run"
        seconds = float(np.median(found[form]))
        return f"{seconds:.1f} s, {memory_text(found[f'{form}: peak memory'])}"

    ratios = (found.get("ratio of dense to ours, time"), found.get("ratio of dense to ours"))
    return [name, words("ours"), words("dense"), *(f"{r:.1f}" if r else "" for r in ratios)]
