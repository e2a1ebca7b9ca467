"""An attribute code and its three parts: style, pose and illumination.

The code of Hi-CMD is cut into four chunks, one for each AdaIN block of the decoder. Each chunk is
[style | pose | illumination], a half and two quarters of it. So the style is not the first half of
the code, but the first half of each chunk. B images, D the length of a code.
"""

from typing import Tuple

import torch
from torch import Tensor

from ...errors import UserError
from .encoder import BLOCKS

#: lengths of the parts of a chunk, in quarters of it
_QUARTERS = (2, 1, 1)


def check_length(length: int) -> None:
    """Raise ``UserError`` unless a code of this length has four chunks of four quarters."""
    if length < 1 or length % (BLOCKS * sum(_QUARTERS)):
        raise UserError(
            f"The attribute code has {length} numbers, the channels of the backbone's map; "
            f"expected a multiple of {BLOCKS * sum(_QUARTERS)}: {BLOCKS} chunks, each a half of "
            "style and a quarter each of pose and illumination. Choose another "
            "MODEL.BACKBONE.NETWORK or DEPTH."
        )


def style_of(code: Tensor) -> Tensor:
    """Return the style (B, D / 2) of a code (B, D), chunk after chunk."""
    return _chunks(code)[0].flatten(1)


def excluded_of(code: Tensor) -> Tensor:
    """Return pose and illumination (B, D / 2) of a code (B, D): a^ex, chunk after chunk."""
    return torch.cat(_chunks(code)[1:], dim=2).flatten(1)


def mixed(style: Tensor, pose: Tensor, illumination: Tensor) -> Tensor:
    """Return a code (B, D) with the style, the pose and the illumination of three codes (B, D)."""
    parts = [_chunks(code)[place] for place, code in enumerate((style, pose, illumination))]
    return torch.cat(parts, dim=2).flatten(1)


def _chunks(code: Tensor) -> Tuple[Tensor, ...]:
    """Return the three parts of all chunks, (B, chunks, quarters) each."""
    chunks = code.unflatten(1, (BLOCKS, -1))
    quarter = chunks.shape[2] // sum(_QUARTERS)
    return chunks.split([quarter * count for count in _QUARTERS], dim=2)
