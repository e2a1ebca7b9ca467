"""FastReID's ResNeXt 32x4d (Xie et al., CVPR 2017), also with instance norm (IBN-a)."""

from typing import Any, Mapping

from torch import Tensor

from fastreid.modeling.backbones import resnext

from ..pretrained import fetch_pretrained
from .base import STAGES, Stages, layers, register_network


@register_network("resnext")
class ResNeXt(Stages):
    """A ResNeXt, without its own non-local blocks."""

    depths = ("50x", "101x")
    options = ("NORM", "LAST_STRIDE", "WITH_IBN")

    def __init__(self, network: Any) -> None:
        paths = {STAGES[0]: ("conv1", "bn1", "relu", "maxpool1"), **layers(network, *STAGES[1:])}
        super().__init__(network, paths, resnext.Bottleneck)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        return cls(resnext.build_resnext_backbone(cfg))

    @classmethod
    def fetch(cls, cfg: Any) -> Mapping[str, Tensor]:
        node = cfg.MODEL.BACKBONE
        return fetch_pretrained(("ibn_" if node.WITH_IBN else "") + node.DEPTH, resnext.model_urls)
