"""MRDA: mask reconstruction and dynamic attention.

*Paper*: K. Zhang, X. Fan, J. Li, G. Zhang, "Cross-Modal Person Re-Identification Based on Mask
Reconstruction with Dynamic Attention", Laser & Optoelectronics Progress, 2024, doi
10.3788/LOP231742 (in Chinese; no public code).
*Idea*: a second view of each image, in which bright pixels outweigh the background, goes through
the network together with the image, and a shallow layer must give similar maps for both. On the
last map, the queries of an attention come only from the few horizontal regions to which all others
attend most.
*Here*: ``mask_of`` (Eq. 1), ``DynamicAttention`` (Eq. 9-15), ``MRDAHead`` (Eq. 16, 17), ``MRDA``
(Eq. 2-8, 18-23). Losses: ``LabelSmoothingCrossEntropyLoss`` (18),
``HeteroCenterTripletLoss`` (19, 20), ``CorrelationConsistencyLoss`` (21, 22),
``RegionalCenterLoss`` (7). BAM, CBAM and IWPAM (Table 1): ``modeling/layers``.
*Departs*, or reads what the paper leaves open:

- Eq. 1: the norm runs over the channels and is divided by the root of their number, so that the
  mask is in 0..1 and Eq. 2 can hold; minimum and maximum are of one image in 0..255, over
  channels and pixels; a constant image has the mask 1.
- Eq. 7: means instead of sums, distances per element, visible and infrared images paired with all
  of the same identity (``MODEL.LOSSES.REGIONAL_CENTER``). The text's push away from the
  background is off (``BACKGROUND_SCALE``); with it, background rows share the batch statistics
  of the first stages. Without the mask (Table 2) there is no L_ac.
- Eq. 9: Q and K have C / 8 channels, V has C; K has no bias, which Eq. 12 and 14 would take away
  again. Eq. 10: R = 6 stripes; Eq. 12: k = 3 of them, those with the largest mean of their column
  of M_aff, that is, to which all stripes attend most; of equal ones the upper. Eq. 14: affinities
  are divided by sqrt(C / 8) (``SCALED``).
- Eq. 16: avg runs over the kept positions. It is linear, as Eq. 15 is, so the mean of alpha comes
  first and V is computed for one position per image: the same value, far fewer products.
- Eq. 17: b is learnable, from 3. Eq. 18, 19, 21 run over both views (Eq. 5-8 leave both in f);
  ``LOSS_VIEWS`` restricts the metric losses (19, 21) to the originals.
- Eq. 18: the classifier, and the test, see the feature after a batch norm (BNNeck). Eq. 20: a mean
  over the centers, where a sum is printed (``HETERO_CENTER.REDUCTION``); the anchor of each term
  is its own center. Eq. 21: Gram matrices of the identities' centers, as nothing pairs images.
- Not printed: image size, rho, xi, the epochs and the test feature (that of the original image).
  Of one printed rate, 0.1, pretrained layers get a tenth; momentum is Nesterov's, as in AGW.

*Config*: ``MODEL.MRDA``, ``MODEL.HEADS.ATTENTION``, ``MODEL.LOSSES.*``; ``configs/mrda``.

B images, C x H x W a feature map, d inner channels, R stripes, k kept ones, m rows of the highest.
"""

from typing import Any, Dict, Optional, Tuple, Union

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, between, check_values, declare, one_of
from ..backbones.dual_stream import STAGES, USE_STAGES
from ..heads import BNNeckHead, retrieval_features, training_outputs
from ..layers import BAM, CBAM, IWPAM, stripe_means, stripe_rows
from ..layers.bam import COMBINATIONS
from ..losses import RegionalCenterLoss
from ..maps import Tap
from ..precision import at_least_float32, without_autocast
from .base import DualStreamBaseline

declare(
    "MODEL.MRDA",
    Key("MASK", True, SWITCH, "train on a masked view of each image too, with L_ac (Eq. 1-7)"),
    Key("CONSTRAINT_STAGE", 1, between(0, 4), "L_ac compares after this stage (Fig. 6); 0: stem"),
)
declare(
    "MODEL.MRDA",
    Key("LOSS_VIEWS", "both", one_of("both", "original"), "views of metric losses (Eq. 19, 21)"),
    # a choice of the evaluation, which its result names
    Key("TEST_VIEW", "original", one_of("original", "masked", "mean"), "test view; mean: of both"),
    features=False,
)
declare(
    "MODEL.HEADS.ATTENTION",
    Key("NAME", "dam", one_of("dam", "bam", "cbam", "iwpam", "none"), "attention on the last map"),
    Key("STRIPES", 6, at_least(1), "horizontal regions of dam (R)"),
    Key("KEPT", 3, at_least(1), "regions of dam that attend to the others (k)"),
    Key("SCALED", True, SWITCH, "divide the affinities of dam by the root of their width, C / 8"),
    Key("COMBINE", "sum", one_of(*COMBINATIONS), "branches of bam; paper: sum, code: product"),
)


