"""FastReID's MobileNetV3 (Howard et al., ICCV 2019), with torchvision's names."""

from typing import Any, Mapping

from torch import Tensor

from fastreid.modeling.backbones import mobilenetv3

from ..pretrained import fetch_pretrained
from .base import Stages, keep_size, numbered, register_network

#: the first block of each stage, which has stride 2, and the end of the list
_BOUNDS = {"Large": (0, 2, 4, 7, 13, 17), "Small": (0, 1, 2, 4, 9, 13)}


@register_network("mobilenetv3")
class MobileNetV3(Stages):
    """A MobileNetV3; a stage begins with each block of stride 2."""

    depths = ("Large", "Small")
    options = ("NORM", "LAST_STRIDE")

    def __init__(self, network: Any, bounds: Any) -> None:
        paths = numbered("features", bounds)
        paths["layer4"] = [*paths["layer4"], "conv"]
        super().__init__(network, paths, mobilenetv3.InvertedResidual)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        network = mobilenetv3.build_mobilenetv3_backbone(cfg)
        bounds = _BOUNDS[cfg.MODEL.BACKBONE.DEPTH]
        if cfg.MODEL.BACKBONE.LAST_STRIDE == 1:
            keep_size(network.features[bounds[4]])
        return cls(network, bounds)

    @classmethod
    def fetch(cls, cfg: Any) -> Mapping[str, Tensor]:
        return fetch_pretrained(cfg.MODEL.BACKBONE.DEPTH, mobilenetv3.model_urls)
