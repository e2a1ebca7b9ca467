"""A decoder that paints a map of features with the attributes of a code.

``ResidualDecoder`` with ``dec_type`` 2 of Hi-CMD's code. B images, H x W pixels of the map, C its
channels, D the length of a code.
"""

from torch import Tensor, nn

from ..checkpointing import recomputed
from .blocks import MLP, AdaptiveResidualBlock, ConvBlock, initialize
from .encoder import BLOCKS


class Decoder(nn.Module):
    """Turn a map (B, C, H, W) and a code (B, D) into images (B, 3, 4 H, 4 W).

    Chunk k of the code goes through two MLPs, which give the scales and the shifts of the two
    normalizations of block k. The images have the range of normalized ones; nothing bounds them.

    Args:
        channels: C, a multiple of 4.
        code_length: D.
        hidden: width of the MLPs; 512 in the paper.
    """

    checkpointed = False  # see ``checkpointing.py``

    def __init__(self, channels: int, code_length: int, hidden: int) -> None:
        super().__init__()
        sizes = (code_length // BLOCKS, hidden, 2 * channels)
        self.scales = nn.ModuleList(MLP(*sizes) for _ in range(BLOCKS))
        self.shifts = nn.ModuleList(MLP(*sizes) for _ in range(BLOCKS))
        self.blocks = nn.ModuleList(AdaptiveResidualBlock(channels) for _ in range(BLOCKS))
        half, quarter = channels // 2, channels // 4
        self.painter = nn.Sequential(
            nn.Upsample(scale_factor=2),
            ConvBlock(channels, half, 5, norm="layer"),
            nn.Upsample(scale_factor=2),
            ConvBlock(half, quarter, 5, norm="layer"),
            ConvBlock(quarter, quarter, 3),
            ConvBlock(quarter, quarter, 3),
            ConvBlock(quarter, 3, 1, activation=False),
        )
        initialize(self)

    def forward(self, feature_map: Tensor, code: Tensor) -> Tensor:
        if self.checkpointed:
            return recomputed(self._paint, self, feature_map, code)
        return self._paint(feature_map, code)

    def _paint(self, feature_map: Tensor, code: Tensor) -> Tensor:
        parts = zip(self.blocks, self.scales, self.shifts, code.chunk(BLOCKS, dim=1))
        for block, scales, shifts, chunk in parts:
            feature_map = block(feature_map, scales(chunk), shifts(chunk))
        images: Tensor = self.painter(feature_map)
        return images
