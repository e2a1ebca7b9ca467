"""Sum the minima of the rows of sparse matrices, in blocks, on all threads of the CPU.

Shapes: A and B rows of N columns, R rows of a block.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..late_sparse import sparse

_BLOCK_ELEMENTS = 1 << 21  # sums in a block; each thread works on one block


def minimum_sums(
    a: sparse.csr_matrix, b: Optional[sparse.csr_matrix] = None, least: float = 0.0
) -> sparse.csr_matrix:
    """Return for each row of ``a`` and of ``b`` the sum over columns of the smaller entry.

    Args:
        a: (A, N), entries above 0.
        b: (B, N), entries above 0; None: ``a`` itself, and then each pair is computed once (a pair
            within a block twice).
        least: only sums above it are stored; at least 0.

    Returns:
        (A, B) float32.
    """
    one_sided, b = b is None, a if b is None else b
    result = _GrowingRows(b.shape[0])
    ends: List[int] = []
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        blocks = _blocks(a, _Columns.of(b), one_sided)
        while True:
            part = list(itertools.islice(blocks, threads))  # as many blocks at a time as threads
            if not part:
                break
            for counts, found, sums in pool.map(lambda pair: _above(pair[0], pair[1], least), part):
                ends += [len(result) + len(counts)] * len(counts)
                result.append(counts, found, sums)
    above = result.matrix()
    return above + _beyond(above, np.array(ends)).T.tocsr() if one_sided else above


def _beyond(matrix: sparse.csr_matrix, ends: np.ndarray) -> sparse.csr_matrix:
    """Return the entries of each row whose column is ``ends`` (A,) or a later one."""
    counts = np.diff(matrix.indptr)
    kept = matrix.indices >= np.repeat(ends, counts)
    rows = np.repeat(np.arange(len(ends)), counts)[kept]
    starts = np.concatenate([[0], np.bincount(rows, minlength=len(ends)).cumsum()])
    return sparse.csr_matrix((matrix.data[kept], matrix.indices[kept], starts), matrix.shape)


@dataclass(frozen=True)
class _Columns:
    """The columns of a sparse (B, N) matrix, from the row ``first`` on."""

    begins: np.ndarray  # (N,) where each column begins in ``rows``
    ends: np.ndarray  # (N,)
    rows: Tensor  # (nnz,) int64
    values: Tensor  # (nnz,)
    num_rows: int  # B
    first: int = 0

    @classmethod
    def of(cls, matrix: sparse.csr_matrix) -> _Columns:
        by_column = matrix.tocsc()
        starts = by_column.indptr.astype(np.int64)
        rows = torch.from_numpy(by_column.indices.astype(np.int64))
        values = torch.from_numpy(by_column.data.astype(np.float32))
        return cls(starts[:-1], starts[1:], rows, values, matrix.shape[0])

    def after(self, block: sparse.csr_matrix) -> _Columns:
        """Return the columns without their first rows, which are those of ``block`` (R, N)."""
        passed = np.bincount(block.indices, minlength=len(self.begins))
        return replace(self, begins=self.begins + passed, first=self.first + block.shape[0])


def _blocks(
    a: sparse.csr_matrix, columns: _Columns, one_sided: bool
) -> Iterator[Tuple[sparse.csr_matrix, _Columns]]:
    """Yield rows of ``a`` in blocks of bounded work, each with the columns that it meets."""
    begin = 0
    while begin < a.shape[0]:
        most = max(1, _BLOCK_ELEMENTS // max(1, columns.num_rows - columns.first))
        block = a[begin : begin + most]
        lengths = (columns.ends - columns.begins)[block.indices]
        met = np.concatenate([[0], np.cumsum(lengths)])[block.indptr]
        end = int(np.searchsorted(met, _BLOCK_ELEMENTS, side="right")) - 1
        block = block[: max(end, 1)]
        yield block, columns
        if one_sided:
            columns = columns.after(block)
        begin += block.shape[0]


def _above(
    a: sparse.csr_matrix, columns: _Columns, least: float
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sums of rows of ``a`` (R, N) above ``least``: counts by row, columns, sums."""
    sums = _minimum_sums(a, columns)
    flat = sums.numpy().ravel()
    kept = np.flatnonzero(flat > np.float32(least))
    rows, found = np.divmod(kept, sums.shape[1])
    found += columns.first
    return np.bincount(rows, minlength=len(sums)), found.astype(np.int32), flat[kept]


def _minimum_sums(a: sparse.csr_matrix, columns: _Columns) -> Tensor:
    """Return the sums of minima of rows of ``a`` (R, N) and of ``columns``: (R, B - first)."""
    starts = columns.begins[a.indices]
    counts = columns.ends[a.indices] - starts
    ends = counts.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    # Each entry of ``a`` meets the entries of its column, which stand side by side.
    offsets = np.repeat(starts - (ends - counts), counts)
    offsets += np.arange(total)
    places = torch.from_numpy(offsets)
    minima = torch.from_numpy(np.repeat(a.data, counts))
    torch.minimum(minima, columns.values.index_select(0, places), out=minima)
    width = columns.num_rows - columns.first
    first = np.arange(a.shape[0], dtype=np.int64) * width - columns.first
    first = np.repeat(first, np.diff(a.indptr))
    keys = torch.from_numpy(np.repeat(first, counts))
    keys += columns.rows.index_select(0, places)
    sums = torch.zeros(a.shape[0] * width)
    return sums.scatter_add_(0, keys, minima).view(a.shape[0], width)


class _GrowingRows:
    """A sparse matrix of B columns that grows by blocks of rows in place, without a second copy."""

    def __init__(self, num_columns: int) -> None:
        self._num_columns = num_columns
        self._columns, self._values = np.empty(0, np.int32), np.empty(0, np.float32)
        self._counts: List[np.ndarray] = []
        self._size = self._num_rows = 0

    def __len__(self) -> int:
        return self._num_rows

    def append(self, counts: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        """Append rows of ``counts`` entries each, given the columns and values of all entries."""
        end = self._size + len(values)
        if end > len(self._values):
            room = max(end, len(self._values) * 5 // 4)
            self._columns.resize(room, refcheck=False)
            self._values.resize(room, refcheck=False)
        self._columns[self._size : end], self._values[self._size : end] = columns, values
        self._counts.append(counts)
        self._size, self._num_rows = end, self._num_rows + len(counts)

    def matrix(self) -> sparse.csr_matrix:
        """Return the matrix of all rows that have been appended."""
        self._columns.resize(self._size, refcheck=False)
        self._values.resize(self._size, refcheck=False)
        counts = np.concatenate([np.zeros(1, np.int64), *self._counts])
        ends = np.cumsum(counts)
        if self._size < np.iinfo(np.int32).max:
            ends = ends.astype(np.int32)  # otherwise SciPy widens the columns, too
        shape = (len(ends) - 1, self._num_columns)
        return sparse.csr_matrix((self._values, self._columns, ends), shape=shape)
