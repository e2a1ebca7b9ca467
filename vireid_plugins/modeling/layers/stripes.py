"""Cut a feature map into horizontal stripes (PCB, Sun et al., ECCV 2018), of any height.

Row h of H belongs to stripe floor(h * R / H) of R: heights differ by one where R does not
divide H. B images, C channels, H x W positions, R stripes.
"""

from typing import List, Tuple

import torch
from torch import Tensor

from ...errors import SmallMapError


def stripe_heights(height: int, num_stripes: int) -> List[int]:
    """Return the number of rows of each stripe, from the top; they add up to ``height``.

    Raises:
        SmallMapError: there are fewer rows than stripes.
    """
    height = int(height)  # it is a tensor while a graph is recorded, whose // may round differently
    if not 1 <= num_stripes <= height:
        raise SmallMapError(
            f"A feature map of {height} rows cannot be cut into {num_stripes} horizontal stripes; "
            "give the model fewer stripes (MODEL.HEADS.ATTENTION.STRIPES of MRDAHead, "
            "MODEL.HEADS.NUM_STRIPES of StripeHead, CMLSPGEHead and HCTHead, MODEL.MSCLNET.PARTS "
            "of MSCLNet), or a higher map (INPUT.SIZE_TRAIN and SIZE_TEST, "
            "MODEL.BACKBONE.LAST_STRIDE 1)."
        )
    starts = [-(-stripe * height // num_stripes) for stripe in range(num_stripes + 1)]
    return [end - start for start, end in zip(starts, starts[1:])]


def split_stripes(feature_map: Tensor, num_stripes: int) -> List[Tensor]:
    """Cut a map (B, C, H, W) into R maps (B, C, h, W), from the top."""
    return list(feature_map.split(stripe_heights(feature_map.shape[2], num_stripes), dim=2))


def stripe_means(feature_map: Tensor, num_stripes: int) -> Tensor:
    """Average each stripe: (B, C, H, W) to (B, C, R)."""
    means = [stripe.mean(dim=(2, 3)) for stripe in split_stripes(feature_map, num_stripes)]
    return torch.stack(means, dim=2)


def stripe_rows(height: int, num_stripes: int, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Return the rows of each stripe as an index, for images that keep different stripes.

    Returns:
        Row numbers (R, m), where m is the height of the highest stripe, and whether each of them
        belongs to the stripe, (R, m) bool; where that is False, the number only fills the table.
    """
    height = int(height)  # as above
    heights = torch.tensor(stripe_heights(height, num_stripes), device=device).unsqueeze(1)
    steps = torch.arange(-(-height // num_stripes), device=device)
    rows = heights.cumsum(0) - heights + steps
    return rows.clamp(max=height - 1), steps < heights
