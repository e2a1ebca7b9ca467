"""An attribute code and its three parts: style, pose and illumination.

The code of Hi-CMD is cut into four chunks, one for each AdaIN block of the decoder. Each chunk is
[style | pose | illumination], a half and two quarters of it. So the style is not the first half of
the code, but the first half of each chunk. B images, D the length of a code, S that of its style.
"""

from typing import Tuple

import torch
from torch import Tensor

from ...errors import UserError
from .encoder import BLOCKS

_LEAST = 16


def check_length(length: int) -> None:
    """Raise ``UserError`` unless a code of this length has four chunks with all three parts."""
    if length < _LEAST or length % BLOCKS:
        raise UserError(
            f"The attribute code has {length} numbers, the channels of the backbone's map; "
            f"expected {_LEAST} or more, a multiple of {BLOCKS}, for its {BLOCKS} chunks. Choose "
            "another MODEL.BACKBONE.NETWORK or DEPTH."
        )


def part_lengths(length: int) -> Tuple[int, int, int]:
    """Return how long style, pose and illumination are in a chunk of a code of this length.

    They are a half and two quarters; of a chunk without whole quarters the style has the rest.
    """
    chunk = length // BLOCKS
    quarter = chunk // 4
    return chunk - 2 * quarter, quarter, quarter


def style_length(length: int) -> int:
    """Return S for a code of length D."""
    return BLOCKS * part_lengths(length)[0]


def style_of(code: Tensor) -> Tensor:
    """Return the style (B, S) of a code (B, D), chunk after chunk."""
    return _chunks(code)[0].flatten(1)


def excluded_of(code: Tensor) -> Tensor:
    """Return pose and illumination (B, D - S) of a code (B, D): a^ex, chunk after chunk."""
    return torch.cat(_chunks(code)[1:], dim=2).flatten(1)


def mixed(style: Tensor, pose: Tensor, illumination: Tensor) -> Tensor:
    """Return a code (B, D) with the style, the pose and the illumination of three codes (B, D)."""
    parts = [_chunks(code)[place] for place, code in enumerate((style, pose, illumination))]
    return torch.cat(parts, dim=2).flatten(1)


def _chunks(code: Tensor) -> Tuple[Tensor, ...]:
    """Return the three parts of all chunks, (B, chunks, length of the part) each."""
    lengths = part_lengths(code.shape[1])
    return code.unflatten(1, (BLOCKS, -1)).split(list(lengths), dim=2)
