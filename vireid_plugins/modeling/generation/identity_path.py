"""The identity path of Hi-CMD: what of two codes becomes a feature.

B images, C channels of a prototype, D length of an attribute code.
"""

from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.modeling.backbones import build_backbone

from ...errors import UserError
from ..backbones.dual_stream import USE_STAGES
from ..backbones.stages import STAGES
from ..precision import at_least_float32
from .encoder import CHANNELS
from .feature_sets import Vectors


class Mix(nn.Module):
    """Join the directions of prototype and style: [w c / |c| ; (1 - w) s / |s|], w learned.

    Args:
        rate: learning rate of w.
        vectors: ``"both"``, ``"prototype"`` or ``"style"``; of one alone there is no w.
    """

    def __init__(self, rate: float, vectors: str = "both") -> None:
        super().__init__()
        self.vectors = vectors
        self.param_group_overrides = {"lr": rate}
        self.weight = nn.Parameter(torch.tensor(0.5)) if vectors == "both" else None

    def length(self, prototype: int, style: int) -> int:
        """Return how long the result is."""
        return {"both": prototype + style, "prototype": prototype, "style": style}[self.vectors]

    def forward(self, vectors: Vectors) -> Tensor:
        """Return f_0 (B, C + S) of prototypes (B, C) and styles (B, S), or one direction."""
        c, s = (F.normalize(at_least_float32(one), dim=1) for one in vectors)
        if self.weight is None:
            return c if self.vectors == "prototype" else s
        return torch.cat([self.weight.clamp(max=1) * c, (1 - self.weight).clamp(min=0) * s], dim=1)


def deep_layers(cfg: Any, backbone: Any) -> Tuple[nn.Module, int, int]:
    """Return what turns a prototype into a vector: layer2 and layer3 of another network.

    Returns:
        The layers; the width of the prototype encoder, with an eighth of a prototype's channels;
        the channels of the layers' output.

    Raises:
        UserError: the network has no stages.
    """
    if getattr(backbone, "stages", None) != STAGES:
        raise UserError(f"HiCMD takes two layers out of a network with stages: {USE_STAGES}.")
    width = cfg.MODEL.HICMD.PROTOTYPE_WIDTH
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.UNSHARED_STAGES = cfg.MODEL.BACKBONE.FROZEN_STAGES = 0
    network: Any = build_backbone(cfg)
    first, second, third = STAGES[1:4]
    channels, length = (network.shared[name].channels for name in (first, third))
    layers = [network.shared[second], network.shared[third]]
    width = width or max(1, channels // CHANNELS)
    if width * CHANNELS != channels:
        between = nn.Conv2d(width * CHANNELS, channels, 1, bias=False)
        layers = [nn.Sequential(between, nn.BatchNorm2d(channels), nn.ReLU()), *layers]
    return nn.Sequential(*layers), width, length
