"""CBAM, the convolutional block attention module: channel attention, then spatial attention.

Woo, Park, Lee, Kweon, CBAM: Convolutional Block Attention Module, ECCV 2018, arXiv 1807.06521;
public code Jongchan/attention-module.

Shapes: B images, C channels, H x W positions, r the reduction.
"""

import torch
from torch import Tensor, nn

from ...errors import UserError
from .bam import inner_width


class ChannelAttention(nn.Module):
    """``f * sigmoid(mlp(avg f) + mlp(max f))``, pooled over all positions, with one mlp.

    The mlp is C -> C/r, ReLU, C/r -> C, with biases, as in the public code, and has PyTorch's
    initial weights.

    Args:
        in_channels: C.
        reduction: r; the inner width is C // r.

    Raises:
        UserError: ``in_channels // reduction`` is below 1.
    """

    def __init__(self, in_channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = inner_width(type(self).__name__, in_channels, reduction)
        self.mlp = nn.Sequential(
            nn.Conv2d(in_channels, width, 1), nn.ReLU(), nn.Conv2d(width, in_channels, 1)
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """Refine ``feature_map`` (B, C, H, W); the result has its shape."""
        average = feature_map.mean(dim=(2, 3), keepdim=True)
        largest = feature_map.amax(dim=(2, 3), keepdim=True)
        return feature_map * (self.mlp(average) + self.mlp(largest)).sigmoid()


class SpatialAttention(nn.Module):
    """``f * sigmoid(BN(conv([max f, mean f])))``, max and mean over the channels.

    The convolution has no bias. The BN's weight starts at 0, as in the public code: the gate is
    1/2 everywhere at first and does not change the pattern of a pretrained map. The convolution
    gets its first gradient in the second step, when the BN's weight has left 0.

    Args:
        kernel_size: size of the convolution's window; odd, so that H x W stays.
        norm: whether batch norm (BN) follows the convolution.

    Raises:
        UserError: ``kernel_size`` is not a positive odd number.
    """

    def __init__(self, kernel_size: int = 7, norm: bool = True) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(
                f"{type(self).__name__}: kernel_size must be a positive odd number; "
                f"got {kernel_size}."
            )
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm: nn.Module = nn.Identity()
        if norm:
            self.norm = batch_norm = nn.BatchNorm2d(1)
            nn.init.zeros_(batch_norm.weight)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Refine ``feature_map`` (B, C, H, W); the result has its shape."""
        largest = feature_map.amax(dim=1, keepdim=True)
        average = feature_map.mean(dim=1, keepdim=True)
        pooled = torch.cat([largest, average], dim=1)
        return feature_map * self.norm(self.conv(pooled)).sigmoid()


class CBAM(nn.Module):
    """:class:`ChannelAttention`, then :class:`SpatialAttention` on its result.

    *Departs.* The public code's BN averages its statistics with momentum 0.01; here PyTorch's
    0.1, so that the statistics used at test are those of training also after a short one.

    Both gates are below 1 and no sum follows (the paper adds the refined map to the block's
    input): at the start the map shrinks to about a quarter.

    In training a batch of one image with a 1 x 1 map is refused by PyTorch's ``BatchNorm2d``
    (ValueError), because there is only one value.

    Args:
        in_channels: C.
        reduction: of the channel attention.
        kernel_size: of the spatial attention.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(self, in_channels: int, reduction: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        self.channel = ChannelAttention(in_channels, reduction)
        self.spatial = SpatialAttention(kernel_size)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Refine ``feature_map`` (B, C, H, W); the result has its shape."""
        return self.spatial(self.channel(feature_map))
