"""FastReID's ShuffleNetV2 (Ma et al., ECCV 2018), with the names of Megvii's weights."""

from typing import Any, Dict, Sequence, Tuple

from torch import Tensor

from fastreid.modeling.backbones import shufflenet

from .base import Stages, keep_size, numbered, out_channels, register_network


@register_network("shufflenetv2")
class ShuffleNetV2(Stages):
    """A ShuffleNetV2; its first pooling is layer1, which has no weights and no blocks."""

    depths = ("0.5x", "1.0x", "1.5x", "2.0x")
    options = ("NORM", "LAST_STRIDE")

    def __init__(self, network: Any) -> None:
        paths: Dict[str, Sequence[str]] = numbered("features", (0, 0, 0, 4, 12, 16))
        paths["stem"], paths["layer1"] = ["first_conv"], ["maxpool"]
        paths["layer4"] = [*paths["layer4"], "conv_last"]
        super().__init__(network, paths, shufflenet.ShuffleV2Block, _channels_of)

    @classmethod
    def from_config(cls, cfg: Any) -> Stages:
        network = shufflenet.build_shufflenetv2_backbone(cfg)
        for block in network.features:
            block.channel_shuffle = _shuffle
        if cfg.MODEL.BACKBONE.LAST_STRIDE == 1:
            keep_size(network.features[12])
        return cls(network)


def _shuffle(feature_map: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the even and the odd channels, as the block itself does, for any number of images.

    FastReID's own function has a fixed number of images in an exported graph.
    """
    return feature_map[:, 0::2], feature_map[:, 1::2]


def _channels_of(part: Any) -> int:
    """Return the output channels: a block puts ``inp`` channels beside those it computes."""
    if isinstance(part, shufflenet.ShuffleV2Block):
        return part.inp + out_channels(part.branch_main)
    return out_channels(part)
