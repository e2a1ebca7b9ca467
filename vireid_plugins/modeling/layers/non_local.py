"""The non-local block of AGW, derived from FastReID's own.

Wang et al., Non-local Neural Networks, CVPR 2018; as AGW uses it (Ye et al., TPAMI 2021): a
scaled dot product over all positions, y = W(theta(x) phi(x)^T g(x) / N) + x with N = H*W.
"""

from torch import nn

from fastreid.layers import Non_local


class NonLocal(Non_local):
    """FastReID's block with a chosen inner width.

    FastReID, like the public AGW code, computes its inner width as ``reduc_ratio // reduc_ratio``,
    which is one channel. AGW's paper describes half of the input channels.

    Args:
        in_channels: C.
        norm: FastReID's name of the normalization layer, such as ``"BN"``.
        legacy_width: keep the single inner channel, to reproduce the public code.
    """

    def __init__(self, in_channels: int, norm: str = "BN", legacy_width: bool = False) -> None:
        super().__init__(in_channels, norm)
        if legacy_width:
            return
        width = self.inter_channels = in_channels // 2
        self.g = nn.Conv2d(in_channels, width, 1)
        self.theta = nn.Conv2d(in_channels, width, 1)
        self.phi = nn.Conv2d(in_channels, width, 1)
        self.W[0] = nn.Conv2d(width, in_channels, 1)
