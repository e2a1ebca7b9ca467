"""Blocks of networks that make images: convolutions, residual blocks, AdaIN, a small MLP.

They come from MUNIT (Huang et al., ECCV 2018, NVlabs/MUNIT), whose parts DG-Net and Hi-CMD use:
convolutions pad by reflection, and nothing but a leaky ReLU is not linear.

B images, C channels, H x W pixels.
"""

from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError

SLOPE = 0.3  # of the leaky ReLU below 0: w_lrelu of Hi-CMD's code
NORMS = ("none", "instance", "layer")
_EPS = 1e-5


def padded(inputs: Tensor, border: int) -> Tensor:
    """Return (B, C, H, W) with a border of reflected pixels.

    A map that is not larger than the border cannot be reflected: there its edge is repeated. That
    happens only with images far smaller than those of the papers.
    """
    if border == 0:
        return inputs
    mode = "reflect" if border < min(inputs.shape[-2:]) else "replicate"
    return F.pad(inputs, (border,) * 4, mode=mode)


class LayerNorm(nn.Module):
    """Normalize each image over all its channels and pixels, then scale and shift each channel.

    It is MUNIT's: the deviation is the unbiased one, and a small number is added to it, not to the
    variance; scales begin at random in 0..1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.uniform_(torch.empty(channels)))
        self.bias = nn.Parameter(torch.empty(channels).zero_())

    def forward(self, inputs: Tensor) -> Tensor:
        flat = inputs.flatten(1)
        mean, deviation = flat.mean(dim=1), flat.std(dim=1)
        shape = (-1, 1, 1, 1)
        normalized = (inputs - mean.view(shape)) / (deviation.view(shape) + _EPS)
        return normalized * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


class ConvBlock(nn.Module):
    """A convolution of a padded map, a normalization, a leaky ReLU.

    Args:
        inputs, outputs: channels.
        kernel: side of the window in pixels, odd.
        stride, dilation: in pixels.
        norm: ``"none"``, ``"instance"`` (without scale and shift) or ``"layer"``.
        activation: whether the leaky ReLU follows.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        dilation: int = 1,
        norm: str = "none",
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.border = dilation * (kernel - 1) // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, dilation=dilation)
        self.norm = _normalization(norm, outputs)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True) if activation else None

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.conv(padded(inputs, self.border))
        if self.norm is not None:
            outputs = self.norm(outputs)
        return outputs if self.activation is None else self.activation(outputs)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside the identity; no activation after the sum."""

    def __init__(self, channels: int, norm: str = "none") -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, 3, norm=norm)
        self.second = ConvBlock(channels, channels, 3, norm=norm, activation=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.second(self.first(inputs))


class AdaptiveResidualBlock(nn.Module):
    """A residual block whose two instance normalizations are scaled and shifted by a code (AdaIN).

    Huang, Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
    ICCV 2017.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3)
        self.second = nn.Conv2d(channels, channels, 3)
        self.activation = nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, inputs: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
        """Return (B, C, H, W).

        Args:
            inputs: (B, C, H, W).
            scales, shifts: (B, 2 C), for the first normalization and then for the second.
        """
        (scale_1, scale_2), (shift_1, shift_2) = scales.chunk(2, dim=1), shifts.chunk(2, dim=1)
        outputs = adaptive_norm(self.first(padded(inputs, 1)), scale_1, shift_1)
        outputs = self.activation(outputs)
        return inputs + adaptive_norm(self.second(padded(outputs, 1)), scale_2, shift_2)


def adaptive_norm(inputs: Tensor, scales: Tensor, shifts: Tensor) -> Tensor:
    """Normalize each channel of each image, then scale and shift it by its own numbers.

    Args:
        inputs: (B, C, H, W).
        scales, shifts: (B, C).
    """
    normalized = F.instance_norm(inputs, eps=_EPS)
    return normalized * scales[..., None, None] + shifts[..., None, None]


class MLP(nn.Sequential):
    """Three linear layers, a leaky ReLU after the first and the second."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__(
            nn.Linear(inputs, hidden),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(hidden, outputs),
        )


def initialize(module: nn.Module, deviation: Optional[float] = None) -> None:
    """Draw the weights of all convolutions and linear layers; biases become 0.

    Args:
        module: the network.
        deviation: of a normal distribution; None: Kaiming's, sqrt(2 / inputs of a neuron).
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            if deviation is None:
                nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_in")
            else:
                nn.init.normal_(layer.weight, 0.0, deviation)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _normalization(name: str, channels: int) -> Optional[nn.Module]:
    kinds: Any = {"none": None, "instance": nn.InstanceNorm2d, "layer": LayerNorm}
    if name not in kinds:
        raise UserError(f"norm is {name!r}; expected one of {NORMS}.")
    return None if kinds[name] is None else kinds[name](channels)
