"""FastReID's RepVGG (Ding et al., CVPR 2021), as it is trained: with its branches."""

from typing import Any

from fastreid.modeling.backbones import repvgg

from .base import STAGES, Stages, layers, register_network


@register_network("repvgg")
class RepVGG(Stages):
    """A RepVGG; its stages are its own ``stage0`` to ``stage4``."""

    depths = tuple("A0 A1 A2 B0 B1 B1g2 B1g4 B2 B2g2 B2g4 B3 B3g2 B3g4".split())
    options = ("NORM", "LAST_STRIDE")

    def __init__(self, network: Any) -> None:
        paths = {
            STAGES[0]: ("stage0",),
            **layers(network, *(f"stage{number}" for number in range(1, 5))),
        }
        super().__init__(network, paths, repvgg.RepVGGBlock)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        return cls(repvgg.build_repvgg_backbone(cfg))
