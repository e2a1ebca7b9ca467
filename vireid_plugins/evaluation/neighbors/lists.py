"""Find the nearest neighbors of every item among all items, in blocks.

The search is done in float32, and close cases are decided in float64.

Shapes: N items, D features, R rows of a block, k neighbors, W candidates.
"""

import functools
from typing import Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..ranking.topk import largest_by_index
from ..similarity import products

# Elements of a block of distances (with fewer rows the product is slow), and of a block of
# gathered features.
_BLOCK_ELEMENTS = 1 << 25
_PAIR_ELEMENTS = 1 << 20
# In float32, 2ab - |b|^2 errs by less than this times |a|^2 + |b|^2.
_FLOAT32_ERROR = 2e-6
_SPARE = 8  # more candidates than k; float64 decides between them


def nearest_items(
    features: Tensor,
    k: int,
    groups: Optional[Tensor] = None,
    allowed: Optional[Tensor] = None,
) -> Tuple[np.ndarray, np.ndarray]:
    """Return the k nearest items of each item: itself first, equally near ones by index.

    The order is that of float64. Distances of float32 features are computed in float32, and rows in
    which rounding could decide between two neighbors are computed again in float64.

    Args:
        features: (N, D).
        k: from 1 to N, and at most as many as are allowed.
        groups: (N,), see :func:`_in_turn`; None: all items are in one group.
        allowed: (N,) bool, the items that can be neighbors, if there are no groups; the list of an
            item that is not allowed does not begin with itself. None: all items.

    Returns:
        The neighbors (N, k) int64, and the greatest squared distance of each row (N,) float64, 1
        where all are 0.
    """
    num = len(features)
    items = _Items(features)
    indices, farthest = np.empty((num, k), np.int64), np.empty(num, np.int64)
    step = max(1, _BLOCK_ELEMENTS // max(1, num))
    for begin in range(0, num, step):
        rows = torch.arange(begin, min(begin + step, num), device=features.device)
        nearness = items.nearness(rows)
        farthest[begin : begin + step] = _row_argmin(nearness)
        if groups is None:
            mask = None if allowed is None else allowed.expand(len(rows), num)
            found = _nearest(items, rows, nearness, k, mask)
        else:
            found = _in_turn(items, rows, nearness, k, groups)
        indices[begin : begin + step] = found.cpu().numpy()
    greatest = pair_distances(features, np.arange(num), farthest)
    greatest[greatest == 0] = 1.0
    return indices, greatest


def _row_argmin(values: Tensor) -> np.ndarray:
    """Return the place of the smallest value of each row (R, N).

    On a CPU this is done by NumPy, which is several times as fast.
    """
    if values.device.type == "cpu":
        return values.numpy().argmin(1)
    return values.argmin(1).cpu().numpy()


class _Items:
    """Features (N, D) and how near they are to each other."""

    def __init__(self, features: Tensor) -> None:
        self.features, self.squares = features, features.square().sum(1)
        self._memory = features.new_empty((0, len(features)))

    @functools.cached_property
    def wide(self) -> "_Items":
        """The same items in float64."""
        return _Items(self.features.double())

    def nearness(self, rows: Tensor) -> Tensor:
        """Return 2ab - |b|^2 of ``rows`` (R,) with all items, (R, N): the greater, the nearer.

        An item is infinitely near to itself, so that it comes before its duplicates. The next call
        writes into the same memory.
        """
        if len(self._memory) < len(rows):
            self._memory = self.features.new_empty((len(rows), len(self.features)))
        found = self._memory[: len(rows)]
        products(2.0 * self.features[rows], self.features, out=found).sub_(self.squares)
        return found.scatter_(1, rows[:, None], torch.inf)

    def tolerance(self, rows: Tensor) -> Tensor:
        """Return how much nearer (R, 1) an item must be for its place to be certain."""
        if self.features.dtype == torch.float64:
            return self.squares.new_full((len(rows), 1), -1.0)  # every place is certain
        return 2 * _FLOAT32_ERROR * (self.squares[rows, None] + self.squares.amax())


def _nearest(
    items: _Items, rows: Tensor, nearness: Tensor, k: int, mask: Optional[Tensor] = None
) -> Tensor:
    """Return the k nearest items of each row (R, k), itself first, equally near ones by index.

    Where float32 cannot decide, float64 does: between the candidates or, if they do not suffice,
    between all items.

    Args:
        items: those that ``nearness`` belongs to.
        rows: (R,) numbers of the rows.
        nearness: (R, N).
        k: from 1 to N.
        mask: (R, N) bool, which items can be neighbors; the others come last.
    """
    num = nearness.shape[1]
    if mask is not None:
        nearness = nearness.masked_fill(~mask, -torch.inf)
    width = min(k + _SPARE, num)
    found, values = largest_by_index(nearness, width)
    tolerance = items.tolerance(rows)
    close = (values.diff(dim=1)[:, :k] >= -tolerance).any(1)
    endless = close & (values[:, k - 1] - values[:, -1] <= tolerance[:, 0]) & (width < num)
    if bool(close.any()):
        found[close] = _by_distance(items, rows[close], found[close], values[close])
    found = found[:, :k]
    if bool(endless.any()):
        again, kept = rows[endless], None if mask is None else mask[endless]
        step = max(1, _BLOCK_ELEMENTS // num)
        parts = zip(again.split(step), [None] * len(again) if kept is None else kept.split(step))
        found[endless] = torch.cat(
            [_nearest(items.wide, r, items.wide.nearness(r), k, m) for r, m in parts]
        )
    return found


def _by_distance(items: _Items, rows: Tensor, found: Tensor, values: Tensor) -> Tensor:
    """Return candidates (R, W) ordered by their float64 distances, equally near ones by index."""
    found, order = found.sort(dim=1)
    values = values.gather(1, order)
    first = rows[:, None].expand_as(found).flatten().cpu().numpy()
    exact = pair_distances(items.features, first, found.flatten().cpu().numpy())
    distances = torch.from_numpy(exact).to(values.device).view_as(values)
    # The item itself comes first, and those that cannot be neighbors come last.
    distances = torch.where(values.isinf(), -values.double(), distances)
    return found.gather(1, torch.sort(distances, dim=1, stable=True).indices)


def _in_turn(items: _Items, rows: Tensor, nearness: Tensor, k: int, groups: Tensor) -> Tensor:
    """Return the item itself, then alternately the nearest of other groups and of its own: (R, k).

    When one side is exhausted, the rest comes from the other.

    Args:
        items: those that ``nearness`` belongs to.
        rows: (R,) numbers of the rows.
        nearness: (R, N).
        k: from 1 to N.
        groups: (N,).
    """
    own = groups[rows, None] == groups
    turns = torch.full_like(nearness, torch.inf)
    for first, mask in ((0, own), (1, ~own)):
        found = _nearest(items, rows, nearness, k, mask)
        # The item's own group takes the even turns, so that the item itself comes first; the other
        # groups take the odd turns.
        places = first + 2 * torch.arange(k, device=nearness.device).to(turns)
        values = places.expand_as(found).clone()
        values[~mask.gather(1, found)] = torch.inf
        turns.scatter_reduce_(1, found, values, "amin")
    return turns.topk(k, dim=1, largest=False, sorted=True).indices


def pair_distances(
    features: Tensor, rows: np.ndarray, columns: np.ndarray, dtype: torch.dtype = torch.float64
) -> np.ndarray:
    """Return the squared distances of P pairs of items, computed in blocks: (P,) float64.

    Args:
        features: (N, D).
        rows: (P,) the number of each pair's first item.
        columns: (P,) the number of its second item.
        dtype: the precision in which differences and squares are computed, and added up.
    """
    out = np.empty(len(rows))
    step = max(1, _PAIR_ELEMENTS // max(1, features.shape[1]))
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        a, b = (
            torch.from_numpy(np.asarray(n[part], np.int64)).to(features.device)
            for n in (rows, columns)
        )
        difference = features.index_select(0, a).to(dtype)
        difference.sub_(features.index_select(0, b))
        out[part] = difference.square_().sum(1).cpu().numpy()
    return out
