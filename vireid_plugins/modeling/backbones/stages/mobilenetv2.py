"""FastReID's MobileNetV2 (Sandler et al., CVPR 2018)."""

from typing import Any, Dict, Iterable

from fastreid.layers import get_norm
from fastreid.modeling.backbones import mobilenet

from .base import Stages, keep_size, numbered, register_network


@register_network("mobilenetv2")
class MobileNetV2(Stages):
    """A MobileNetV2; a stage begins with each block of stride 2."""

    depths = ("1.0x", "0.75x", "0.5x", "0.35x", "0.25x", "0.1x")
    options = ("NORM", "LAST_STRIDE")

    def __init__(self, network: Any) -> None:
        paths = numbered("features", (0, 2, 4, 7, 14, 18))
        paths["layer4"] = [*paths["layer4"], "conv"]
        super().__init__(network, paths, mobilenet.InvertedResidual)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        network = mobilenet.build_mobilenetv2_backbone(cfg)
        for block in network.features[2:]:  # FastReID ends these with batch norm, whatever NORM is
            block.conv[-1] = get_norm(cfg.MODEL.BACKBONE.NORM, block.conv[-1].num_features)
        if cfg.MODEL.BACKBONE.LAST_STRIDE == 1:
            keep_size(network.features[14])
        return cls(network)

    @classmethod
    def fastreid_names(cls, names: Iterable[str]) -> Dict[str, str]:
        return own_names(names)


def own_names(names: Iterable[str]) -> Dict[str, str]:
    """Translate the names of torchvision's files, and of those that end at ``features.18``."""
    names = list(names)
    torchvision = "features.1.conv.0.0.weight" in names
    return {name: _own_name(name, torchvision) for name in names}


def _own_name(name: str, torchvision: bool) -> str:
    if name.startswith("features.18."):
        return "conv." + name[len("features.18.") :]
    words = name.split(".")
    if not torchvision or len(words) < 5 or words[2] != "conv":
        return name
    # torchvision puts convolution, norm and ReLU of all but the last layer into one module each
    layer, rest = int(words[3]), words[4:]
    last = 1 if words[1] == "1" else 2  # the first block does not expand its channels
    if layer < last:
        number = 3 * layer + int(rest.pop(0))
    else:
        number = 3 * last + layer - last
    return ".".join([*words[:3], str(number), *rest])
