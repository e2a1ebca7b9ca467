"""Compare all items with each other, each pair once, and keep what each item needs of it.

The nearness of two items is -d²/2, d their distance, so it is the same from both sides: a tile of
the upper half of the matrix of all pairs belongs to the items of its rows and to those of its
columns. Only one tile is in memory.

Shapes: N items, D features; R rows and C columns of a tile; W nearest items that are kept; P places
in a tile.
"""

from typing import Iterator, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..ranking.topk import largest_by_index
from ..similarity import products

_SIDE = 2048  # rows and columns of a tile, below 2^15: with fewer, the product is slow
_BLOCK_ELEMENTS = 1 << 20  # features in a block of rows
# Nearness errs by less than this times |a|^2 + |b|^2.
_ERRORS = {torch.float32: 1e-6, torch.float64: 1e-14}

_Places = Tuple[Tensor, Tensor, Tensor]


class Items:
    """Features (N, D), seen from their mean: distances are the same, rounding errors are smaller.

    Attributes:
        features: (N, D) as they were given.
        squares: (N,) the squared lengths of the rows.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features
        self._mean = features.mean(0)
        step = max(1, _BLOCK_ELEMENTS // features.shape[1])
        parts = (slice(begin, begin + step) for begin in range(0, len(features), step))
        self.squares = torch.cat([self.rows(part).square_().sum(1) for part in parts])

    def rows(self, which: slice) -> Tensor:
        """Return some rows (R, D), less the mean."""
        return self.features[which] - self._mean

    def error(self) -> Tensor:
        """Return a bound (N,) of the error of the nearness of each item to any."""
        return _ERRORS[self.features.dtype] * (self.squares + self.squares.amax())


class Tile(NamedTuple):
    """The nearness (R, C) of items to items; tiles come in the order of the items."""

    rows: slice
    columns: slice
    nearness: Tensor

    @property
    def diagonal(self) -> bool:
        """Whether rows and columns are the same items."""
        return self.rows == self.columns


def tiles(items: Items) -> Iterator[Tile]:
    """Yield the nearness of all pairs, each pair once; the next tile is in the same memory.

    An item is infinitely near to itself, so that it comes before its duplicates.
    """
    num, halves = len(items.features), items.squares / 2
    memory = items.features.new_empty(min(_SIDE, num) ** 2)
    blocks = [slice(begin, min(begin + _SIDE, num)) for begin in range(0, num, _SIDE)]
    for place, rows in enumerate(blocks):
        a = items.rows(rows)
        for columns in blocks[place:]:
            b = a if rows == columns else items.rows(columns)
            nearness = memory[: len(a) * len(b)].view(len(a), len(b))
            products(a, b, out=nearness).sub_(halves[columns]).sub_(halves[rows, None])
            if rows == columns:
                nearness.fill_diagonal_(torch.inf)
            yield Tile(rows, columns, nearness)


class Farthest:
    """How near the farthest item of each item is, ``nearness`` (N,).

    Args:
        like: (N, D) features, for device and precision.
    """

    def __init__(self, like: Tensor) -> None:
        self.nearness = like.new_full((len(like),), torch.inf)

    def take(self, tile: Tile) -> None:
        """Look at a tile."""
        rows, columns = self.nearness[tile.rows], self.nearness[tile.columns]
        torch.minimum(rows, _row_min(tile.nearness), out=rows)
        torch.minimum(columns, _row_min(tile.nearness.T), out=columns)


class Nearest:
    """The W nearest items of each item, the nearest first, equal ones by index.

    Newcomers wait behind the W until no slot is free; then all are sorted, and W stay.

    Args:
        like: (N, D) features, for device and precision.
        width: W.
    """

    def __init__(self, like: Tensor, width: int) -> None:
        num = len(like)
        slots = min(3 * width, num)  # no item can have more neighbors
        self._width, self._slots = width, slots
        self._values = like.new_full((num, slots), -torch.inf)  # of slots that are free
        self._items = torch.zeros((num, slots), dtype=torch.int64, device=like.device)
        self._taken = torch.zeros(num, dtype=torch.int64, device=like.device)
        self._limits = like.new_full((num,), -torch.inf)  # who is not nearer does not matter

    def take(
        self, tile: Tile, for_rows: Optional[Tensor] = None, for_columns: Optional[Tensor] = None
    ) -> None:
        """Look at a tile.

        Args:
            tile: shown in order, because of equally near items the first ones stay.
            for_rows: bool, broadcast to (R, C), which columns can be neighbors of a row.
            for_columns: which rows can be neighbors of a column.
        """
        self._take(tile.rows, tile.columns.start, tile.nearness, for_rows)
        if not tile.diagonal:
            mask = None if for_columns is None else for_columns.T
            self._take(tile.columns, tile.rows.start, tile.nearness.T, mask)

    def found(self) -> Tuple[Tensor, Tensor]:
        """Return the items (N, W) and their nearness, minus infinity where there is no item."""
        self._sort(slice(0, len(self._items)), self._taken > 0)
        return self._items[:, : self._width], self._values[:, : self._width]

    def _take(self, own: slice, first: int, nearness: Tensor, mask: Optional[Tensor]) -> None:
        """Look at the nearness (R, C) of the items ``own`` to those from ``first`` on."""
        self._sort(own, self._limits[own].isneginf() & (self._taken[own] >= self._width))
        limits = self._limits[own]
        if bool(limits.isneginf().any()):
            limits = limits.maximum(_just_below(_allowed(nearness, mask), self._width))
        places = _above(nearness, limits, mask)
        counts = places[0].bincount(minlength=len(nearness))
        crowded = counts > self._slots - self._taken[own].clamp(max=self._width)
        if bool(crowded.any()):  # many are equally near
            rest = ~crowded[places[0]]
            self._add(own, first, *(one[rest] for one in places))
            places = _largest(nearness, mask, crowded.nonzero()[:, 0], self._width)
        self._add(own, first, *places)

    def _add(self, own: slice, first: int, rows: Tensor, columns: Tensor, values: Tensor) -> None:
        """Put places (P,) of a tile, row by row, into free slots, at most 2 W of each row."""
        counts = rows.bincount(minlength=own.stop - own.start)
        self._sort(own, self._taken[own] + counts > self._slots)
        # The first free slot of each row, less the number of the row's first place.
        free = torch.arange(own.start, own.stop, device=rows.device) * self._slots
        free += self._taken[own] + counts - counts.cumsum(0)
        slots = free[rows] + torch.arange(len(rows), device=rows.device)
        self._values.view(-1)[slots] = values
        self._items.view(-1)[slots] = first + columns
        self._taken[own] += counts

    def _sort(self, own: slice, which: Tensor) -> None:
        """Sort the neighbors of some of the items ``own``, ``which`` (R,) bool; W of each stay."""
        items = own.start + which.nonzero()[:, 0]
        if not len(items):
            return
        values, order = self._values[items].sort(dim=1, descending=True, stable=True)
        values[:, self._width :] = -torch.inf
        self._values[items], self._items[items] = values, self._items[items].gather(1, order)
        self._limits[items] = values[:, self._width - 1]
        self._taken[items] = self._taken[items].clamp(max=self._width)


def _allowed(nearness: Tensor, mask: Optional[Tensor]) -> Tensor:
    """Return values (R, C), minus infinity where ``mask`` is false."""
    return nearness if mask is None else nearness.masked_fill(~mask, -torch.inf)


def _just_below(values: Tensor, width: int) -> Tensor:
    """Return for each row (R, C) a number that at least ``width`` values exceed, and not many more.

    As many maxima of groups of columns exceed it.
    """
    size = values.shape[1] // (4 * width)
    if size < 2:
        return values.new_full((len(values),), -torch.inf)
    groups = values.shape[1] // size
    maxima = _maximum(values[:, : size * groups].unflatten(1, (size, groups)))
    return maxima.topk(width, dim=1).values[:, -1].nextafter(values.new_tensor(-torch.inf))


def _largest(nearness: Tensor, mask: Optional[Tensor], rows: Tensor, width: int) -> _Places:
    """Return the places of the ``width`` largest values of some rows (M,), equal ones by index."""
    kept = None if mask is None else mask.expand_as(nearness)[rows]
    width = min(width, nearness.shape[1])
    columns, values = largest_by_index(_allowed(nearness[rows], kept), width)
    found = values > -torch.inf
    return rows[:, None].expand_as(columns)[found], columns[found], values[found]


# On a CPU, NumPy does the following several times as fast.


def _above(nearness: Tensor, limits: Tensor, mask: Optional[Tensor]) -> _Places:
    """Return where rows (R, C) exceed their limits (R,), row by row: rows, columns, values (P,)."""
    if nearness.device.type != "cpu":
        better = nearness > limits[:, None]
        rows, columns = (better if mask is None else better & mask).nonzero(as_tuple=True)
        return rows, columns, nearness[rows, columns]
    stored = nearness.numpy()
    above = stored > limits.numpy()[:, None]
    if mask is not None:
        above &= mask.numpy()
    if stored.flags.c_contiguous:
        places = np.flatnonzero(above)
        found = np.divmod(places, stored.shape[1])
    else:  # the transpose is
        stored = stored.T
        places = np.flatnonzero(above.T)
        others, own = np.divmod(places, stored.shape[1])
        # A stable sort of int16 takes time in proportion to P; a tile has fewer than 2^15 rows.
        order = np.argsort(own.astype(np.int16), kind="stable")
        places, found = places[order], (own[order], others[order])
    values = torch.from_numpy(stored.ravel()[places])
    return torch.from_numpy(found[0]), torch.from_numpy(found[1]), values


def _maximum(values: Tensor) -> Tensor:
    """Return the maxima of (R, S, G) over the second dimension."""
    on_cpu = values.device.type == "cpu"
    return torch.from_numpy(values.numpy().max(1)) if on_cpu else values.amax(1)


def _row_min(values: Tensor) -> Tensor:
    """Return the smallest value of each row (R, C)."""
    on_cpu = values.device.type == "cpu"
    return torch.from_numpy(values.numpy().min(1)) if on_cpu else values.amin(1)
