"""FastReID's OSNet (Zhou et al., ICCV 2019), also with instance norm (OSNet-IBN)."""

from typing import Any

from fastreid.modeling.backbones import osnet

from .base import STAGES, Stages, layers, register_network


@register_network("osnet")
class OSNet(Stages):
    """An OSNet; its stages are its own ``conv1`` to ``conv5``, the last of which has no blocks.

    The last two stages keep the size of the map, so there is no ``LAST_STRIDE`` of 2.
    """

    depths = ("x1_0", "x0_75", "x0_5", "x0_25")
    options = ("NORM", "WITH_IBN")

    def __init__(self, network: Any) -> None:
        paths = {
            STAGES[0]: ("conv1", "maxpool"),
            **layers(network, "conv2", "conv3", "conv4"),
            STAGES[4]: ("conv5",),
        }
        super().__init__(network, paths, osnet.OSBlock)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        return cls(osnet.build_osnet_backbone(cfg))
