"""Ranks by counting: how many valid gallery items stand ahead of each positive.

No similarity is ever sorted together with its indices. The rank of an item is one plus the number
of items with a greater score, plus the items with the very same score and a smaller gallery
index. Shapes: Q queries, G gallery items ordered by identity, M positives of a query (padded),
I gallery identities. Items that a query must not see hold minus infinity. NumPy does the work on
a CPU, where its value sort and comparisons are several times faster than PyTorch's; every other
device runs the same steps in PyTorch.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Tuple

import numpy as np
import torch
from torch import Tensor

# Rows with more tied positives than this are ranked by a stable sort with indices.
TIES_BY_COMPARISON = 16
_BLOCK_ELEMENTS = 1 << 22
_WIDE = 1 << 16  # columns from which on a row is compared in chunks
_CHUNK_ELEMENTS = 1 << 18  # of scores that are compared while they are in the cache


def on_cpu(scores: Tensor) -> bool:
    """Return whether NumPy can work on the memory of ``scores`` in place."""
    return scores.device.type == "cpu"


def take_columns(scores: Tensor, columns: Tensor) -> Tensor:
    """Return a copy of the given columns of ``scores`` (Q, N): (Q, G)."""
    if not on_cpu(scores):
        return scores.index_select(1, columns)
    return torch.from_numpy(np.take(scores.numpy(), columns.numpy(), axis=1))


def segment_reduce(values: Tensor, starts: Tensor, reduce: str) -> Tensor:
    """Return the maximum or minimum of runs of neighboring columns.

    Args:
        values: (Q, G).
        starts: (I,) first column of each run, ascending from 0; no run is empty.
        reduce: ``"amax"`` or ``"amin"``.

    Returns:
        (Q, I).
    """
    if on_cpu(values):
        ufunc = np.maximum if reduce == "amax" else np.minimum
        return torch.from_numpy(ufunc.reduceat(values.numpy(), starts.numpy(), axis=1))
    columns = torch.arange(values.shape[1], device=values.device)
    runs = (torch.searchsorted(starts, columns, right=True) - 1).expand_as(values)
    out = values.new_empty((values.shape[0], len(starts)))
    return out.scatter_reduce(1, runs, values, reduce, include_self=False)


def count_true(mask_of: Callable[..., Any], scores: Tensor, values: Tensor) -> Tensor:
    """Return for each row the number of columns where ``mask_of(scores, value)`` holds: (Q,).

    Args:
        mask_of: a comparison that works on arrays and on tensors.
        scores: (Q, G).
        values: (Q,).
    """
    if on_cpu(scores):
        mask = mask_of(scores.numpy(), values.numpy()[:, None])
        return torch.from_numpy(np.count_nonzero(mask, axis=1).astype(np.int64, copy=False))
    return mask_of(scores, values[:, None]).sum(1)


def sort_rows(scores: Tensor) -> Tensor:
    """Return each row of ``scores`` (Q, G) in ascending order; a CPU sorts blocks in parallel."""
    if not on_cpu(scores):
        return scores.sort(dim=1).values
    values = scores.numpy().copy()
    _in_parallel(lambda part: values[part].sort(axis=1), values, parts_per_thread=4)
    return torch.from_numpy(values)


def comparing_pays(num_values: int, num_scores: int) -> bool:
    """Return whether comparing all scores of a row with all values costs less than sorting it."""
    return num_values <= (20 if num_scores >= _WIDE else 6)


def compare_with_each(scores: Tensor, values: Tensor) -> Tuple[Tensor, Tensor]:
    """Return what ``count_ahead`` does, by comparing every score with every value."""
    if not on_cpu(scores):
        greater = [(scores > slot[:, None]).sum(1) for slot in values.unbind(1)]
        equal = [(scores == slot[:, None]).sum(1) for slot in values.unbind(1)]
        return torch.stack(greater, 1), torch.stack(equal, 1)
    rows, compared = scores.numpy(), values.numpy()
    counts = np.empty((2, *compared.shape), np.int64)
    compare_rows = _compare_wide_rows if rows.shape[1] >= _WIDE else _compare_rows

    def compare(part: slice) -> None:
        compare_rows(rows[part], compared[part], counts[:, part])

    _in_parallel(compare, rows)
    return torch.from_numpy(counts[0]), torch.from_numpy(counts[1])


def _compare_rows(scores: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
    """Write into ``counts`` (2, Q, M) how many scores are greater, and how many are equal."""
    mask = np.empty(scores.shape, bool)
    for slot in range(values.shape[1]):
        for kind, compared in enumerate((np.greater, np.equal)):
            compared(scores, values[:, slot, None], out=mask)
            counts[kind, :, slot] = np.count_nonzero(mask, axis=1)


def _compare_wide_rows(scores: np.ndarray, values: np.ndarray, counts: np.ndarray) -> None:
    """Do what :func:`_compare_rows` does, in chunks of columns that stay in the cache.

    Results are added up in bytes, one for each column of a chunk. There are at most 255 chunks, so
    no byte overflows.
    """
    num_rows, num_columns = scores.shape
    width = max(_CHUNK_ELEMENTS // max(1, num_rows), -(-num_columns // 255))
    sums = np.zeros((2, values.shape[1], num_rows, width), np.uint8)
    mask = np.empty((num_rows, width), bool)
    for begin in range(0, num_columns, width):
        chunk = scores[:, begin : begin + width]
        size = chunk.shape[1]
        for slot in range(values.shape[1]):
            for kind, compared in enumerate((np.greater, np.equal)):
                compared(chunk, values[:, slot, None], out=mask[:, :size])
                sums[kind, slot, :, :size] += mask[:, :size].view(np.uint8)
    counts[:] = sums.sum(axis=3, dtype=np.int64).transpose(0, 2, 1)


def _in_parallel(
    work: Callable[[slice], None], scores: np.ndarray, parts_per_thread: int = 1
) -> None:
    """Call ``work`` for parts of the rows of ``scores`` in threads; NumPy releases the GIL."""
    threads = torch.get_num_threads()
    if threads == 1 or scores.size < 1 << 18:
        work(slice(0, len(scores)))
        return
    edges = np.linspace(0, len(scores), threads * parts_per_thread + 1).astype(int)
    parts = [slice(a, b) for a, b in zip(edges[:-1], edges[1:]) if a < b]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, parts))


def count_ahead(scores: Tensor, values: Tensor) -> Tuple[Tensor, Tensor]:
    """Return how many scores are greater than, and equal to, each value in its own row.

    Args:
        scores: (Q, G), minus infinity where a query must not look.
        values: (Q, M), plus infinity as padding.

    Returns:
        ``greater`` (Q, M) and ``equal`` (Q, M), int64.
    """
    if comparing_pays(values.shape[1], scores.shape[1]):
        return compare_with_each(scores, values)
    ascending = sort_rows(scores)
    upto = torch.searchsorted(ascending, values, right=True)
    below = torch.searchsorted(ascending, values)
    return scores.shape[1] - upto, upto - below


def positive_ranks(
    scores: Tensor, values: Tensor, columns: Tensor, valid: Tensor, position: Tensor
) -> Tensor:
    """Return the rank, from 1, of each positive among the items that its query may see.

    Args:
        scores: (Q, G).
        values: (Q, M) scores of the positives, plus infinity where not ``valid``.
        columns: (Q, M) their columns; anything in range where not ``valid``.
        valid: (Q, M) bool.
        position: (G,) gallery index of each column, which decides between equal scores.

    Returns:
        (Q, M) int64; entries that are not ``valid`` mean nothing.
    """
    greater, equal = count_ahead(scores, values)
    ranks = greater + 1
    tied = (equal > 1) & valid
    if not bool(tied.any()):
        return ranks
    many = tied.sum(1) > TIES_BY_COMPARISON
    tied_few = tied & ~many[:, None]
    rows, slots = tied_few.nonzero(as_tuple=True)
    own = columns[rows, slots]
    ranks[rows, slots] += _equal_and_earlier(scores, rows, own, position)
    rows = many.nonzero(as_tuple=True)[0]
    if len(rows):
        ranks[rows] = _ranks_by_sorting(scores[rows], position).gather(1, columns[rows])
    return ranks


def _equal_and_earlier(scores: Tensor, rows: Tensor, own: Tensor, position: Tensor) -> Tensor:
    """Return how many equal scores of its row have a smaller position, for each item (T,).

    Args:
        scores: (Q, G).
        rows: (T,) the row of each item.
        own: (T,) its column.
        position: (G,) gallery index of each column.
    """
    counts = torch.zeros_like(rows)
    step = max(1, _BLOCK_ELEMENTS // max(1, scores.shape[1]))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        block = scores[rows[part]]
        equal = block == block.gather(1, own[part, None])
        counts[part] = (equal & (position < position[own[part], None])).sum(1)
    return counts


def _ranks_by_sorting(scores: Tensor, position: Tensor) -> Tensor:
    """Return the rank, from 1, of every item of ``scores`` (T, G), by a stable sort."""
    descending = torch.empty_like(scores)
    descending[:, position] = -scores
    order = torch.sort(descending, dim=1, stable=True).indices
    steps = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, steps)
    return ranks[:, position]


def identity_ranks(
    scores: Tensor, best: Tensor, own: Tensor, starts: Tensor, position: Tensor
) -> Tensor:
    """Return the rank, from 1, of each query's identity if each identity counts once, at its best.

    Args:
        scores: (Q, G) with columns ordered by identity.
        best: (Q,) score of the query's best positive; every query has one.
        own: (Q,) number of the query's identity among the gallery's identities.
        starts: (I,) first column of each identity.
        position: (G,) gallery index of each column.

    Returns:
        (Q,) int64.
    """
    top = segment_reduce(scores, starts, "amax")
    ranks = 1 + count_true(lambda s, v: s > v, top, best)
    rows = (count_true(lambda s, v: s == v, top, best) > 1).nonzero(as_tuple=True)[0]
    if len(rows) == 0:
        return ranks
    value = best[rows, None]
    end = torch.full((), len(position), dtype=position.dtype, device=position.device)
    first = torch.where(scores[rows] == value, position.expand(len(rows), -1), end)
    first = segment_reduce(first, starts, "amin")
    # An identity that a greater score has counted already may have this score, too: leave it out.
    first = torch.where(top[rows] == value, first, end)
    ranks[rows] += (first < first.gather(1, own[rows, None])).sum(1)
    return ranks
