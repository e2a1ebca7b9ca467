"""BAM, the bottleneck attention module: channel and spatial attention side by side.

Park, Woo, Lee, Kweon, BAM: Bottleneck Attention Module, BMVC 2018, arXiv 1807.06514; public code
Jongchan/attention-module.

Shapes: B images, C channels, H x W positions, r the reduction.
"""

from typing import List

from torch import Tensor, nn

from ...errors import UserError

COMBINATIONS = ("sum", "product")


class BAM(nn.Module):
    """``f * (1 + sigmoid(M))``, where M joins a channel logit M_c and a spatial logit M_s.

    M_c: average over all positions, C -> C/r, BN, ReLU, C/r -> C. M_s: 1x1 convolution
    C -> C/r, two dilated 3x3 convolutions, BN and ReLU after each of the three, 1x1 -> 1.

    *Departs.* Paper and public code differ, and ``combine`` chooses the side: ``"sum"`` is the
    paper's M_c + M_s, where a BN ends each branch and so gives both the same scale;
    ``"product"`` is the code's M_c * M_s, without these two BN. The inner BN and ReLU come from
    the code; the paper's formulas print neither. Convolutions whose bias a BN takes away have
    none. The channel average is a true one (the code's window is square, of side H).

    Initial weights are PyTorch's. The code's (Kaiming normal by fan-out) differ in effect only
    in the last spatial convolution of ``"product"``: by its one output channel it starts with
    a standard deviation of 1.4, which saturates the sigmoid.

    In training the channel branch normalizes over the images: a batch of one image is refused
    by PyTorch's ``BatchNorm2d`` (ValueError). In eval mode one image is fine.

    Args:
        in_channels: C.
        reduction: r; the inner width is C // r.
        dilation: of the 3x3 convolutions.
        combine: ``"sum"`` or ``"product"``.

    Raises:
        UserError: an argument is out of its range.
    """

    def __init__(
        self, in_channels: int, reduction: int = 16, dilation: int = 4, combine: str = "sum"
    ) -> None:
        super().__init__()
        if combine not in COMBINATIONS:
            raise UserError(f"BAM: combine must be one of {COMBINATIONS}; got {combine!r}.")
        if dilation < 1:
            raise UserError(f"BAM: dilation must be at least 1; got {dilation}.")
        width = inner_width("BAM", in_channels, reduction)
        self.combine = combine
        end_in_norm = combine == "sum"
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *_conv_norm_relu(in_channels, width),
            *_last_conv(width, in_channels, end_in_norm),
        )
        self.spatial = nn.Sequential(
            *_conv_norm_relu(in_channels, width),
            *_conv_norm_relu(width, width, kernel_size=3, dilation=dilation),
            *_conv_norm_relu(width, width, kernel_size=3, dilation=dilation),
            *_last_conv(width, 1, end_in_norm),
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """Refine ``feature_map`` (B, C, H, W); the result has its shape."""
        channel, spatial = self.channel(feature_map), self.spatial(feature_map)
        logits = channel + spatial if self.combine == "sum" else channel * spatial
        return feature_map * (1 + logits.sigmoid())


def inner_width(owner: str, in_channels: int, reduction: int) -> int:
    """Return ``in_channels // reduction``; raise a ``UserError`` if that is below 1."""
    if reduction < 1 or in_channels < reduction:
        raise UserError(
            f"{owner}: in_channels // reduction must be at least 1; got in_channels "
            f"{in_channels} and reduction {reduction}. Choose a reduction from 1 to in_channels."
        )
    return in_channels // reduction


def _conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1
) -> List[nn.Module]:
    """Return a convolution that keeps H x W, batch norm and ReLU; batch norm needs no bias."""
    padding = dilation * (kernel_size // 2)
    return [
        nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


def _last_conv(in_channels: int, out_channels: int, norm: bool) -> List[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 1, bias=not norm)
    return [conv, nn.BatchNorm2d(out_channels)] if norm else [conv]
