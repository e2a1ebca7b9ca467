"""CSA, channel and then spatial attention on a map; see ``meta_arch/crossvit_csa.py``.

Shapes: B images, C channels, H x W positions, r the reduction.
"""

import torch
from torch import Tensor, nn

from ...errors import UserError
from .cbam import ChannelAttention, SpatialAttention

ATTENTIONS = ("csa", "channel", "spatial", "none")
SPATIAL_FORMS = ("concat", "sum", "channels")


class SummedSpatialAttention(nn.Module):
    """``f * sigmoid(conv(mean f + max f))``, mean and max over the channels: Eq. (12) as printed.

    Args:
        kernel_size: size of the convolution's window; odd, so that H x W stays.

    Raises:
        UserError: ``kernel_size`` is not a positive odd number.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(
                f"SummedSpatialAttention: kernel_size must be 1, 3, 5, ...; got {kernel_size}."
            )
        self.conv = nn.Conv2d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Refine ``feature_map`` (B, C, H, W); the result has its shape."""
        average = feature_map.mean(dim=1, keepdim=True)
        largest = feature_map.amax(dim=1, keepdim=True)
        return feature_map * self.conv(average + largest).sigmoid()


class PooledPositionsAttention(nn.Module):
    """``f * sigmoid(conv([mean f, max f]))``, over the positions: the text around Eq. (12).

    Each channel is pooled from H x W to 1 x 1, and a convolution turns the 2C values into C. So
    all positions of a channel have one weight, although the paper calls it spatial.

    Args:
        in_channels: C.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * in_channels, in_channels, 1, bias=False)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Refine ``feature_map`` (B, C, H, W); the result has its shape."""
        average = feature_map.mean(dim=(2, 3), keepdim=True)
        largest = feature_map.amax(dim=(2, 3), keepdim=True)
        return feature_map * self.conv(torch.cat([average, largest], dim=1)).sigmoid()


class CSA(nn.Module):
    """Channel attention, Eq. (9), (10), then spatial attention, Eq. (11), (12).

    Each gate is between 0 and 1, and about one half at first, so the map begins at about a quarter
    of its size.

    Args:
        in_channels: C.
        reduction: r of the channel attention, Eq. (10).
        kernel_size: window of the spatial attention, Eq. (12); odd.
        attention: ``"csa"``, one of its halves, ``"channel"`` or ``"spatial"``, or ``"none"``.
        spatial: the reading of Eq. (12): ``"concat"`` (mean and max over the channels are two
            maps, as in CBAM), ``"sum"`` (they are added, as printed) or ``"channels"`` (both are
            taken over the positions, as the text says).

    Raises:
        UserError: an argument is not allowed.
    """

    def __init__(
        self,
        in_channels: int,
        reduction: int = 16,
        kernel_size: int = 7,
        attention: str = "csa",
        spatial: str = "concat",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("attention", attention, ATTENTIONS),
            ("spatial", spatial, SPATIAL_FORMS),
        ):
            if value not in known:
                raise UserError(f"CSA: {name} must be one of {known}; got {value!r}.")
        self.channel: nn.Module = nn.Identity()
        self.spatial: nn.Module = nn.Identity()
        if attention in ("csa", "channel"):
            self.channel = ChannelAttention(in_channels, reduction)
        if attention in ("csa", "spatial"):
            self.spatial = {
                "concat": lambda: SpatialAttention(kernel_size, norm=False),
                "sum": lambda: SummedSpatialAttention(kernel_size),
                "channels": lambda: PooledPositionsAttention(in_channels),
            }[spatial]()

    def forward(self, feature_map: Tensor) -> Tensor:
        """Refine ``feature_map`` M (B, C, H, W) to M'', which has its shape."""
        refined = self.channel(feature_map)  # M' = A_c(M) * M, Eq. (9), (10)
        return self.spatial(refined)  # M'' = A_s(M') * M', Eq. (11), (12)
