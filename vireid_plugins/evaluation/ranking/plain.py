"""Ranks in PyTorch, for every device: each row is sorted, and its positives are searched in it.

Values are sorted without their indices. Shapes as in ``counting.py``.
"""

from typing import Tuple

import numpy as np
import torch
from torch import Tensor

from .parallel import in_parallel
from .topk import largest_by_index
from .views import NEVER, View

_TIES_BY_COMPARISON = 16  # rows with more tied positives are sorted with their indices
_BLOCK_ELEMENTS = 1 << 22
_PART_SCORES = 1 << 20  # that a thread sorts, at least: some ten milliseconds


def find_places(
    scores: Tensor, rows: np.ndarray, own: np.ndarray, view: View, by_identity: bool, top: int
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what ``counting.find_places`` returns."""
    seen = scores[torch.from_numpy(rows).to(scores.device)].index_select(1, view.columns)
    members, positive = _members(torch.from_numpy(own).to(seen.device), view)
    hidden = positive & view.own_hidden[members]
    seen[hidden.nonzero(as_tuple=True)[0], members[hidden]] = -torch.inf
    positive &= ~hidden
    nearest = np.full((len(rows), top), -1)
    width = min(top, seen.shape[1])
    if width:
        columns, values = largest_by_index(seen, width)
        nearest[:, :width] = columns.masked_fill_(values == -torch.inf, -1).cpu().numpy()
    if members.shape[1] == 0:
        return np.empty((len(rows), 0), np.int64), np.full(len(rows), NEVER), nearest
    ranks = _ranks(seen, members, positive)
    ascending = ranks.sort(dim=1)
    first = ascending.values[:, 0]
    if by_identity:
        best = members.gather(1, ascending.indices[:, :1])
        first = first.where(first == NEVER, _identities_ahead(seen, best, view.identity) + 1)
    return ascending.values.cpu().numpy(), first.cpu().numpy(), nearest


def _members(own: Tensor, view: View) -> Tuple[Tensor, Tensor]:
    """Return the places of each query's identity (Q, M), and which of them are no padding."""
    first = view.starts[own]
    count = view.starts[own + 1] - first
    slots = torch.arange(int(count.max()) if len(count) else 0, device=own.device)
    places = (first[:, None] + slots).clamp_(max=max(0, len(view.members) - 1))
    return view.members[places], slots < count[:, None]


def _ranks(seen: Tensor, members: Tensor, positive: Tensor) -> Tensor:
    """Return the rank of each member (Q, M) that is ``positive``, and ``NEVER`` for the others.

    Args:
        seen: (Q, V) scores, minus infinity where a query must not look.
        members: (Q, M) places.
        positive: (Q, M) bool.
    """
    values = seen.gather(1, members)
    ascending = _sorted(seen)
    upto = torch.searchsorted(ascending, values, right=True)
    tied = positive & (upto - torch.searchsorted(ascending, values) > 1)
    ranks = (1 + seen.shape[1] - upto).masked_fill_(~positive, NEVER)
    many = tied.sum(1) > _TIES_BY_COMPARISON
    rows, slots = (tied & ~many[:, None]).nonzero(as_tuple=True)
    ranks[rows, slots] += _equal_and_earlier(seen, rows, members[rows, slots])
    rows, slots = (tied & many[:, None]).nonzero(as_tuple=True)
    if len(rows):
        whole, row = torch.unique(rows, return_inverse=True)
        ranks[rows, slots] = _ranks_of_all(seen[whole])[row, members[rows, slots]]
    return ranks


def _sorted(scores: Tensor) -> Tensor:
    """Return each row of ``scores`` in ascending order.

    PyTorch's sort on a CPU also moves indices; NumPy's takes a tenth of the time.
    """
    if scores.device.type != "cpu":
        return scores.sort(dim=1).values
    values = scores.numpy().copy()
    least = _PART_SCORES // max(1, values.shape[1])
    in_parallel(lambda begin, end: values[begin:end].sort(axis=1), len(values), least)
    return torch.from_numpy(values)


def _equal_and_earlier(seen: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    """Return how many equal scores of its row stand at a smaller place, for each item (T,).

    Args:
        seen: (Q, V).
        rows: (T,) the row of each item.
        places: (T,) its place.
    """
    counts = torch.zeros_like(rows)
    every = torch.arange(seen.shape[1], device=seen.device)
    step = max(1, _BLOCK_ELEMENTS // max(1, seen.shape[1]))
    for begin in range(0, len(rows), step):
        block, own = seen[rows[begin : begin + step]], places[begin : begin + step, None]
        counts[begin : begin + step] = ((block == block.gather(1, own)) & (every < own)).sum(1)
    return counts


def _ranks_of_all(seen: Tensor) -> Tensor:
    """Return the rank of every image of ``seen`` (T, V), by a stable sort."""
    order = torch.sort(seen, dim=1, descending=True, stable=True).indices
    steps = torch.arange(1, seen.shape[1] + 1, device=seen.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, steps)


def _identities_ahead(seen: Tensor, best: Tensor, identity: Tensor) -> Tensor:
    """Return how many identities have an image ahead of each query's own best: (Q,).

    Args:
        seen: (Q, V).
        best: (Q, 1) places.
        identity: (V,).
    """
    value = seen.gather(1, best)
    earlier = torch.arange(seen.shape[1], device=seen.device) < best
    rows, places = ((seen > value) | ((seen == value) & earlier)).nonzero(as_tuple=True)
    met = seen.new_zeros((len(seen), int(identity.max()) + 1), dtype=torch.bool)
    met[rows, identity[places]] = True
    return met.sum(1)
