"""Find the largest values of each row exactly; equal ones are ordered by index.

Shapes: R rows, N columns.
"""

import math
from typing import Tuple

import numpy as np
import torch
from torch import Tensor

_LEAST_GROUP = 8  # columns of a group; with fewer, groups cost more time than they save


def largest_by_index(scores: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """Return the k largest values of each row (R, N), descending, equal ones by their column.

    Wide rows on a CPU are first reduced to the maxima of groups of columns. The k groups with the
    largest maxima hold the answer, unless another group's maximum equals the smallest of those;
    such rows are searched whole.

    Args:
        scores: (R, N).
        k: from 1 to N.

    Returns:
        columns (R, k) int64 and values (R, k).
    """
    every = torch.arange(scores.shape[1], device=scores.device)
    # As many maxima as there are columns in the k groups that are then searched.
    size = int(math.sqrt(scores.shape[1] / k))
    if scores.device.type != "cpu" or size < _LEAST_GROUP or not len(scores):
        return _by_position(scores, k, every.expand(len(scores), -1))
    num_groups = scores.shape[1] // size
    grouped = num_groups * size
    blocks = scores[:, :grouped].numpy().reshape(len(scores), size, num_groups)
    maxima = torch.from_numpy(np.maximum.reduce(blocks, axis=1))
    limits, groups = maxima.topk(k, dim=1)
    unclear = ((maxima >= limits[:, -1:]).sum(1) > k).nonzero(as_tuple=True)[0]
    members = torch.arange(0, grouped, num_groups)  # columns of group 0: one in num_groups
    columns = (groups[:, :, None] + members).flatten(1)
    columns = torch.cat([columns, every[grouped:].expand(len(scores), -1)], dim=1)
    places, values = _by_position(scores.gather(1, columns), k, columns)
    columns = columns.gather(1, places)
    if len(unclear):
        whole = every.expand(len(unclear), -1)
        columns[unclear], values[unclear] = _by_position(scores[unclear], k, whole)
    return columns, values


def _by_position(scores: Tensor, k: int, position: Tensor) -> Tuple[Tensor, Tensor]:
    """Return what :func:`largest_by_index` does, of rows with positions of their own (R, N)."""
    values, columns = scores.topk(k, dim=1)
    limit = values[:, -1:]
    cut = ((scores == limit).sum(1) != (values == limit).sum(1)).nonzero(as_tuple=True)[0]
    if len(cut):  # equal values on both sides of the limit: top-k may have kept the later ones
        in_turn = position[cut].argsort(dim=1)
        full = torch.sort(scores[cut].gather(1, in_turn), dim=1, stable=True, descending=True)
        columns[cut] = in_turn.gather(1, full.indices[:, :k])
        values[cut] = full.values[:, :k]
    in_turn = position.gather(1, columns).argsort(dim=1)
    columns, values = columns.gather(1, in_turn), values.gather(1, in_turn)
    values, order = torch.sort(values, dim=1, stable=True, descending=True)
    return columns.gather(1, order), values
