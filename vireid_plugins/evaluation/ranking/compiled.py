"""Ranks by numba: one pass over a query's scores, in chunks that stay in the first-level cache.

Importing this file imports numba, which infers the types of the loops: they bear none. Shapes as
in ``counting.py``.
"""

import functools
from typing import Any, Callable, Tuple

import numba
import numpy as np
import torch
from numba.extending import register_jitable
from torch import Tensor

from .parallel import in_parallel
from .views import NEVER, View

_CHUNK = 4096  # scores: 16 or 32 KiB
_LANES = 32  # scores that a processor compares in one turn of a loop, at most
_PIECE = 128  # scores that are searched for the nearest at once
_PART_SCORES = 1 << 23  # of a thread, at least: some ten milliseconds


@register_jitable
def _above(scores, value):
    """Return how many scores are greater than ``value``."""
    found = np.int32(0)
    for k in range(len(scores)):  # int32 keeps eight counters in one register
        found = np.int32(found + np.int32(scores[k] > value))
    return found


@register_jitable
def _reached(scores, value):
    """Return how many scores are ``value`` or greater."""
    found = np.int32(0)
    for k in range(len(scores)):
        found = np.int32(found + np.int32(scores[k] >= value))
    return found


@register_jitable
def _ahead(scores, place, value):
    """Return how many scores stand ahead of ``value`` at ``place``.

    Only the piece around the place needs more than one comparison of each score; the others are
    whole pieces, so that vector instructions count them without a rest.
    """
    if place < 0:
        return _above(scores, value)
    if place >= len(scores):
        return _reached(scores, value)
    start = place // _LANES * _LANES
    found = _reached(scores[:start], value) + _above(scores[start + _LANES :], value)
    for k in range(start, start + _LANES):
        found += (scores[k] > value) | ((scores[k] == value) & (k < place))
    return found


@register_jitable
def _meet(scores, place, value, identity, seen, query):
    """Note in ``seen`` the identities of those that :func:`_ahead` counts; return the new ones."""
    new = 0
    for start in range(0, len(scores), _LANES):
        piece, own = scores[start : start + _LANES], place - start
        if _reached(piece, value):
            for k in range(len(piece)):
                if piece[k] > value or (piece[k] == value and k < own):
                    new += seen[identity[start + k]] != query
                    seen[identity[start + k]] = query
    return new


@register_jitable
def _positives(row, columns, members, own_hidden, places, values):
    """Write the places and scores of the members that a query sees; return their number."""
    count = 0
    for place in members:
        if not own_hidden[place]:
            places[count], values[count] = place, row[columns[place]]
            count += 1
    return count


@register_jitable
def _hide(chunk, start, members, own_hidden):
    """Set the scores of members that a query does not see to minus infinity."""
    for place in members:
        if own_hidden[place] and start <= place < start + len(chunk):
            chunk[place - start] = -np.inf


@register_jitable
def _sink(values, places, size, value, place):
    """Put an item to the root of a heap and let it sink; the farthest item is on top.

    Of equal values the greater place is farther.
    """
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            values[right] < values[child]
            or (values[right] == values[child] and places[right] > places[child])
        ):
            child = right
        if values[child] > value or (values[child] == value and places[child] < place):
            break
        values[at], places[at] = values[child], places[child]
        at = child
    values[at], places[at] = value, place


@register_jitable
def _offer(scores, begin, values, places):
    """Put those of a chunk's scores into the heap that are greater than its least."""
    for start in range(0, len(scores), _PIECE):
        piece = scores[start : start + _PIECE]
        if _above(piece, values[0]):
            for k in range(len(piece)):
                if piece[k] > values[0]:
                    _sink(values, places, len(values), piece[k], begin + start + k)


@register_jitable
def _empty_into(values, places, nearest):
    """Write the places of a heap into ``nearest``, nearest first."""
    for size in range(len(values) - 1, -1, -1):
        nearest[size] = places[0]
        _sink(values, places, size, values[size], places[size])


