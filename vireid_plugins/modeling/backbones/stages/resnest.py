"""FastReID's ResNeSt (Zhang et al., 2020)."""

from typing import Any, Mapping

from torch import Tensor

from fastreid.modeling.backbones import resnest

from ..pretrained import fetch_pretrained
from .base import STAGES, Stages, layers, register_network


@register_network("resnest")
class ResNeSt(Stages):
    """A ResNeSt; its stem is three convolutions and a pooling."""

    depths = ("50x", "101x", "200x", "269x")
    options = ("NORM", "LAST_STRIDE")

    def __init__(self, network: Any) -> None:
        paths = {STAGES[0]: ("conv1", "bn1", "relu", "maxpool"), **layers(network, *STAGES[1:])}
        super().__init__(network, paths, resnest.Bottleneck)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        return cls(resnest.build_resnest_backbone(cfg))

    @classmethod
    def fetch(cls, cfg: Any) -> Mapping[str, Tensor]:
        return fetch_pretrained(f"resnest{cfg.MODEL.BACKBONE.DEPTH[:-1]}", resnest.model_urls)
