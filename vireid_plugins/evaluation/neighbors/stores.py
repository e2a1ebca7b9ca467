"""Store items that can be searched: exactly, or by an approximate index of faiss.

Shapes: Q queries, N stored items, D features, k neighbors, W candidates.
"""

from pathlib import Path
from typing import Any, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..ranking.topk import largest_by_index
from ..similarity import Scorer
from .faiss_index import load_faiss, set_probes

_BLOCK_ELEMENTS = 1 << 24
_PAIR_ELEMENTS = 1 << 18  # of gathered items: small enough to stay in a CPU's cache
_SPARE = 8  # more candidates than k, since float32 may err in the order near the k-th place


class ExactItems:
    """Items among which the search is exact, whatever library is used underneath.

    The library finds a few more candidates than are asked for; their distances are computed again
    in float64, and equal ones are ordered by index.

    Args:
        items: (N, D), of length 1 for the cosine.
        metric: ``"cosine"`` or ``"euclidean"``.
        index: an empty exact index of faiss; None: PyTorch searches.
    """

    FILE = "items.npy"

    def __init__(self, items: Tensor, metric: str, index: Any = None) -> None:
        self._items, self._metric, self._index = items, metric, index
        self._scorer: Optional[Scorer] = None
        if index is not None:
            index.add(_for_faiss(items))

    def __len__(self) -> int:
        return len(self._items)

    def add(self, items: Tensor) -> None:
        """Store more items (M, D) behind those that there are."""
        if self._index is not None:
            self._index.add(_for_faiss(items))
        self._items, self._scorer = torch.cat([self._items, items]), None

    def write(self, folder: Path) -> None:
        """Write the items into ``folder``."""
        np.save(folder / self.FILE, self._items.cpu().numpy())

    def search(self, queries: Tensor, k: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return distances (Q, k) float32, ascending, and the items' numbers (Q, k) int64."""
        distances = np.empty((len(queries), k), np.float32)
        indices = np.empty((len(queries), k), np.int64)
        width = min(k + _SPARE, len(self))
        row = len(self) if self._index is None else width * self._items.shape[1]
        step = max(1, _BLOCK_ELEMENTS // row)
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            found, indices[part] = self._search_block(queries[part], k, width)
            with np.errstate(over="ignore"):  # a distance beyond float32 becomes infinity
                distances[part] = found
        return distances, indices

    def _search_block(self, queries: Tensor, k: int, width: int) -> Tuple[np.ndarray, np.ndarray]:
        if self._index is None:
            candidates = self._candidates(queries, width)
            exact = self._distances(queries, candidates)
        else:
            found = self._index.search(_for_faiss(queries), width)[1]
            candidates = torch.from_numpy(found).to(self._items.device)
            lost = (candidates < 0).any(1)  # a distance does not fit into float32
            candidates[lost] = 0
            exact = self._distances(queries, candidates)
            doubtful = self._doubtful(queries, exact, k, width)
            doubtful = torch.cat([doubtful, lost.nonzero(as_tuple=True)[0]]).unique()
            if len(doubtful):
                candidates[doubtful] = self._candidates(queries[doubtful], width)
                exact[doubtful] = self._distances(queries[doubtful], candidates[doubtful])
        by_index = candidates.argsort(dim=1)
        candidates, exact = candidates.gather(1, by_index), exact.gather(1, by_index)
        exact, order = torch.sort(exact, dim=1, stable=True)
        candidates = candidates.gather(1, order)
        if self._metric == "euclidean":
            exact = exact.sqrt()
        return exact[:, :k].cpu().numpy(), candidates[:, :k].cpu().numpy()

    def _candidates(self, queries: Tensor, width: int) -> Tensor:
        """Return the numbers (Q, width) of the nearest items by PyTorch, equal ones by index."""
        if self._scorer is None:
            self._scorer = Scorer(self._items, self._metric)
        step = max(1, _BLOCK_ELEMENTS // len(self._items))
        found = []
        for part in queries.split(step):
            scores = self._scorer.scores(part)[:, self._scorer.columns]
            found.append(largest_by_index(scores, width)[0])
        return torch.cat(found) if found else queries.new_empty((0, width), dtype=torch.long)

    def _distances(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Return the float64 distances of the pairs (Q, W); Euclidean ones are squared."""
        out = torch.empty(candidates.shape, dtype=torch.float64, device=queries.device)
        step = max(1, _PAIR_ELEMENTS // max(1, candidates.shape[1] * queries.shape[1]))
        parts = (value.split(step) for value in (out, queries, candidates))
        for target, asked, found in zip(*parts):
            items = self._items.index_select(0, found.flatten()).double()
            items, asked = items.view(*found.shape, -1), asked[:, None].double()
            if self._metric == "cosine":
                target.copy_(1.0 - (items @ asked.transpose(1, 2))[:, :, 0]).clamp_(min=0.0)
            else:
                target.copy_(items.sub_(asked).square_().sum(2))
        return out

    def _doubtful(self, queries: Tensor, exact: Tensor, k: int, width: int) -> Tensor:
        """Return the rows whose k-th place is too near to the last candidate for float32."""
        if width == len(self._items):
            return torch.empty(0, dtype=torch.long, device=exact.device)
        ordered = exact.sort(dim=1).values
        error: Any = 4e-6
        if self._metric == "euclidean":
            greatest = self._items.double().square().sum(1).amax()
            error = 4e-6 * (queries.double().square().sum(1) + greatest)
        return (ordered[:, -1] - ordered[:, k - 1] <= error).nonzero(as_tuple=True)[0]


class ApproximateItems:
    """Items in an approximate index of faiss.

    Args:
        index: a trained index of faiss.
        metric: ``"cosine"`` (the items have length 1) or ``"euclidean"``.
        probes: how many lists of an ``IVF`` index a query searches.
    """

    FILE = "index.faiss"

    def __init__(self, index: Any, metric: str, probes: int) -> None:
        self._index, self._metric, self._probes = index, metric, probes

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, items: Tensor) -> None:
        """Store more items (M, D) behind those that there are."""
        self._index.add(_for_faiss(items))

    def write(self, folder: Path) -> None:
        """Write the index into ``folder``."""
        load_faiss().write_index(self._index, str(folder / self.FILE))

    def search(self, queries: Tensor, k: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return distances (Q, k), ascending, and the items' numbers (Q, k) int64.

        Where faiss finds fewer, they are infinity and -1.
        """
        set_probes(self._index, self._probes)
        distances = np.empty((len(queries), k), np.float32)
        indices = np.empty((len(queries), k), np.int64)
        step = max(1, _BLOCK_ELEMENTS // (min(k + _SPARE, len(self)) * queries.shape[1]))
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            scores, indices[part] = self._index.search(_for_faiss(queries[part]), k)
            if self._metric == "cosine":
                distances[part] = np.maximum(1.0 - scores, 0.0)
            else:
                distances[part] = np.sqrt(np.maximum(scores, 0.0))
        distances[indices < 0] = np.inf
        return distances, indices


def trained(index: Any, items: Tensor) -> Any:
    """Return an approximate index of faiss that has learned its centers from ``items`` (N, D)."""
    index.train(_for_faiss(items))
    return index


def _for_faiss(features: Tensor) -> np.ndarray:
    return np.ascontiguousarray(features.float().cpu().numpy())  # too large values: infinity
