"""A discriminator that looks at an image in several sizes.

``Discriminator`` with ``D_type`` 2 of Hi-CMD's code. B images, H x W pixels, w the width.
"""

from typing import List

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock, ResidualBlock, initialize
from .encoder import BLOCKS

SCALES = 3
_DEVIATION = 0.02  # of the initial weights


class Discriminator(nn.Module):
    """Score images (B, 3, H, W) in three sizes: real ones should get 1, and made ones 0.

    Each score is a map (B, 1, H / 4, W / 4) of an image that is half as large as the one before.

    Args:
        width: w, channels of the first convolution; 32 in the paper.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(_network(width) for _ in range(SCALES))

    def forward(self, images: Tensor) -> List[Tensor]:
        found = []
        for place, network in enumerate(self.networks):
            if place:
                images = F.avg_pool2d(images, 3, stride=2, padding=1, count_include_pad=False)
            found.append(network(images))
        return found


def _network(width: int) -> nn.Sequential:
    shape = [(3, width, 1, 1), (width, width, 3, 1), (width, width, 3, 2)]
    shape += [(width, width, 3, 1), (width, 2 * width, 3, 2)]
    layers: List[nn.Module] = [ConvBlock(*one) for one in shape]
    layers += [ResidualBlock(2 * width) for _ in range(BLOCKS)]
    network = nn.Sequential(*layers, nn.Conv2d(2 * width, 1, 1))
    initialize(network, _DEVIATION)
    return network
