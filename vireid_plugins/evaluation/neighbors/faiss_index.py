"""Build faiss indexes, if faiss is installed and supports the device.

Shapes: N items, D features.
"""

import functools
import logging
import math
from typing import Any, Optional

import numpy as np
import torch

from ...errors import MissingLibraryError, UserError

logger = logging.getLogger(__name__)

GPU_MODES = ("one", "shards", "replicas")
FLAT = "flat"


@functools.cache
def load_faiss() -> Any:
    """Return the module faiss, loaded at the first call; None if it is not installed."""
    try:
        import faiss
    except ImportError:
        return None
    return faiss


def require_faiss(words: str) -> None:
    """Raise ``MissingLibraryError`` if faiss is not installed; ``words`` say what needs it."""
    if load_faiss() is None:
        raise MissingLibraryError(
            f"{words} needs faiss, which is not installed: pip install faiss-cpu, or faiss-gpu "
            "(never both)."
        )


def faiss_metric(metric: str) -> int:
    """Return faiss's number for ``"cosine"`` (of features of length 1) or ``"euclidean"``."""
    faiss = load_faiss()
    return faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2


def indexed_squares(
    features: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> Optional[np.ndarray]:
    """Return the squared distances of P pairs of rows, (P,) float32, without a copy of the rows.

    Args:
        features: (N, D) float32.
        rows: (P,) int64, the first row of each pair, from 0 to N - 1.
        columns: (P,) int64, the second one.

    Returns:
        None if faiss is not installed.
    """
    faiss = load_faiss()
    if faiss is None:
        return None
    features = np.ascontiguousarray(features)
    found = np.empty(len(rows), np.float32)
    data, first, second, out = (faiss.swig_ptr(a) for a in (features, rows, columns, found))
    faiss.pairwise_indexed_L2sqr(features.shape[1], len(rows), data, first, data, second, out)
    return found


def flat_index(size: int, metric: str, device: torch.device, gpus: str = "one") -> Any:
    """Return an empty exact index of D = ``size`` on ``device``; None if PyTorch must search.

    Args:
        size: D.
        metric: ``"cosine"`` or ``"euclidean"``.
        device: a CPU, or a GPU.
        gpus: ``"one"``: the GPU ``device``; ``"shards"``: the items are divided over all GPUs;
            ``"replicas"``: all items are on each GPU, and the queries are divided.
    """
    faiss = load_faiss()
    if faiss is None:
        _say_once("faiss is not installed: PyTorch searches (pip install faiss-cpu).")
        return None
    index = faiss.IndexFlat(size, faiss_metric(metric))
    if device.type == "cpu":
        return index
    if device.type != "cuda" or not hasattr(faiss, "StandardGpuResources"):
        _say_once(f"This faiss does not work on {device.type}: PyTorch searches there.")
        return None
    try:
        return on_gpu(index, device, gpus)
    except Exception as error:  # mostly RuntimeError; a wheel without kernels raises others
        _warn_once(f"faiss cannot use {device} ({_first_line(error)}): PyTorch searches there.")
        return None


def on_gpu(index: Any, device: torch.device, gpus: str) -> Any:
    """Return ``index`` on the device's GPU, or on all GPUs.

    A first search shows whether this faiss has kernels for them.
    """
    faiss = load_faiss()
    if gpus == "one":
        resources = faiss.StandardGpuResources()
        moved = faiss.index_cpu_to_gpu(resources, device.index or 0, index)
    else:
        options = faiss.GpuMultipleClonerOptions()
        options.shard = gpus == "shards"
        moved = faiss.index_cpu_to_all_gpus(index, co=options)
    probe = np.zeros((1, index.d), np.float32)
    moved.add(probe)
    moved.search(probe, 1)
    moved.reset()
    return moved


def approximate_index(factory: str, size: int, metric: str, num_items: int) -> Any:
    """Return an untrained index that ``faiss.index_factory`` builds from the string ``factory``.

    ``"IVF,PQ64"``, without a number of lists, gets about 4 sqrt(N) lists.

    Raises:
        UserError: faiss does not know the string, the string does not fit D, or faiss is not
            installed.
    """
    require_faiss(f"The index {factory!r}")
    # faiss wants at least 39 items for a list.
    lists = max(1, min(num_items // 39, int(4 * math.sqrt(num_items))))
    words = ",".join(f"IVF{lists}" if word == "IVF" else word for word in factory.split(","))
    try:
        return load_faiss().index_factory(size, words, faiss_metric(metric))
    except Exception as error:
        raise UserError(
            f"faiss cannot build an index {words!r} of {size} dimensions: {_first_line(error)}. "
            "Examples: 'flat' (exact), 'HNSW32', 'IVF,SQ8', 'IVF,PQ64', 'OPQ64,IVF,PQ64'; the "
            "number after PQ must divide the dimensions."
        ) from error


def set_probes(index: Any, probes: int) -> None:
    """Set how many lists of an inverted file a query searches; other indexes have no lists."""
    try:
        inverted = load_faiss().extract_index_ivf(index)
    except Exception:
        return
    inverted.nprobe = min(probes, inverted.nlist)


@functools.cache
def _say_once(message: str) -> None:
    logger.info(message)


@functools.cache
def _warn_once(message: str) -> None:
    logger.warning(message)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