@torch.no_grad()
def mask_of(images: Tensor) -> Tensor:
    """Compute M+, Eq. (1), of images (B, 3, H, W) in 0..255: (B, 1, H, W) in 0..1, bright large."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    spread = high - low
    scaled = (images - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
    mask = scaled.square().mean(dim=1, keepdim=True).sqrt()  # ||.||_2 / sqrt(3)
    return torch.where(spread > 0, mask, torch.ones_like(mask))


class DynamicAttention(nn.Module):
    """DAM: attention of a few chosen horizontal stripes to all positions; mean of its output.

    Queries of the other stripes are not computed with: the cost is k / R of full attention.

    Args:
        in_channels: C, at least 8.
        num_stripes: R.
        num_kept: k, 1..R.
        scaled: divide affinities by sqrt(d).

    Raises:
        UserError: a number is out of range.
    """

    gives_map = False

    def __init__(
        self, in_channels: int, num_stripes: int = 6, num_kept: int = 3, scaled: bool = True
    ) -> None:
        super().__init__()
        if not 1 <= num_kept <= num_stripes:
            raise UserError(
                f"MODEL.HEADS.ATTENTION.KEPT is {num_kept}; expected 1 to STRIPES, {num_stripes}."
            )
        if in_channels < 8:
            raise UserError(f"DynamicAttention needs at least 8 channels; got {in_channels}.")
        width = in_channels // 8
        self.num_stripes, self.num_kept = num_stripes, num_kept
        self.scale = width**-0.5 if scaled else 1.0
        self.query = nn.Conv2d(in_channels, width, 1)
        self.key = nn.Conv2d(in_channels, width, 1, bias=False)
        self.value = nn.Conv2d(in_channels, in_channels, 1)
        self.scores_tap = Tap("stripe_scores", "how much all stripes attend to each, (B, R)")
        self.kept_tap = Tap("kept_stripes", "numbers of the k chosen stripes, best first, (B, k)")
        self.attention_tap = Tap("attention", "mean of alpha over the queries, (B, H, W), sum 1")

    def forward(self, feature_map: Tensor) -> Tensor:
        """Average the attended map of (B, C, H, W): (B, C), to be added to the pooled feature."""
        query, key = self.query(feature_map), self.key(feature_map)  # Eq. (9)
        with without_autocast(feature_map):  # un-scaled affinities may overflow float16
            query, key = at_least_float32(query), at_least_float32(key)
            kept = self.kept_tap(self.choose(query, key))
            attention = self.attend(query, key, kept)
            attention = self.attention_tap(attention.view(-1, *feature_map.shape[2:]))
            # In print: V = value(f), Eq. (9); f-bar = alpha V, Eq. (15); avg(f-bar), Eq. (16).
            # Both steps after alpha are linear and each row of alpha sums to 1, so this equals
            # the value of the map's mean under the mean of alpha.
            attended = torch.einsum("bchw,bhw->bc", at_least_float32(feature_map), attention)
        return self.value(attended.to(feature_map.dtype)[..., None, None])[..., 0, 0]

    def choose(self, query: Tensor, key: Tensor) -> Tensor:
        """Choose the kept stripes (B, k) from Q and K (B, d, H, W); among equal ones the upper."""
        query_mean = stripe_means(query, self.num_stripes)  # Eq. (10): (B, d, R)
        key_mean = stripe_means(key, self.num_stripes)
        affinity = query_mean.transpose(1, 2) @ key_mean  # Eq. (11): M_aff (B, R, R)
        scores = self.scores_tap(affinity.mean(dim=1))
        # Places by counting, not by a stable sort, which ONNX does not have.
        own, other = scores.unsqueeze(2), scores.unsqueeze(1)
        upper = torch.ones_like(affinity, dtype=torch.bool).tril(-1)
        places = ((other > own) | ((other == own) & upper)).sum(dim=2)  # (B, R), 0: the best
        return places.topk(self.num_kept, largest=False).indices  # Eq. (12): M_index

    def attend(self, query: Tensor, key: Tensor, kept: Tensor) -> Tensor:
        """Average alpha over the kept positions: Q, K (B, d, H, W), ``kept`` (B, k): (B, H*W)."""
        batch, width, height, columns = query.shape
        rows, valid = stripe_rows(height, self.num_stripes, query.device)  # (R, m)
        rows, valid = rows[kept].flatten(1), valid[kept].flatten(1)  # (B, k * m)
        places = rows[:, None, :, None].expand(-1, width, -1, columns)
        chosen = query.gather(2, places).flatten(2)  # Eq. (13): Q_index (B, d, k * m * W)
        affinity = self.scale * chosen.transpose(1, 2) @ key.flatten(2)
        alpha = affinity.softmax(dim=-1)  # Eq. (14): (B, k * m * W, H * W)
        weights = valid.to(alpha).repeat_interleave(columns, dim=1)
        weights = weights / weights.sum(dim=1, keepdim=True)
        return (weights.unsqueeze(1) @ alpha).squeeze(1)  # avg of Eq. (16), of alpha


@REID_HEADS_REGISTRY.register()
class MRDAHead(BNNeckHead):
    """Attention, generalized-mean pooling, BNNeck, classifier.

    Args:
        attention: gives a map (B, C, H, W) that is pooled in place of the backbone's, or, where
            its ``gives_map`` is False, a vector (B, C) that is added to the pooled feature; None:
            pooling only.
        kwargs: arguments of ``BNNeckHead``.
    """

    @configurable
    def __init__(self, *, attention: Optional[nn.Module], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attention = attention

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HEADS``.

        Raises:
            UserError: ``MODEL.HEADS.ATTENTION.NAME`` is unknown.
        """
        node, channels = cfg.MODEL.HEADS.ATTENTION, cfg.MODEL.BACKBONE.FEAT_DIM
        build = {
            "dam": lambda: DynamicAttention(channels, node.STRIPES, node.KEPT, node.SCALED),
            "bam": lambda: BAM(channels, combine=node.COMBINE),
            "cbam": lambda: CBAM(channels),
            "iwpam": lambda: IWPAM(channels),
            "none": lambda: None,
        }
        check_values("MODEL.HEADS.ATTENTION", NAME=node.NAME, COMBINE=node.COMBINE)
        return {**super().from_config(cfg), "attention": build[node.NAME]()}

    def pool(self, feature_map: Tensor) -> Tensor:
        """Pool a map (B, C, H, W) to F-bar (B, C, 1, 1), Eq. (16), (17)."""
        if self.attention is None:
            return self.pool_layer(feature_map)
        attended = self.attention(feature_map)
        if self.attention.gives_map:
            return self.pool_layer(attended)
        return self.pool_layer(feature_map) + attended[..., None, None]


