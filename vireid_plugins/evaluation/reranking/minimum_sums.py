"""Sum the minima of the rows of sparse matrices, in blocks, on all threads of the CPU.

Shapes: A and B rows of N columns, R rows of a block, P pairs of entries in one column.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator, List, NamedTuple, Optional

import numpy as np
import torch

from ..late_sparse import sparse

_BLOCK_PAIRS = 1 << 19  # pairs of entries in a block; each thread works on one block
_RENEWALS = 16  # how often the rows that are still to be met are transposed


def minimum_sums(
    a: sparse.csr_matrix, b: Optional[sparse.csr_matrix] = None, least: float = 0.0
) -> sparse.csr_matrix:
    """Return for each row of ``a`` and of ``b`` the sum over columns of the smaller entry.

    Args:
        a: (A, N), entries above 0.
        b: (B, N), entries above 0; None: ``a`` itself, and then each pair is computed once (a few
            twice).
        least: only sums above it are stored; at least 0.

    Returns:
        (A, B) float32.
    """
    result = _GrowingRows((a if b is None else b).shape[0])
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        blocks = _blocks(a, b)
        while True:
            part = list(itertools.islice(blocks, threads))  # as many blocks at a time as threads
            if not part:
                break
            for block, sums in zip(part, pool.map(_minimum_sums, part)):
                rows = np.repeat(np.arange(sums.shape[0]), np.diff(sums.indptr))
                found = sums.indices + block.first
                kept = sums.data > np.float32(least)
                if b is None:
                    kept &= found >= block.begin + rows
                counts = np.bincount(rows[kept], minlength=sums.shape[0])
                result.append(counts, found[kept], sums.data[kept])
    return _with_mirror(result.matrix()) if b is None else result.matrix()


def _with_mirror(upper: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the symmetric matrix of which ``upper`` (A, A) is the upper half, and the diagonal."""
    rows = np.repeat(np.arange(upper.shape[0]), np.diff(upper.indptr))
    beyond = upper.indices > rows
    counts = np.bincount(rows[beyond], minlength=upper.shape[0])
    parts = (upper.data[beyond], upper.indices[beyond], np.concatenate([[0], counts.cumsum()]))
    return upper + sparse.csr_matrix(parts, upper.shape).T.tocsr()


class _Block(NamedTuple):
    """Rows of ``a``, and the rows of ``b`` that they meet."""

    rows: sparse.csr_matrix  # (R, N)
    begin: int  # the number of the first of them
    columns: sparse.csr_matrix  # (N, M) the transpose of rows of ``b``
    first: int  # the number of the first of them


def _blocks(a: sparse.csr_matrix, b: Optional[sparse.csr_matrix]) -> Iterator[_Block]:
    """Yield the rows of ``a`` in blocks of bounded work.

    Without ``b``, rows meet themselves and those after them. The transpose of these is made anew
    only now and then, so that rows may also meet some before them.
    """
    step = max(1, a.shape[0] if b is not None else a.shape[0] // _RENEWALS)
    for first in range(0, a.shape[0], step):
        part, others = a[first : first + step], a[first:] if b is None else b
        columns = others.T.tocsr()
        pairs = np.diff(columns.indptr)[part.indices].cumsum(dtype=np.int64)
        ends = np.concatenate([[0], pairs])[part.indptr]
        begin = 0
        while begin < part.shape[0]:
            most = np.searchsorted(ends, ends[begin] + _BLOCK_PAIRS, side="right") - 1
            rows = part[begin : max(begin + 1, int(most))]
            yield _Block(rows, first + begin, columns, first if b is None else 0)
            begin += rows.shape[0]


def _minimum_sums(block: _Block) -> sparse.csr_matrix:
    """Return the sums of minima of rows (R, N) and of columns (N, M): (R, M).

    Each entry of a row meets the entries of its column: P pairs. Their minima are summed by a
    product of two sparse matrices: (R, P) has a one where a pair belongs to a row, (P, M) has the
    minimum where a pair belongs to a column.
    """
    rows, columns = block.rows, block.columns
    met = columns[rows.indices]
    minima = np.repeat(rows.data, np.diff(met.indptr))
    np.minimum(minima, met.data, out=minima)
    num = len(minima)
    places = np.arange(num + 1, dtype=np.int32)
    ones = np.ones(num, minima.dtype)
    left = sparse.csr_matrix((ones, places[:-1], met.indptr[rows.indptr]), (rows.shape[0], num))
    return left @ sparse.csr_matrix((minima, met.indices, places), (num, columns.shape[1]))


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
