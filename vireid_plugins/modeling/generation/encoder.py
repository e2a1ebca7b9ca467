"""An encoder of what an image shows and where: a map of features, without its attributes.

It is the prototype encoder of Hi-CMD (``ResidualEncoder`` with ``enc_type`` 2 of its code). B
images, H x W pixels, w the width.
"""

import torch
from torch import Tensor, nn

from ..checkpointing import recomputed
from .blocks import ConvBlock, ResidualBlock, initialize

BLOCKS = 4  # residual blocks, of the encoder and of the decoder
DILATIONS = (3, 6, 9)
CHANNELS = 8  # times the width: those of the encoder's map


class PrototypeEncoder(nn.Module):
    """Turn images (B, 3, H, W) into maps (B, 8 w, H / 4, W / 4).

    Args:
        width: w, channels of the first convolution; 32 in the paper.
    """

    checkpointed = False  # see ``checkpointing.py``

    def __init__(self, width: int) -> None:
        super().__init__()
        shape = [(3, width, 2), (width, 2 * width, 1), (2 * width, 2 * width, 1)]
        shape += [(2 * width, 4 * width, 2)]
        layers = [ConvBlock(i, o, 3, stride, norm="instance") for i, o, stride in shape]
        blocks = [ResidualBlock(4 * width, "instance") for _ in range(BLOCKS)]
        self.layers = nn.Sequential(*layers)
        self.blocks = nn.Sequential(*blocks)
        self.pyramid = Pyramid(4 * width)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        if self.checkpointed:
            return recomputed(self._encode, self, images)
        return self._encode(images)

    def _encode(self, images: Tensor) -> Tensor:
        return self.pyramid(self.blocks(self.layers(images)))


class Pyramid(nn.Module):
    """Look at a map through windows of four sizes (ASPP): (B, C, H, W) becomes (B, 2 C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.near = _plain(channels, half, 1)
        self.far = nn.ModuleList(
            nn.Sequential(
                ConvBlock(channels, half, 1, norm="instance"),
                _plain(half, half, 3, dilation),
            )
            for dilation in DILATIONS
        )
        self.join = _plain(4 * half, 2 * channels, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.join(torch.cat([self.near(inputs), *(far(inputs) for far in self.far)], dim=1))


def _plain(inputs: int, outputs: int, kernel: int, dilation: int = 1) -> ConvBlock:
    """Return a convolution without an activation."""
    return ConvBlock(inputs, outputs, kernel, dilation=dilation, norm="instance", activation=False)