@META_ARCH_REGISTRY.register()
class MRDA(DualStreamBaseline):
    """The dual-stream network on images and their masked views.

    Args:
        masked_view: train on both views, with L_ac; False: the baseline of Table 2.
        regional_center: L_ac.
        regional_center_scale: its weight.
        constraint_stage: number of the stage after which L_ac compares, 0..4.
        loss_views: rows of Eq. 19 and 21: ``"both"`` or ``"original"``.
        test_view: ``"original"``, ``"masked"``, or ``"mean"`` of both features.
        kwargs: arguments of ``DualStreamBaseline``.

    Raises:
        UserError: a word or number is out of range, or the backbone has no stages to stop at.
    """

    own_weight_keys = {RegionalCenterLoss.log_name: "MODEL.LOSSES.REGIONAL_CENTER.SCALE"}

    @configurable
    def __init__(
        self,
        *,
        masked_view: bool = True,
        regional_center: RegionalCenterLoss,
        regional_center_scale: float = 1.0,
        constraint_stage: int = 1,
        loss_views: str = "both",
        test_view: str = "original",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_values(
            "MODEL.MRDA",
            LOSS_VIEWS=loss_views,
            TEST_VIEW=test_view,
            CONSTRAINT_STAGE=constraint_stage,
        )
        if not hasattr(self.backbone, "forward_stages"):
            raise UserError(
                f"MRDA compares maps inside the backbone, so it needs stages: {USE_STAGES}."
            )
        if not masked_view and (test_view != "original" or regional_center.background_scale > 0):
            raise UserError(
                "MODEL.MRDA.MASK is False, so there is no masked image and no L_ac: set "
                "MODEL.MRDA.TEST_VIEW 'original' and MODEL.LOSSES.REGIONAL_CENTER.BACKGROUND_SCALE "
                f"0 (now {test_view!r} and {regional_center.background_scale}), or MASK True."
            )
        self.masked_view = masked_view
        self.regional_center = regional_center
        self.regional_center_scale = regional_center_scale
        self.first_stages = STAGES[: constraint_stage + 1]
        self.last_stages = STAGES[constraint_stage + 1 :]
        self.loss_views, self.test_view = loss_views, test_view
        self.mask_tap = Tap("mask", "M+ of each image, (B, 1, H, W) in 0..1")

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.MRDA`` and ``MODEL.LOSSES.REGIONAL_CENTER``."""
        node = cfg.MODEL.MRDA
        return {
            **super().from_config(cfg),
            "masked_view": node.MASK,
            "regional_center": RegionalCenterLoss.from_config(cfg),
            "regional_center_scale": RegionalCenterLoss.node(cfg).SCALE,
            "constraint_stage": node.CONSTRAINT_STAGE,
            "loss_views": node.LOSS_VIEWS,
            "test_view": node.TEST_VIEW,
        }

    @property
    def test_feature(self) -> str:
        """Return the words of the head, and the view unless it is the original one."""
        views = {"original": "", "masked": "masked view", "mean": "mean of both views"}
        return ", ".join(filter(None, (super().test_feature, views[self.test_view])))

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Turn a batch into features (B, D), or in training into the loss terms of Eq. (23)."""
        modalities = self.modalities_of(batch)
        images = batch["images"].to(self.device, torch.float32)
        if not self.training:
            return self.test_features(images, modalities)
        if not self.masked_view:
            return super().forward(batch)
        views = self.views(images)
        shallow = self.backbone.forward_stages(  # Eq. (5), (6)
            self.normalize(torch.cat(views)), modalities.repeat(len(views)), self.first_stages
        )
        # Only the original and the masked view are used from here on.
        rows, modalities = 2 * len(images), modalities.repeat(2)
        feature_map = self.backbone.forward_stages(  # Eq. (8)
            shallow[:rows], modalities, self.last_stages
        )
        targets = batch["targets"].to(self.device).repeat(2)
        outputs = training_outputs(self.heads, feature_map, targets, modalities)
        maps = shallow.chunk(len(views))
        outputs["original_map"], outputs["masked_map"] = maps[:2]
        if len(maps) == 3:
            outputs["background_map"] = maps[2]
        return self.objective(outputs, batch)

    def views(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Return images (B, 3, H, W), their body regions and, if L_ac needs it, the background."""
        mask = self.mask_tap(mask_of(images))  # M+, Eq. (1)
        body = mask * images  # Eq. (3)
        if self.regional_center.background_scale == 0:
            return images, body
        return images, body, (1 - mask) * images  # Eq. (4), with M- of Eq. (2)

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute L = L_id + L_hc,tri + L_mc + L_ac of Eq. (23), each times its ``SCALE``."""
        if not self.masked_view:
            return super().losses(outputs, batch)
        labels = self.labels(batch)
        tensors = {**outputs, **_labels_of_both_views(labels)}
        # ``LOSS_VIEWS`` is about metric losses; losses of logits see both views in any case.
        rows = len(labels["targets"]) * (2 if self.loss_views == "both" else 1)
        metric_tensors = {name: values[:rows] for name, values in tensors.items()}
        identity = [n for n in self.loss_terms if "logits" in self.loss_terms.loss(n).inputs]
        metric = [n for n in self.loss_terms if n not in identity]
        terms = self.loss_terms(tensors, identity)  # L_id, Eq. (18)
        terms.update(self.loss_terms(metric_tensors, metric))  # L_hc,tri + L_mc, Eq. (19)-(22)
        regional = self.regional_center(
            outputs["original_map"],
            labels["targets"],
            labels["modalities"],
            outputs["masked_map"],
            outputs.get("background_map"),
        )
        terms[self.regional_center.log_name] = self.regional_center_scale * regional  # Eq. (7)
        return terms

    def test_features(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Compute the features (B, D) of the view that ``test_view`` names, or the mean of both."""
        views = [images]
        if self.test_view != "original" or self.mask_tap.wanted:
            body = self.mask_tap(mask_of(images)) * images
            # The original image comes last, because a recording keeps the maps of the last pass.
            views = {"original": [images], "masked": [body], "mean": [body, images]}[self.test_view]
        features = [
            retrieval_features(
                self.heads, self.extract(self.normalize(view), modalities), modalities
            )
            for view in views
        ]
        return features[0] if len(features) == 1 else (features[0] + features[1]) / 2


def _labels_of_both_views(labels: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Repeat labels (B,) for the masked views: (2B,); each image and view has its own index."""
    both = {name: values.repeat(2) for name, values in labels.items()}
    if "index" in both:  # losses may pair by it, so original and masked images need two numbers
        both["index"] = torch.cat([2 * labels["index"], 2 * labels["index"] + 1])
    return both
