"""Exact nearest neighbours: faiss where it is installed, PyTorch elsewhere.

Shapes: Q queries, N stored items, D features, k neighbours.
"""

import logging
from typing import Any, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .similarity import Array, Scorer, as_features, check_metric, normalise

try:
    import faiss
except ImportError:
    faiss = None

logger = logging.getLogger(__name__)

_BLOCK_ELEMENTS = 1 << 24
_SPARE = 8  # candidates beyond k: what float32 may put in the wrong order near the k-th place


class NearestNeighbors:
    """Exact search; the distances of the candidates are recomputed in float64.

    Equal distances are ordered by index, whatever the library underneath does.

    Args:
        metric: ``"cosine"``: distances 1 − cos; ``"euclidean"``: Euclidean distances, not squared.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ... faiss is used on a GPU only if its build
            has GPU support; PyTorch does the work there otherwise.
    """

    def __init__(self, metric: str = "cosine", device: str = "cpu") -> None:
        check_metric(metric)
        self.metric = metric
        self.device = torch.device(device)
        self._items: Optional[Tensor] = None
        self._index: Any = None
        self._scorer: Optional[Scorer] = None

    def fit(self, features: Array) -> "NearestNeighbors":
        """Store the items (N, D) to search among; returns itself.

        Raises:
            ValueError: no items, or features that are not finite.
        """
        items = as_features(features, "features", self.device)
        if len(items) == 0:
            raise ValueError("features has no rows: nothing to search among.")
        self._items = normalise(items) if self.metric == "cosine" else items
        self._scorer = None
        self._index = _faiss_index(self._items, self.metric)
        return self

    def search(self, queries: Array, k: int) -> Tuple[np.ndarray, np.ndarray]:
        """The k nearest items of each query (Q, D).

        Returns:
            distances (Q, k) float32, ascending, and indices (Q, k) int64.

        Raises:
            RuntimeError: ``fit`` has not been called.
            ValueError: k below 1 or above the number of items, or features that do not fit.
        """
        if self._items is None:
            raise RuntimeError("NearestNeighbors.search needs fit(features) first.")
        num, size = self._items.shape
        if not 1 <= k <= num:
            raise ValueError(f"k must lie between 1 and the number of items, {num}; got {k}.")
        queries = as_features(queries, "queries", self.device)
        if queries.shape[1] != size:
            raise ValueError(f"queries have {queries.shape[1]} dimensions, the items {size}.")
        if self.metric == "cosine":
            queries = normalise(queries)
        width = min(k + _SPARE, num)
        distances = np.empty((len(queries), k), np.float32)
        indices = np.empty((len(queries), k), np.int64)
        step = max(1, _BLOCK_ELEMENTS // max(num if self._index is None else 1, width * size))
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            distances[part], indices[part] = self._search_block(queries[part], k, width)
        return distances, indices

    def _search_block(self, queries: Tensor, k: int, width: int) -> Tuple[np.ndarray, np.ndarray]:
        if self._index is None:
            candidates = self._candidates(queries, width)
            exact = self._distances(queries, candidates)
        else:
            found = self._index.search(queries.float().cpu().numpy(), width)[1]
            candidates = torch.from_numpy(found).to(self.device)
            exact = self._distances(queries, candidates)
            doubtful = self._doubtful(queries, exact, k, width)
            if len(doubtful):
                candidates[doubtful] = self._candidates(queries[doubtful], width)
                exact[doubtful] = self._distances(queries[doubtful], candidates[doubtful])
        by_index = candidates.argsort(dim=1)
        candidates, exact = candidates.gather(1, by_index), exact.gather(1, by_index)
        exact, order = torch.sort(exact, dim=1, stable=True)
        candidates = candidates.gather(1, order)
        if self.metric == "euclidean":
            exact = exact.sqrt()
        return exact[:, :k].cpu().numpy(), candidates[:, :k].cpu().numpy()

    def _candidates(self, queries: Tensor, width: int) -> Tensor:
        """Indices (Q, width) by PyTorch, in blocks; identical items always tie, by index."""
        if self._scorer is None:
            self._scorer = Scorer(self._items, self.metric)
        step = max(1, _BLOCK_ELEMENTS // len(self._items))
        found = []
        for part in queries.split(step):
            scores = self._scorer.scores(part)[:, self._scorer.columns]
            found.append(smallest_by_index(-scores, width)[0])
        return torch.cat(found) if found else queries.new_empty((0, width), dtype=torch.long)

    def _distances(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Float64 distances of the pairs (Q, W); Euclidean ones squared."""
        items = self._items[candidates].double()
        if self.metric == "cosine":
            return (1.0 - (items * queries[:, None].double()).sum(2)).clamp_(min=0.0)
        return (items - queries[:, None].double()).square_().sum(2)

    def _doubtful(self, queries: Tensor, exact: Tensor, k: int, width: int) -> Tensor:
        """Rows whose k-th place is too near to the last candidate for float32 to decide."""
        if width == len(self._items):
            return torch.empty(0, dtype=torch.long, device=exact.device)
        ordered = exact.sort(dim=1).values
        error: Any = 4e-6
        if self.metric == "euclidean":
            greatest = self._items.double().square().sum(1).amax()
            error = 4e-6 * (queries.double().square().sum(1) + greatest)
        return (ordered[:, -1] - ordered[:, k - 1] <= error).nonzero(as_tuple=True)[0]


def smallest_by_index(distances: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """The k smallest of each row (R, N), equal ones by index: indices and values (R, k)."""
    values, indices = distances.topk(k, dim=1, largest=False, sorted=True)
    limit = values[:, -1:]
    cut = ((distances == limit).sum(1) != (values == limit).sum(1)).nonzero(as_tuple=True)[0]
    if len(cut):  # equals on both sides of the limit: top-k may have kept the later ones
        full = torch.sort(distances[cut], dim=1, stable=True)
        values[cut], indices[cut] = full.values[:, :k], full.indices[:, :k]
    by_index = indices.argsort(dim=1)
    values, indices = values.gather(1, by_index), indices.gather(1, by_index)
    order = torch.sort(values, dim=1, stable=True).indices
    return indices.gather(1, order), values.gather(1, order)


def _faiss_index(items: Tensor, metric: str) -> Any:
    """A flat faiss index of ``items`` (N, D) on their device, or None where PyTorch must search."""
    if faiss is None:
        logger.info("faiss is not installed: PyTorch searches (pip install faiss-cpu).")
        return None
    on_gpu = items.device.type == "cuda"
    if items.device.type != "cpu" and not (on_gpu and hasattr(faiss, "StandardGpuResources")):
        logger.info("This faiss does not work on %s: PyTorch searches there.", items.device)
        return None
    flat = faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2
    index = flat(items.shape[1])
    if on_gpu:
        resources = faiss.StandardGpuResources()
        index = faiss.index_cpu_to_gpu(resources, items.device.index or 0, index)
    index.add(np.ascontiguousarray(items.float().cpu().numpy()))
    return index
