"""CrossViT with CSA: two branches of patches, an exchange between them, attention on their maps.

*Paper*: C. Huang et al., "Cross-modal person re-identification based on fused attention and feature
enhancement", Journal of Nanjing University of Information Science & Technology, 2024, 16(4),
451-460 (in Chinese; no public code).
*Idea*: CrossViT sees each image in small and in large patches, and the class token of each branch
attends to the patches of the other. The patch tokens are put back into maps, on which a channel and
a spatial attention choose what both modalities share.
*Here*: ``CrossViTCSA``; CrossViT, Eq. (1)-(8), is ``backbones/crossvit.py``; ``CSA``, Eq. (9)-(12),
is ``layers/csa.py``; losses ``LabelSmoothingCrossEntropyLoss`` (13), ``WeightedTripletLoss`` with
``hinge`` (15), and for Table 4 ``BatchHardTripletLoss`` (14) and ``CenterLoss``.
*Departs*, or reads what the paper leaves open:

- Eq. (8) joins the new class token of the coarse branch C with the patches of the fine branch F,
  and Eq. (5) likewise; CrossViT, which is cited, attends to the *other* branch's patches (Eq. 5)
  and then keeps its *own* (Eq. 8). That is done. Eq. (7): the class token is projected, and it is
  normalized together with the patches before q, k and v are made of it (Eq. 6). As in CrossViT
  there is no residual connection around P and BP.
- "Feature map M" (Eq. 9): the patch tokens of a branch behind its last norm, put back into a map.
  Each branch has a CSA of its own. It is not said what becomes of M'': here its mean over the
  positions, beside the class token (``CLASS_TOKEN``), of both branches side by side. (Generalized
  means cut negative values, and half of a token's are negative.)
- Eq. (10): C1 and C2 are shared by both poolings, 1 x 1, with r = 16 (not printed), and the sigmoid
  is of the sum. This is CBAM's channel attention.
- Eq. (12) adds the two pooled maps, the text joins them, and says that each *channel* is pooled to
  1 x 1, which would be channel attention again. By default CBAM's: mean and max over the channels,
  joined, a 7 x 7 convolution. ``SPATIAL`` has the other two readings.
- "Fusion of both modalities": all images go through one CrossViT with one set of weights. The gray
  copies of Fig. 1 are a second view of each visible image (``INPUT.GREY``), with the same identity
  and its own random augmentation; the gray copy of an infrared image would be that image.
- TrivialAugment is torchvision's ``TrivialAugmentWide``; the paper names no ranges.
- Eq. (13): the smoothing is not printed, 0.1. Eq. (15): the hinge is missing in print; Eq. (14),
  (15) are means over the anchors, where sums are printed.
- Recipe: Adam with a rate of 0.1 and a momentum is printed. ``configs/crossvit_csa/sysu.yml`` has
  AdamW, ``sgd_paper.yml`` the printed numbers, with SGD. Which CrossViT: not printed, small.
- Classifier and test see the feature after a batch norm (BNNeck), of the original image.

*Config*: ``configs/crossvit_csa``; ``MODEL.CROSSVIT_CSA``, ``MODEL.BACKBONE.BRANCH_SCALES``.

B images. Branch i has a map of D_i channels, and a class token of D_i where the backbone has one.
Any backbone may be taken: a ViT is one branch, a convolutional network one without a class token.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.layers.pooling import GeneralizedMeanPooling
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import Key, Rule, at_least, check_values, declare, one_of
from ..layers import CSA, MeanFloorPooling
from ..layers.csa import ATTENTIONS, SPATIAL_FORMS
from ..maps import Tap
from .base import DualStreamBaseline, map_channels

CLASS_TOKENS = ("concat", "add", "none")
ODD = Rule("1, 3, 5, ...", lambda value: isinstance(value, int) and value > 0 and value % 2 == 1)

declare(
    "MODEL.CROSSVIT_CSA",
    Key("ATTENTION", "csa", one_of(*ATTENTIONS), "attention on the map of each branch (Eq. 9-12)"),
    Key("REDUCTION", 16, at_least(1), "channels divided by those between C1 and C2 (Eq. 10)"),
    Key("SPATIAL", "concat", one_of(*SPATIAL_FORMS), "reading of Eq. 12; sum: as printed"),
    Key("KERNEL", 7, ODD, "window of the spatial attention (Eq. 12), patches"),
    Key(
        "CLASS_TOKEN", "concat", one_of(*CLASS_TOKENS), "how it joins the mean of its branch's map"
    ),
)


class Branch(NamedTuple):
    """What a backbone makes of images in one branch."""

    maps: Tensor  # (B, D_i, h_i, w_i)
    class_token: Optional[Tensor]  # (B, D_i), or None


@META_ARCH_REGISTRY.register()
class CrossViTCSA(DualStreamBaseline):
    """The baseline on maps of patch tokens with CSA, and on class tokens.

    Args:
        dims: channels D_i of each branch's map.
        attention: ``"csa"``, ``"channel"``, ``"spatial"`` or ``"none"``, see :class:`CSA`.
        reduction: of its channel attention.
        kernel: window of its spatial attention.
        spatial: reading of Eq. (12): ``"concat"``, ``"sum"`` or ``"channels"``.
        class_token: what becomes of the class tokens: ``"concat"``, ``"add"`` to the mean of the
            map, or ``"none"``.
        kwargs: arguments of ``DualStreamBaseline``.

    Raises:
        UserError: a word or number is not allowed, or the head pools by generalized means.
    """

    config_nodes = ("MODEL.CROSSVIT_CSA",)

    @configurable
    def __init__(
        self,
        *,
        dims: Sequence[int],
        attention: str = "csa",
        reduction: int = 16,
        kernel: int = 7,
        spatial: str = "concat",
        class_token: str = "concat",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_values(
            "MODEL.CROSSVIT_CSA",
            ATTENTION=attention,
            REDUCTION=reduction,
            KERNEL=kernel,
            SPATIAL=spatial,
            CLASS_TOKEN=class_token,
        )
        if attention in ("csa", "channel") and reduction > min(dims):
            raise UserError(
                f"MODEL.CROSSVIT_CSA.REDUCTION is {reduction}, and the maps of the backbone have "
                f"{' and '.join(map(str, dims))} channels, of which Eq. (10) leaves one part in "
                f"{reduction}. Set it to {min(dims)} or less."
            )
        self._check_head()
        self.class_token = class_token
        self.attention = nn.ModuleList(
            CSA(dim, reduction, kernel, attention, spatial) for dim in dims
        )
        # The last branch, the coarse one, has the name of the maps of other methods.
        names = [f"feature_map_{number}" for number in range(len(dims) - 1)]
        self.branch_taps = nn.ModuleList(
            Tap(name, "map of a finer branch behind CSA, (B, D_i, h_i, w_i)") for name in names
        )

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.CROSSVIT_CSA``."""
        node, baseline = cfg.MODEL.CROSSVIT_CSA, super().from_config(cfg)
        return {
            **baseline,
            "dims": branch_dims(baseline["backbone"], cfg),
            "attention": node.ATTENTION,
            "reduction": node.REDUCTION,
            "kernel": node.KERNEL,
            "spatial": node.SPATIAL,
            "class_token": node.CLASS_TOKEN,
        }

    @classmethod
    def head_channels(cls, backbone: nn.Module, cfg: Any) -> int:
        """Return the length of the feature that the head is given."""
        channels = sum(branch_dims(backbone, cfg))
        both = cfg.MODEL.CROSSVIT_CSA.CLASS_TOKEN == "concat" and has_class_token(backbone)
        return 2 * channels if both else channels

    def _check_head(self) -> None:
        pooling = getattr(self.heads, "pool_layer", None)
        if isinstance(pooling, (GeneralizedMeanPooling, MeanFloorPooling)):
            raise UserError(
                "MODEL.HEADS.POOL_LAYER is a generalized mean, which raises values below 1e-6 to "
                "it, and CrossViTCSA gives the head features of either sign, whose maps are pooled "
                "already. Set it to GlobalAvgPool."
            )

    def extract(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return the features of normalized images (B, 3, H, W) before the head, (B, D, 1, 1)."""
        branches = branches_of(self.backbone, images, modalities)
        taps = [*self.branch_taps, self.map_tap]
        found: List[Tensor] = []
        for branch, attention, tap in zip(branches, self.attention, taps):
            pooled = tap(attention(branch.maps)).mean(dim=(2, 3))  # of M'', Eq. (9)-(12)
            found += self._joined(pooled, branch.class_token)
        return torch.cat(found, dim=1)[..., None, None]

    def _joined(self, pooled: Tensor, class_token: Optional[Tensor]) -> List[Tensor]:
        """Return the features of one branch, (B, D_i) each."""
        if class_token is None or self.class_token == "none":
            return [pooled]
        if self.class_token == "add":
            return [class_token + pooled]
        return [class_token, pooled]


def branches_of(backbone: Any, images: Tensor, modalities: Tensor) -> Tuple[Branch, ...]:
    """Return the maps and class tokens of a backbone: two branches of CrossViT, one of others.

    Args:
        backbone: CrossViT, a ViT, or any network that makes maps.
        images: (B, 3, H, W), normalized.
        modalities: (B,).
    """
    if hasattr(backbone, "branches"):
        return tuple(
            Branch(one.maps, one.class_token) for one in backbone.branches(images, modalities)
        )
    if hasattr(backbone, "tokens"):
        tokens = backbone.tokens(images, modalities)
        return (Branch(tokens.maps, tokens.class_token if has_class_token(backbone) else None),)
    takes_modalities = getattr(backbone, "takes_modalities", False)
    return (Branch(backbone(images, modalities) if takes_modalities else backbone(images), None),)


def has_class_token(backbone: Any) -> bool:
    """Return whether a backbone has class tokens beside its maps."""
    return bool(getattr(backbone, "has_class_token", False))


def branch_dims(backbone: Any, cfg: Any) -> Tuple[int, ...]:
    """Return the channels D_i of each branch of a backbone."""
    if hasattr(backbone, "branch_dims"):
        return tuple(backbone.branch_dims)
    return (map_channels(backbone, cfg.INPUT.SIZE_TEST),)
