"""Find the nearest neighbors of every item among all items.

The search is done in float32, and close cases are decided in float64.

Shapes: N items, D features, R rows of a block, C columns, k neighbors, W candidates.
"""

import functools
from typing import Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..ranking.topk import largest_by_index
from ..similarity import products
from .all_pairs import Farthest, Items, Nearest, tiles
from .faiss_index import indexed_squares

# Elements of a block of float64 distances, and of a block of gathered features.
_BLOCK_ELEMENTS = 1 << 23
_PAIR_ELEMENTS = 1 << 17
_SPARE = 8  # more candidates than k; float64 decides between them

_Rows = Union[slice, Tensor]
_Masks = Tuple[Optional[Tensor], Optional[Tensor]]
_List = Tuple[Tensor, Tensor]


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
        features: (N, D), float32 or float64, finite; at least one.
        k: from 1 to N, and at most as many as are allowed.
        groups: (N,), see :func:`_in_turn`; None: all items are in one group.
        allowed: (N,) bool, the items that can be neighbors, if there are no groups; the list of an
            item that is not allowed does not begin with itself. None: all items.

    Returns:
        The neighbors (N, k) int64, and the greatest squared distance of each row (N,) float64, 1
        where all are 0.
    """
    items, masks = Items(features), functools.partial(_masks, groups=groups, allowed=allowed)
    farthest = Farthest(features)
    width = min(k + _SPARE, len(features))
    sides = [Nearest(features, width) for _ in range(1 if groups is None else 2)]
    for tile in tiles(items):
        farthest.take(tile)
        for side, pair in zip(sides, masks(tile.rows, tile.columns)):
            side.take(tile, *pair)
    # Precise, because an item is as far from its farthest item as from the mean, or farther.
    greatest = -2.0 * farthest.nearness.double()
    greatest[greatest <= 2.0 * items.error()] = 1.0
    lists = [
        _decided(items, side, k, functools.partial(_row_mask, place, groups, allowed))
        for place, side in enumerate(sides)
    ]
    found = lists[0][0][:, :k] if groups is None else _in_turn(lists[0], lists[1], k)
    return found.cpu().numpy(), greatest.cpu().numpy()


def _masks(
    rows: _Rows, columns: slice, groups: Optional[Tensor], allowed: Optional[Tensor]
) -> List[_Masks]:
    """Return who can be a neighbor: a pair of masks, or with groups one pair for each side.

    The first side is the item's own group, the second one the other groups.

    Returns:
        Pairs of masks, each bool and broadcast to (R, C), or None: all. Which columns can be
        neighbors of a row, and which rows can be neighbors of a column.
    """
    if groups is not None:
        same = groups[rows, None] == groups[columns]
        return [(same, same), (~same, ~same)]
    if allowed is not None:
        return [(allowed[None, columns], allowed[rows, None])]
    return [(None, None)]


def _row_mask(
    side: int, groups: Optional[Tensor], allowed: Optional[Tensor], rows: Tensor
) -> Optional[Tensor]:
    """Return which items can be neighbors of some rows (R,) on a side, see :func:`_masks`."""
    return _masks(rows, slice(None), groups, allowed)[side][0]


def _decided(
    items: Items, side: Nearest, k: int, mask: Callable[[Tensor], Optional[Tensor]]
) -> _List:
    """Return the candidates of each item, the first k in the order of float64.

    Where rounding could decide, distances do that are computed from differences in float64:
    between the candidates or, if they do not suffice, between all items.

    Args:
        items: N of them.
        side: W candidates of each item.
        k: from 1 to W.
        mask: rows (R,) -> bool, broadcast to (R, N): which items can be their neighbors.

    Returns:
        Candidates (N, W), and how near they were before rows were put in order.
    """
    found, values = side.found()
    tolerance = 2 * items.error()
    close = (values.diff(dim=1)[:, :k] >= -tolerance[:, None]).any(1)
    endless = close & (values[:, k - 1] - values[:, -1] <= tolerance)
    endless &= found.shape[1] < len(found)
    rows = (close & ~endless).nonzero()[:, 0]
    found[rows] = _by_distance(items.features, rows, found[rows], values[rows])
    for part in _parts(endless.nonzero()[:, 0], items):
        nearness, allowed = _wide_nearness(items, part), mask(part)
        if allowed is not None:
            nearness.masked_fill_(~allowed, -torch.inf)
        found[part, :k] = largest_by_index(nearness, k)[0]
    return found, values


def _by_distance(features: Tensor, rows: Tensor, found: Tensor, values: Tensor) -> Tensor:
    """Return candidates (R, W) ordered by their float64 distances, equally near ones by index."""
    found, order = found.sort(dim=1)
    values = values.gather(1, order)
    first = rows[:, None].expand_as(found).flatten().cpu().numpy()
    exact = pair_distances(features, first, found.flatten().cpu().numpy())
    distances = torch.from_numpy(exact).to(values.device).view_as(values)
    # The item itself comes first, and those that cannot be neighbors come last.
    distances = torch.where(values.isinf(), -values.double(), distances)
    return found.gather(1, torch.sort(distances, dim=1, stable=True).indices)


def _wide_nearness(items: Items, rows: Tensor) -> Tensor:
    """Return how near all items are to some (R, N) in float64: ab - |b|²/2.

    An item is infinitely near to itself.
    """
    # Not seen from the mean: with whole numbers as features, equal distances are equal here.
    wide, num = items.features[rows].double(), len(items.features)
    nearness = wide.new_empty((len(rows), num))
    step = max(1, _BLOCK_ELEMENTS // wide.shape[1])
    for begin in range(0, num, step):
        others = items.features[begin : begin + step].double()
        part = products(wide, others).sub_(others.square().sum(1) / 2)
        nearness[:, begin : begin + step] = part
    return nearness.scatter_(1, rows[:, None], torch.inf)


def _parts(rows: Tensor, items: Items) -> Tuple[Tensor, ...]:
    """Return rows (R,) in parts for which float64 distances to all items fit into memory."""
    return rows.split(max(1, _BLOCK_ELEMENTS // len(items.features))) if len(rows) else ()


def _in_turn(own: _List, others: _List, k: int) -> Tensor:
    """Return the item itself, then alternately the nearest of other groups and of its own: (N, k).

    When one side is exhausted, the rest comes from the other.

    Args:
        own: neighbors (N, W) of the item's own group, and how near they are.
        others: those of the other groups.
        k: from 1 to N.
    """
    found, values = (torch.cat([a[:, :k], b[:, :k]], dim=1) for a, b in zip(own, others))
    # The item's own group takes the even turns, so that the item itself comes first; the other
    # groups take the odd turns.
    turns = 2 * torch.arange(k, device=found.device)
    turns = torch.cat([turns, turns + 1]).masked_fill(values.isneginf(), 2 * k)
    return found.gather(1, turns.argsort(dim=1)[:, :k])


def pair_distances(
    features: Tensor, rows: np.ndarray, columns: np.ndarray, dtype: torch.dtype = torch.float64
) -> np.ndarray:
    """Return the squared distances of P pairs of items, from differences: (P,) float64.

    Args:
        features: (N, D).
        rows: (P,) the number of each pair's first item.
        columns: (P,) the number of its second item.
        dtype: the least precision in which differences and squares are computed, and added up.
    """
    rows, columns = (np.ascontiguousarray(n, np.int64) for n in (rows, columns))
    if features.device.type == "cpu" and features.dtype == dtype == torch.float32:
        found = indexed_squares(features.numpy(), rows, columns)
        if found is not None:
            return found.astype(np.float64)
    out = np.empty(len(rows))
    step = max(1, _PAIR_ELEMENTS // max(1, features.shape[1]))
    parts = [slice(begin, begin + step) for begin in range(0, len(rows), step)]
    if features.device.type == "cpu":
        _fill_squares(features.numpy(), rows, columns, out, parts)
        return out
    dtype = torch.promote_types(dtype, features.dtype)
    for part in parts:
        a, b = (torch.from_numpy(n[part]).to(features.device) for n in (rows, columns))
        difference = features.index_select(0, a).to(dtype).sub_(features.index_select(0, b))
        out[part] = difference.square_().sum(1).cpu().numpy()
    return out


def _fill_squares(
    features: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    out: np.ndarray,
    parts: Sequence[slice],
) -> None:
    """Write the squared distances of pairs, computed in float64, into ``out`` (P,).

    All parts are computed in the same memory: fresh memory costs more than the computation.
    """
    shape = (parts[0].stop if parts else 0, features.shape[1])
    a, b, wide = np.empty(shape, features.dtype), np.empty(shape, features.dtype), np.empty(shape)
    for part in parts:
        num = len(rows[part])
        for whole, which in ((a, rows), (b, columns)):
            np.take(features, which[part], axis=0, out=whole[:num], mode="clip")
        difference = np.subtract(a[:num], b[:num], out=wide[:num], dtype=np.float64)
        np.einsum("pd,pd->p", difference, difference, out=out[part])
