"""FastReID's ResNet, also with instance norm (IBN-a) and squeeze-and-excitation."""

from typing import Any, Mapping

from torch import Tensor, nn

from fastreid.modeling.backbones import resnet

from ..pretrained import fetch_pretrained
from .base import STAGES, Stages, layers, register_network


@register_network("resnet")
class ResNet(Stages):
    """A ResNet of FastReID, without its own non-local blocks.

    Args:
        network: the ResNet.
        padded_pool: pool in the stem as torchvision does, with a border of one pixel around the
            map. FastReID pools without it, so its windows lie one pixel further right and down.
    """

    depths = ("18x", "34x", "50x", "101x")
    options = ("NORM", "LAST_STRIDE", "WITH_IBN", "WITH_SE", "STEM_POOL")

    def __init__(self, network: Any, padded_pool: bool = False) -> None:
        if padded_pool:
            network.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        paths = {STAGES[0]: ("conv1", "bn1", "relu", "maxpool"), **layers(network, *STAGES[1:])}
        super().__init__(network, paths, block=nn.Module)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        return cls(resnet.build_resnet_backbone(cfg), cfg.MODEL.BACKBONE.STEM_POOL == "padded")

    @classmethod
    def fetch(cls, cfg: Any) -> Mapping[str, Tensor]:
        node = cfg.MODEL.BACKBONE
        prefix = ("se_" if node.WITH_SE else "") + ("ibn_" if node.WITH_IBN else "")
        return fetch_pretrained(prefix + node.DEPTH, resnet.model_urls)

    def place(self, name: str) -> str:
        if name.startswith("NL_"):  # FastReID's names: NL_<layer>.<counter>.<rest>
            layer, _, rest = name[3:].partition(".")
            return f"layer{layer}.non_local.{rest}"
        return super().place(name)
