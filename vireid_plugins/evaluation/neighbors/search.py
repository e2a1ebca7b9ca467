"""Nearest neighbors of queries: exact or approximate, by faiss if it is installed, else by PyTorch.

Shapes: Q queries, N stored items, D features, k neighbors.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ...errors import ExistingFileError, UserError
from ..arguments import array_of, device_named, whole_number, word
from ..similarity import Array, as_features, check_metric, normalize
from .facts import FORMAT, META, check_files, read_meta, sum_of
from .faiss_index import (
    FLAT,
    GPU_MODES,
    approximate_index,
    flat_index,
    load_faiss,
    require_faiss,
)
from .stores import ApproximateItems, ExactItems, trained

_IDS = "ids.npy"


class NearestNeighbors:
    """Search among stored items.

    ``index="flat"`` is exact: distances of the candidates are recomputed in float64, and equal
    ones are ordered by index, whatever library is used underneath. Any other ``index`` is a factory
    string of faiss. Its answers are approximate, and so are the distances if it compresses items:

    - ``"HNSW32"``: a graph; fast, and larger than the items.
    - ``"IVF,SQ8"``: lists around centers, a byte for each dimension: a quarter of the items.
    - ``"OPQ64,IVF,PQ64"``: 64 bytes an item, for galleries larger than the memory.

    ``IVF`` without a number has about 4 sqrt(N) lists, where N is the number of items of ``fit``.

    Args:
        metric: ``"cosine"``: distances 1 - cos; ``"euclidean"``: Euclidean distances, not squared.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ... faiss is used on a GPU only if its build
            has GPU support; otherwise PyTorch does the work there. Approximate indexes stay on the
            CPU.
        index: ``"flat"``, or a factory string of faiss.
        gpus: for an exact index on ``cuda``: ``"one"`` uses one GPU; ``"shards"`` and
            ``"replicas"`` use all of them and divide the items, or the queries.
        probes: lists that a query searches in an ``IVF`` index; more lists find more neighbors and
            take longer.

    Attributes:
        ids: (N,) names of the items, integers or strings such as paths; None: items have only
            numbers.
        fingerprint: the fingerprint of the model that made the features; empty: unknown.

    Raises:
        UserError: a word is unknown, or an approximate index needs faiss, which is not installed.
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
        word(gpus, "gpus", GPU_MODES)
        if not isinstance(index, str) or not index:
            raise UserError(f"index must be {FLAT!r} or a factory string of faiss; got {index!r}.")
        if index != FLAT:
            require_faiss(f"The index {index!r}")
        self.metric, self.index, self.gpus = metric, index, gpus
        self.probes = whole_number(probes, "probes")
        self.device = device_named(device)
        self.ids: Optional[np.ndarray] = None
        self.fingerprint = ""
        self._size = 0
        self._store: Union[ExactItems, ApproximateItems, None] = None

    @property
    def exact(self) -> bool:
        """Whether the answers are exact."""
        return self.index == FLAT

    def __len__(self) -> int:
        """Return the number of stored items."""
        return 0 if self._store is None else len(self._store)

    def fit(self, features: Array, ids: Optional[Array] = None) -> "NearestNeighbors":
        """Store the items (N, D) to search among, and forget earlier ones; return ``self``.

        An approximate index also learns its centers from them; ``add`` stores more items.

        Args:
            features: (N, D).
            ids: (N,) integers or strings.

        Raises:
            UserError: there are no items, there are more or fewer ids than items, or features are
                not finite.
        """
        items = self._prepared(features, "features")
        if len(items) == 0:
            raise UserError("features has no rows: nothing to search among.")
        return self._fit(items, ids)

    def _fit(self, items: Tensor, ids: Optional[Array]) -> "NearestNeighbors":
        self._size = items.shape[1]
        self.ids = self._checked_ids(ids, len(items))
        if self.exact:
            index = flat_index(self._size, self.metric, self.device, self.gpus)
            self._store = ExactItems(items, self.metric, index)
        else:
            index = approximate_index(self.index, self._size, self.metric, len(items))
            self._store = ApproximateItems(trained(index, items), self.metric, self.probes)
            self._store.add(items)
        return self

    def add(self, features: Array, ids: Optional[Array] = None) -> "NearestNeighbors":
        """Store more items (M, D) after the stored ones; return ``self``.

        Raises:
            RuntimeError: ``fit`` has not been called.
            UserError: as ``fit``, or only some of the items have ids.
        """
        store = self._fitted("add")
        items = self._prepared(features, "features")
        if (ids is None) != (self.ids is None):
            raise UserError("Either all items have ids or none; give ids for all, or for none.")
        self._check_size(items, "features")
        checked = self._checked_ids(ids, len(items))
        if self.ids is not None and checked is not None:
            self.ids = np.concatenate([self.ids, checked])
        store.add(items)
        return self

    def _fitted(self, word: str) -> Union[ExactItems, ApproximateItems]:
        if self._store is None:
            raise RuntimeError(f"NearestNeighbors.{word} needs fit(features) first.")
        return self._store

    def _check_size(self, rows: Tensor, name: str) -> None:
        if rows.shape[1] != self._size:
            raise UserError(f"{name} have {rows.shape[1]} dimensions, the items {self._size}.")

    @staticmethod
    def _checked_ids(ids: Optional[Array], count: int) -> Optional[np.ndarray]:
        if ids is None:
            return None
        names = array_of(ids, "ids")
        if names.shape != (count,) or (count and names.dtype.kind not in "iuU"):
            raise UserError(
                f"ids must be {count} integers or strings; got shape {names.shape}, {names.dtype}."
            )
        return names

    def _prepared(self, features: Array, name: str) -> Tensor:
        items = as_features(features, name, self.device if self.exact else torch.device("cpu"))
        return normalize(items) if self.metric == "cosine" else items

    def search(self, queries: Array, k: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return the k nearest items of each query (Q, D).

        Returns:
            distances (Q, k) float32, ascending, and indices (Q, k) int64; where an approximate
            index finds fewer, they are infinity and -1.

        Raises:
            RuntimeError: ``fit`` has not been called.
            UserError: k is below 1 or above the number of items, or features do not fit.
        """
        store = self._fitted("search")
        k = whole_number(k, "k")
        if k > len(store):
            raise UserError(f"k must lie between 1 and the number of items, {len(store)}; got {k}.")
        queries = self._prepared(queries, "queries")
        self._check_size(queries, "queries")
        return store.search(queries, k)

    def save(self, folder: Union[str, Path]) -> None:
        """Write items, ids and fingerprint into ``folder``; an index that is there is replaced.

        The folder appears whole or not at all.

        Raises:
            RuntimeError: ``fit`` has not been called.
            ExistingFileError: ``folder`` exists and is not an index.
        """
        store = self._fitted("save")
        folder = Path(folder)
        if folder.exists() and not (folder / META).is_file():
            raise ExistingFileError(f"{folder} exists and is not an index; choose another folder.")
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
        partial.mkdir(parents=True)
        try:
            store.write(partial)
            self._write_facts(partial)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _write_facts(self, folder: Path) -> None:
        if self.ids is not None:
            np.save(folder / _IDS, self.ids)
        meta = {
            "format": FORMAT,
            "metric": self.metric,
            "index": self.index,
            "probes": self.probes,
            "items": len(self),
            "dimensions": self._size,
            "fingerprint": self.fingerprint,
            "sums": {path.name: sum_of(path) for path in sorted(folder.iterdir())},
        }
        (folder / META).write_text(json.dumps(meta, indent=2), encoding="utf-8")

    @classmethod
    def load(
        cls,
        folder: Union[str, Path],
        device: str = "cpu",
        *,
        gpus: str = "one",
        fingerprint: Optional[str] = None,
    ) -> "NearestNeighbors":
        """Return the index that ``save`` wrote.

        Args:
            folder: the folder of the index.
            device: where to search an exact index.
            gpus: see the class.
            fingerprint: the fingerprint of the model whose features will be searched for, which
                must be that of the index; None: any model is accepted.

        Raises:
            MissingFileError: there is no index.
            UserError: the index is of another model, or of a later version of this package, or
                a file of it is damaged.
        """
        folder = Path(folder)
        meta = read_meta(folder)
        if fingerprint is not None and meta["fingerprint"] != fingerprint:
            raise UserError(
                f"{folder} was made by the model {meta['fingerprint'] or '(unknown)'}, and the "
                f"queries come from the model {fingerprint}: their features cannot be compared. "
                "Build the index again with this model, or search with that one."
            )
        found = cls(meta["metric"], device, index=meta["index"], gpus=gpus, probes=meta["probes"])
        found.fingerprint = meta["fingerprint"]
        check_files(folder, meta)
        ids = np.load(folder / _IDS) if (folder / _IDS).is_file() else None
        if found.exact:
            items = as_features(np.load(folder / ExactItems.FILE), "items", found.device)
            return found._fit(items, ids)  # they have length 1 already, so no bit changes
        index = load_faiss().read_index(str(folder / ApproximateItems.FILE))
        found._store = ApproximateItems(index, found.metric, found.probes)
        found._size, found.ids = meta["dimensions"], ids
        return found
