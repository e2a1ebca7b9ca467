"""MRDA's head: an attention on the last map, pooling, BNNeck; see ``meta_arch/mrda.py``.

B images, C x H x W a feature map.
"""

from typing import Any, Dict, Optional

from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, check_values, declare, one_of
from ..layers import BAM, CBAM, IWPAM, DynamicAttention
from ..layers.bam import COMBINATIONS
from .bnneck_head import BNNeckHead

declare(
    "MODEL.HEADS.ATTENTION",
    Key("NAME", "dam", one_of("dam", "bam", "cbam", "iwpam", "none"), "attention on the last map"),
    Key("STRIPES", 6, at_least(1), "horizontal regions of dam (R)"),
    Key("KEPT", 3, at_least(1), "regions of dam that attend to the others (k)"),
    Key("SCALED", True, SWITCH, "divide the affinities of dam by the root of their width, C / 8"),
    Key("COMBINE", "sum", one_of(*COMBINATIONS), "branches of bam; paper: sum, code: product"),
)
declare(
    "MODEL.HEADS.ATTENTION",
    Key("ZERO_START", False, SWITCH, "begin with V of dam at zero; False: with PyTorch's weights"),
    features=False,
)


@REID_HEADS_REGISTRY.register()
class MRDAHead(BNNeckHead):
    """Attention, pooling, BNNeck, classifier.

    Args:
        attention: returns a map (B, C, H, W), which is pooled in the place of the backbone's, or
            vectors (B, C), which are added to the pooled features; None: pooling only.
        kwargs: arguments of ``BNNeckHead``.
    """

    config_nodes = ("MODEL.HEADS.ATTENTION",)

    @configurable
    def __init__(self, *, attention: Optional[nn.Module], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = attention

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HEADS``.

        Raises:
            UserError: a word is unknown, or ``KEPT`` is above ``STRIPES``.
        """
        node, channels = cfg.MODEL.HEADS.ATTENTION, cfg.MODEL.BACKBONE.FEAT_DIM
        build = {
            "dam": lambda: DynamicAttention(
                channels, node.STRIPES, node.KEPT, node.SCALED, node.ZERO_START
            ),
            "bam": lambda: BAM(channels, combine=node.COMBINE),
            "cbam": lambda: CBAM(channels),
            "iwpam": lambda: IWPAM(channels),
            "none": lambda: None,
        }
        check_values("MODEL.HEADS.ATTENTION", NAME=node.NAME, COMBINE=node.COMBINE)
        if node.NAME == "dam" and not 1 <= node.KEPT <= node.STRIPES:
            raise UserError(
                f"MODEL.HEADS.ATTENTION.KEPT is {node.KEPT}; expected 1 to STRIPES, {node.STRIPES}."
            )
        return {**super().from_config(cfg), "attention": build[node.NAME]()}

    def pool(self, feature_map: Tensor) -> Tensor:
        """Pool a map (B, C, H, W) to F-bar (B, C, 1, 1), Eq. (16), (17)."""
        if self.attention is None:
            return self.pool_layer(feature_map)
        attended = self.attention(feature_map)
        if attended.ndim == 4:
            return self.pool_layer(attended)
        return self.pool_layer(feature_map) + attended[..., None, None]
