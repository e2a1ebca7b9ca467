"""The structure map of SPOT, and the appearance that it guides; see ``meta_arch/spot.py``.

Chen et al., "Structure-Aware Positional Transformer for Visible-Infrared Person Re-Identification",
TIP 2022. The equations have no numbers in the notes at hand and are called by their left sides.

Shapes: B images, K_S heat maps, C_S x H x W a structure map F_S, C x H x W an appearance map F_I,
d inner channels of the attention.
"""

import torch
from torch import Tensor, nn

from ...errors import SmallMapError, UserError
from ..maps import Tap
from ..precision import at_least_float32, without_autocast

SHRINKS = 4  # a structure map has a fourth of the height and width of the heat maps


class RelationNetwork(nn.Sequential):
    """N_r: four convolutions and two poolings, from heat maps to F_S = N_r(S).

    Each convolution is 3 x 3, with batch norm and ReLU; a 2 x 2 maximum follows the second and the
    fourth. Heat maps (B, K_S, 4H, 4W) become (B, C_S, H, W).

    Args:
        heat_maps: K_S.
        channels: C_S, a multiple of 4; the convolutions have C_S / 4, C_S / 4, C_S / 2 and C_S.

    Raises:
        UserError: ``channels`` is not a multiple of 4.
    """

    def __init__(self, heat_maps: int, channels: int) -> None:
        if channels < 4 or channels % 4:
            raise UserError(
                f"MODEL.STRUCTURE.CHANNELS is {channels}; expected a multiple of 4: the first "
                "convolutions have a fourth of them."
            )
        quarter, half = channels // 4, channels // 2
        super().__init__(
            *_convolution(heat_maps, quarter, 3),
            *_convolution(quarter, quarter, 3),
            nn.MaxPool2d(2),
            *_convolution(quarter, half, 3),
            *_convolution(half, channels, 3),
            nn.MaxPool2d(2),
        )


class LearnedStructureMap(nn.Sequential):
    """A stand-in for F_S that sees no key points: a 1 x 1 convolution of F_I, batch norm, ReLU.

    It is not part of SPOT.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(*_convolution(in_channels, channels, 1))


class AttendedStructure(nn.Module):
    """ASR: attention among the positions of F_I, computed from F_I and F_S.

    Args:
        channels: C, of F_I; at least ``reduction``.
        structure_channels: C_S.
        reduction: d = C / reduction.
        scaled: divide affinities by sqrt(d); the paper prints no division.
    """

    def __init__(
        self, channels: int, structure_channels: int, reduction: int = 8, scaled: bool = False
    ) -> None:
        super().__init__()
        if channels < reduction:
            raise UserError(
                f"MODEL.STRUCTURE.REDUCTION is {reduction}, more than the {channels} channels of "
                "the backbone's map."
            )
        both, width = channels + structure_channels, channels // reduction
        self.embedding = nn.Sequential(
            *_convolution(both, both, 1),  # phi_1, and the ReLU between
            nn.Conv2d(both, channels, 1, bias=False),  # phi_2
            nn.BatchNorm2d(channels),
        )
        self.key = nn.Conv2d(channels, width, 1)  # K(.)
        self.query = nn.Conv2d(channels, width, 1, bias=False)  # Q(.): a bias would cancel in m
        self.value = nn.Conv2d(channels, channels, 1)  # V(.)
        self.norm = nn.BatchNorm2d(channels)
        self.scale = width**-0.5 if scaled else 1.0
        self.attention_tap = Tap(
            "structure_attention", "attention that each position gets, mean over all, (B, H, W)"
        )

    def forward(self, appearance: Tensor, structure: Tensor) -> Tensor:
        """Return F_IS (B, C, H, W) of F_I (B, C, H, W) and F_S (B, C_S, H, W)."""
        batch, channels, height, width = appearance.shape
        attention = self.attention(appearance, structure)
        if self.attention_tap.wanted:
            self.attention_tap(attention.mean(dim=1).reshape(batch, height, width))
        value = self.value(appearance)
        with without_autocast(value):
            flat = at_least_float32(value).flatten(2).transpose(1, 2)
            attended = (attention @ flat).transpose(1, 2)  # \bar F_I,t = sum_j m_t,j V(F_I,j)
        attended = attended.reshape(batch, channels, height, width).to(value.dtype)
        return attended + self.norm(appearance)  # F_IS = \bar F_I + BN(F_I)

    def attention(self, appearance: Tensor, structure: Tensor) -> Tensor:
        """Return m (B, HW, HW): m_t,j is the share of position j in what position t takes."""
        check_same_size(appearance, structure)
        fused = self.embedding(torch.cat([appearance, structure], dim=1))  # \bar F_S
        key, query = self.key(fused), self.query(fused)
        with without_autocast(key):  # affinities that are not scaled may overflow float16
            key, query = at_least_float32(key).flatten(2), at_least_float32(query).flatten(2)
            affinity = self.scale * key.transpose(1, 2) @ query  # D_t,j = K_t^T Q_j
            return affinity.softmax(dim=-1)  # m_t,j


def check_same_size(appearance: Tensor, structure: Tensor) -> None:
    """Raise ``SmallMapError`` unless both maps have the same height and width."""
    if appearance.shape[2:] != structure.shape[2:]:
        raise SmallMapError(
            f"The structure map is {tuple(structure.shape[2:])}, and the appearance map "
            f"{tuple(appearance.shape[2:])}."
        )


def _convolution(inputs: int, outputs: int, size: int) -> tuple:
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
