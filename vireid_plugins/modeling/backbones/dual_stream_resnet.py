"""The dual-stream ResNet of configs that do not name a network."""

from typing import Any, Dict, Union

from torch import nn

from fastreid.config import configurable
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from .dual_stream import DualStreamBackbone, load_pretrained
from .stages import STAGES, Stages
from .stages.resnet import ResNet

__all__ = ["STAGES", "DualStreamResNet", "build_dual_stream_resnet_backbone"]


class DualStreamResNet(DualStreamBackbone):
    """A ``DualStreamBackbone`` whose network is a ResNet, whatever ``NETWORK`` is.

    Args:
        network: a ResNet of FastReID, without its own non-local blocks, or one cut into stages.
        others: the other arguments of ``DualStreamBackbone``.
    """

    @configurable
    def __init__(self, *, network: Union[nn.Module, Stages], **others: Any) -> None:
        stages = network if isinstance(network, Stages) else ResNet(network)
        super().__init__(network=stages, **others)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.BACKBONE.*``."""
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.BACKBONE.NETWORK = "resnet"
        return super().from_config(cfg)


@BACKBONE_REGISTRY.register()
def build_dual_stream_resnet_backbone(cfg: Any) -> DualStreamBackbone:
    """Build a ``DualStreamResNet`` from ``MODEL.BACKBONE.*``, which may ask for trained weights."""
    return load_pretrained(DualStreamResNet(cfg), cfg)


build_dual_stream_resnet_backbone.takes_modalities = True  # the methods of FastReID name none
