"""Nearest neighbors: exact or approximate, by faiss where it is installed, by PyTorch elsewhere.

Shapes: Q queries, N stored items, D features, k neighbors.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..ranking.topk import largest_by_index
from ..similarity import Array, Scorer, as_features, check_metric, normalize
from . import faiss_index
from .faiss_index import FLAT, GPU_MODES

_BLOCK_ELEMENTS = 1 << 24
_PAIR_ELEMENTS = 1 << 18  # of gathered items: small enough to stay in a CPU's cache
_SPARE = 8  # candidates beyond k: what float32 may put in the wrong order near the k-th place
_FORMAT = 1
_META, _ITEMS, _INDEX, _IDS = "index.json", "items.npy", "index.faiss", "ids.npy"


class NearestNeighbors:
    """Search among stored items.

    ``index="flat"`` is exact: distances of the candidates are recomputed in float64, and equal
    ones are ordered by index, whatever the library underneath does. Any other ``index`` is the
    words of a faiss factory, whose answers are approximate, distances too where it compresses:

    - ``"HNSW32"``: a graph; fast, and larger than the items.
    - ``"IVF,SQ8"``: lists around centers, a byte for each dimension: a quarter of the items.
    - ``"OPQ64,IVF,PQ64"``: 64 bytes an item, for galleries beyond memory.

    ``IVF`` without a number has about 4 sqrt(N) lists, N the items of ``fit``.

    Args:
        metric: ``"cosine"``: distances 1 - cos; ``"euclidean"``: Euclidean distances, not squared.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ... faiss is used on a GPU only if its build
            has GPU support; PyTorch does the work there otherwise. Approximate indexes stay on the
            CPU.
        index: ``"flat"``, or the words of a faiss factory.
        gpus: of an exact index on ``cuda``: ``"one"``, or all: ``"shards"``, the items divided,
            or ``"replicas"``, the queries divided.
        probes: lists that a query looks into, of an ``IVF`` index; more find more and take longer.

    Attributes:
        ids: (N,) what the items are called, integers or strings: paths, say; None: numbered.
        fingerprint: of the model whose features these are; empty: not said.

    Raises:
        ValueError: an unknown word. RuntimeError: an approximate index without faiss.
    """

    def __init__(
        self,
        metric: str = "cosine",
        device: str = "cpu",
        *,
        index: str = FLAT,
        gpus: str = "one",
        probes: int = 32,
    ) -> None:
        check_metric(metric)
        if gpus not in GPU_MODES:
            raise ValueError(f"gpus must be one of {GPU_MODES}; got {gpus!r}.")
        if probes < 1:
            raise ValueError(f"probes must be at least 1; got {probes}.")
        if index != FLAT:
            faiss_index.require_faiss(f"The index {index!r}")
        self.metric, self.index, self.gpus, self.probes = metric, index, gpus, probes
        self.device = torch.device(device)
        self.ids: Optional[np.ndarray] = None
        self.fingerprint = ""
        self._size: Optional[int] = None
        self._items: Optional[Tensor] = None  # of an exact index only
        self._index: Any = None
        self._scorer: Optional[Scorer] = None

    @property
    def exact(self) -> bool:
        """Whether answers are exact."""
        return self.index == FLAT

    def __len__(self) -> int:
        """Number of stored items."""
        if not self.exact:
            return 0 if self._index is None else int(self._index.ntotal)
        return 0 if self._items is None else len(self._items)

    def fit(self, features: Array, ids: Optional[Array] = None) -> "NearestNeighbors":
        """Store the items (N, D) to search among, in the place of others; returns itself.

        An approximate index also learns its centers from them; ``add`` brings more.

        Args:
            features: (N, D).
            ids: (N,) integers or strings.

        Raises:
            ValueError: no items, ids of another number, or features that are not finite.
        """
        items = self._prepared(features, "features")
        if len(items) == 0:
            raise ValueError("features has no rows: nothing to search among.")
        return self._fit(items, ids)

    def _fit(self, items: Tensor, ids: Optional[Array]) -> "NearestNeighbors":
        self._items = self._scorer = self.ids = None
        self._size = items.shape[1]
        if self.exact:
            self._index = faiss_index.flat_index(self._size, self.metric, self.device, self.gpus)
        else:
            self._index = faiss_index.approximate_index(
                self.index, self._size, self.metric, len(items)
            )
            self._index.train(_for_faiss(items))
        return self._add(items, ids)

    def add(self, features: Array, ids: Optional[Array] = None) -> "NearestNeighbors":
        """Store more items (M, D) behind those there are; returns itself.

        Raises:
            RuntimeError: ``fit`` has not been called.
            ValueError: as ``fit``, or ids where the first items have none, or the reverse.
        """
        if self._size is None:
            raise RuntimeError("NearestNeighbors.add needs fit(features) first.")
        items = self._prepared(features, "features")
        if (ids is None) != (self.ids is None):
            raise ValueError("Either all items have ids or none.")
        return self._add(items, ids)

    def _add(self, items: Tensor, ids: Optional[Array]) -> "NearestNeighbors":
        if items.shape[1] != self._size:
            raise ValueError(f"features have {items.shape[1]} dimensions, the items {self._size}.")
        if ids is not None:
            ids = np.asarray(ids)
            if ids.shape != (len(items),) or ids.dtype.kind not in "iuU":
                raise ValueError(
                    f"ids must be {len(items)} integers or strings; got shape {ids.shape}, "
                    f"{ids.dtype}."
                )
            self.ids = ids if self.ids is None else np.concatenate([self.ids, ids])
        if self._index is not None:
            self._index.add(_for_faiss(items))
        if self.exact:
            self._items = items if self._items is None else torch.cat([self._items, items])
            self._scorer = None
        return self

    def _prepared(self, features: Array, name: str) -> Tensor:
        items = as_features(features, name, self.device if self.exact else torch.device("cpu"))
        return normalize(items) if self.metric == "cosine" else items

    # ---------------------------------------------------------------------------------- search

    def search(self, queries: Array, k: int) -> Tuple[np.ndarray, np.ndarray]:
        """The k nearest items of each query (Q, D).

        Returns:
            distances (Q, k) float32, ascending, and indices (Q, k) int64; where an approximate
            index finds fewer, infinity and -1.

        Raises:
            RuntimeError: ``fit`` has not been called.
            ValueError: k below 1 or above the number of items, or features that do not fit.
        """
        if self._size is None:
            raise RuntimeError("NearestNeighbors.search needs fit(features) first.")
        num = len(self)
        if not 1 <= k <= num:
            raise ValueError(f"k must lie between 1 and the number of items, {num}; got {k}.")
        queries = self._prepared(queries, "queries")
        if queries.shape[1] != self._size:
            raise ValueError(f"queries have {queries.shape[1]} dimensions, the items {self._size}.")
        distances = np.empty((len(queries), k), np.float32)
        indices = np.empty((len(queries), k), np.int64)
        width = min(k + _SPARE, num)
        row = num if self.exact and self._index is None else width * self._size
        step = max(1, _BLOCK_ELEMENTS // row)
        for begin in range(0, len(queries), step):
            part = slice(begin, begin + step)
            if self.exact:
                distances[part], indices[part] = self._search_block(queries[part], k, width)
            else:
                distances[part], indices[part] = self._search_approximately(queries[part], k)
        return distances, indices

    def _search_approximately(self, queries: Tensor, k: int) -> Tuple[np.ndarray, np.ndarray]:
        faiss_index.set_probes(self._index, self.probes)
        scores, indices = self._index.search(_for_faiss(queries), k)
        if self.metric == "cosine":
            distances = np.maximum(1.0 - scores, 0.0)
        else:
            distances = np.sqrt(np.maximum(scores, 0.0))
        distances[indices < 0] = np.inf
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
            found.append(largest_by_index(scores, width)[0])
        return torch.cat(found) if found else queries.new_empty((0, width), dtype=torch.long)

    def _distances(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """Float64 distances of the pairs (Q, W); Euclidean ones squared."""
        out = torch.empty(candidates.shape, dtype=torch.float64, device=queries.device)
        step = max(1, _PAIR_ELEMENTS // max(1, candidates.shape[1] * queries.shape[1]))
        parts = (value.split(step) for value in (out, queries, candidates))
        for target, asked, found in zip(*parts):
            items = self._items.index_select(0, found.flatten()).double()
            items, asked = items.view(*found.shape, -1), asked[:, None].double()
            if self.metric == "cosine":
                target.copy_(1.0 - (items @ asked.transpose(1, 2))[:, :, 0]).clamp_(min=0.0)
            else:
                target.copy_(items.sub_(asked).square_().sum(2))
        return out

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

    # ------------------------------------------------------------------------------------ files

    def save(self, folder: Union[str, Path]) -> None:
        """Write items, ids and fingerprint into ``folder``, in the place of an index there.

        The folder appears whole or not at all.

        Raises:
            RuntimeError: ``fit`` has not been called.
            FileExistsError: ``folder`` exists and is no index.
        """
        if self._size is None:
            raise RuntimeError("NearestNeighbors.save needs fit(features) first.")
        folder = Path(folder)
        if folder.exists() and not (folder / _META).is_file():
            raise FileExistsError(f"{folder} exists and is no index; choose another folder.")
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        partial.mkdir(parents=True)
        try:
            self._write(partial)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        if self.exact:
            np.save(folder / _ITEMS, self._items.cpu().numpy())
        else:
            faiss_index.faiss.write_index(self._index, str(folder / _INDEX))
        if self.ids is not None:
            np.save(folder / _IDS, self.ids)
        meta = {
            "format": _FORMAT,
            "metric": self.metric,
            "index": self.index,
            "probes": self.probes,
            "items": len(self),
            "dimensions": self._size,
            "fingerprint": self.fingerprint,
        }
        (folder / _META).write_text(json.dumps(meta, indent=2), encoding="utf-8")

    @classmethod
    def load(
        cls,
        folder: Union[str, Path],
        device: str = "cpu",
        *,
        gpus: str = "one",
        fingerprint: Optional[str] = None,
    ) -> "NearestNeighbors":
        """What ``save`` wrote.

        Args:
            fingerprint: of the model that will ask; None: not compared.

        Raises:
            FileNotFoundError: no index there.
            ValueError: the index is of another model, or of a later version of this package.
        """
        folder = Path(folder)
        meta = _read_meta(folder)
        if fingerprint is not None and meta["fingerprint"] != fingerprint:
            raise ValueError(
                f"{folder} was made by the model {meta['fingerprint'] or '(not said)'}, and the "
                f"model that asks is {fingerprint}: their features cannot be compared. Make the "
                "index anew with this model, or ask with that one."
            )
        index = cls(meta["metric"], device, index=meta["index"], gpus=gpus, probes=meta["probes"])
        ids = np.load(folder / _IDS) if (folder / _IDS).is_file() else None
        if index.exact:
            items = as_features(np.load(folder / _ITEMS), _ITEMS, index.device)
            index._fit(items, ids)  # of length 1 already, and so the same to the last bit
        else:
            index._index = faiss_index.faiss.read_index(str(folder / _INDEX))
            index._size, index.ids = meta["dimensions"], ids
        index.fingerprint = meta["fingerprint"]
        return index


def _read_meta(folder: Path) -> Dict[str, Any]:
    path = folder / _META
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no index ({_META} is absent).")
    meta = json.loads(path.read_text(encoding="utf-8"))
    if meta.get("format") != _FORMAT:
        raise ValueError(
            f"{path} is of format {meta.get('format')}; this version reads {_FORMAT}. Make the "
            "index anew."
        )
    return meta


def _for_faiss(features: Tensor) -> np.ndarray:
    return np.ascontiguousarray(features.float().cpu().numpy())
