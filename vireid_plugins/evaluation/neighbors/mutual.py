"""Find who is among whose nearest neighbors, both ways, without a matrix of all pairs.

Shapes: N items, D features, k neighbors, K columns of a list.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

from ..arguments import whole_number
from .lists import nearest_items

_BLOCK_ELEMENTS = 1 << 23  # of a block of lists of lists


def mutual_neighbors(
    features: Tensor, k: int, groups: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor]:
    """Return, for each item, those of its k nearest items that have it among theirs.

    Neighbors are exact; the item itself is always one, and the nearest come first.

    Args:
        features: (N, D), float32 or float64, finite, at least one; of length 1 for neighbors by
            cosine. No gradient goes back to them.
        k: neighbors of an item, itself included; at most N count.
        groups: (N,), the modality of each item: neighbors are then taken in turn from its own
            group, with itself first, and from the others: half of them from each. None: from all.

    Returns:
        Lists as :func:`keep_mutual` returns them.

    Raises:
        UserError: ``k`` is below 1.
    """
    rows = features.detach()
    k = min(whole_number(k, "k"), len(rows))
    found, _ = nearest_items(rows, k, groups)
    return keep_mutual(torch.from_numpy(found).to(rows.device))


def keep_mutual(lists: Tensor) -> Tuple[Tensor, Tensor]:
    """Return, of lists of neighbors (N, k), the entries that are mutual.

    Returns:
        ``neighbors`` (N, K) int64 and ``kept`` (N, K) bool: the entries of a row that count, which
        stand first, in their order; K is the largest number of them. The other entries name items,
        but mean nothing.
    """
    count, k = lists.shape
    mutual = torch.empty_like(lists, dtype=torch.bool)
    step = max(1, _BLOCK_ELEMENTS // (k * k))
    for begin in range(0, count, step):
        rows = lists[begin : begin + step]
        own = torch.arange(begin, begin + len(rows), device=lists.device)
        mutual[begin : begin + step] = (lists[rows] == own[:, None, None]).any(2)
    kept, order = mutual.to(torch.uint8).sort(dim=1, descending=True, stable=True)
    width = int(mutual.sum(1).max()) if count else 0
    return lists.gather(1, order[:, :width]), kept[:, :width].bool()