def _find(
    scores, rows, own, columns, identity, members, starts, own_hidden, by_identity,
    ranks, first, nearest, begin, end,
):  # fmt: skip
    """Write ranks, first ranks and nearest places of queries ``begin`` to ``end``."""
    places = np.empty(ranks.shape[1], np.int64)
    values = np.empty(ranks.shape[1], scores.dtype)
    buffer = np.empty(_CHUNK, scores.dtype)
    seen = np.full(len(starts), -1)  # the last query that has met each identity
    heap = np.empty(nearest.shape[1], scores.dtype)
    heap_places = np.empty(nearest.shape[1], np.int64)
    for query in range(begin, end):
        row, own_members = scores[rows[query]], members[starts[own[query]] : starts[own[query] + 1]]
        count = _positives(row, columns, own_members, own_hidden, places, values)
        best = np.argmax(values[:count]) if count else 0
        ranks[query, :count] = 1
        heap[:], heap_places[:] = -np.inf, -1
        identities = 1
        for start in range(0, len(columns), _CHUNK):
            taken = columns[start : start + _CHUNK]
            chunk = buffer[: -(-len(taken) // _LANES) * _LANES]  # a whole number of pieces
            chunk[len(taken) :] = -np.inf
            for k in range(len(taken)):
                chunk[k] = row[taken[k]]
            if count < len(own_members):
                _hide(chunk, start, own_members, own_hidden)
            for m in range(count):
                ahead = _ahead(chunk, places[m] - start, values[m])
                ranks[query, m] += ahead
                if by_identity and ahead and m == best:
                    of_chunk = identity[start:]
                    place, value = places[m] - start, values[m]
                    identities += _meet(chunk, place, value, of_chunk, seen, query)
            if len(heap):
                _offer(chunk, start, heap, heap_places)
        if count:
            first[query] = identities
        if len(heap):
            _empty_into(heap, heap_places, nearest[query])


def compiled_form(dtype: torch.dtype) -> Callable:
    """Return ``counting.find_places`` for scores of a precision, compiled.

    The machine code is kept on the disk: beside this file, or where numba keeps it for the user.
    """
    real = {torch.float32: "f4", torch.float64: "f8"}[dtype]
    types = f"void({real}[:, ::1], i8[::1], i8[::1], u4[::1], i8[::1], i8[::1], i8[::1], b1[::1],"
    types += "b1, i8[:, ::1], i8[::1], i8[:, ::1], i8, i8)"
    try:
        kernel = numba.njit(types, nogil=True, cache=True)(_find)
    except (OSError, RuntimeError):  # no folder for the code, or a full one
        kernel = numba.njit(types, nogil=True)(_find)
    return functools.partial(find_places, kernel)


def find_places(
    kernel: Any,
    scores: Tensor,
    rows: np.ndarray,
    own: np.ndarray,
    view: View,
    by_identity: bool,
    top: int,
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what ``counting.find_places`` returns, found by a compiled :func:`_find`."""
    starts = view.starts.numpy()
    most = int((starts[own + 1] - starts[own]).max(initial=0))
    ranks = np.full((len(rows), most), NEVER)
    first = np.full(len(rows), NEVER)
    nearest = np.empty((len(rows), top), np.int64)
    columns = view.columns.numpy().astype(np.uint32)
    arrays = [part.numpy() for part in (view.identity, view.members, view.starts, view.own_hidden)]
    found = ranks, first, nearest
    work = functools.partial(kernel, scores.contiguous().numpy(), rows, own, columns, *arrays)
    least = _PART_SCORES // max(1, len(columns))
    in_parallel(functools.partial(work, by_identity, *found), len(rows), least)
    ranks.sort(axis=1)
    return ranks, first if by_identity else ranks[:, 0] if most else first, nearest
