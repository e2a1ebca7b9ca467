"""Position embeddings of one grid of patches, resized to another grid (bicubic).

P embeddings of tokens before the patches, if they have any, stand first and are kept.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = Tuple[int, int]  # (h, w), patches down and across


def resize_positions(positions: Tensor, old: Grid, new: Grid, prefix: int = 1) -> Tensor:
    """Return embeddings for the grid ``new``.

    The interpolation is timm's (bicubic, antialiased), in float32.

    Args:
        positions: (1, P + h * w, D) for the grid ``old``.
        old, new: (h, w).
        prefix: P.

    Returns:
        (1, P + h' * w', D).
    """
    if old == new:
        return positions
    kept, patches = positions[:, :prefix], positions[:, prefix:]
    known = patches.transpose(1, 2).unflatten(2, old).float()
    resized = F.interpolate(known, size=new, mode="bicubic", antialias=True)
    return torch.cat([kept, resized.flatten(2).transpose(1, 2).to(positions.dtype)], dim=1)


def infer_grid(count: int, like: Grid, square: bool = True) -> Grid:
    """Return the grid of ``count`` patches, as far as their number tells it.

    Files of weights do not say it: ``like`` if it has that number, else a square, else the
    numbers whose ratio is nearest to that of ``like``.

    Args:
        count: number of patches.
        like: (h, w) of the network's own grid.
        square: whether a square is likely, as in published files, whose images are squares.
    """
    if like[0] * like[1] == count:
        return like
    root = round(count**0.5)
    if square and root * root == count:
        return root, root
    wanted = like[0] / like[1]
    pairs = [(h, count // h) for h in range(1, count + 1) if count % h == 0]
    return min(pairs, key=lambda pair: max(pair[0] / pair[1] / wanted, wanted * pair[1] / pair[0]))
