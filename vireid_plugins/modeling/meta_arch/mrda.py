"""MRDA: mask reconstruction and dynamic attention.

*Paper*: K. Zhang, X. Fan, J. Li, G. Zhang, "Cross-Modal Person Re-Identification Based on Mask
Reconstruction with Dynamic Attention", Laser & Optoelectronics Progress, 2024, doi
10.3788/LOP231742 (in Chinese; no public code).
*Idea*: a second view of each image, in which bright pixels outweigh the background, goes through
the network together with the image, and a shallow layer must give similar maps for both. On the
last map, the queries of an attention come only from the few horizontal regions to which all others
attend most.
*Here*: ``mask_of`` (Eq. 1), ``masked_view`` (Eq. 3), ``MRDA`` (Eq. 2-8, 18-23); ``MRDAHead`` (Eq.
16, 17) and ``DynamicAttention`` (Eq. 9-15) in files of their own. Losses, all named in
``MODEL.LOSSES.NAME``: ``LabelSmoothingCrossEntropyLoss`` (18), ``HeteroCenterTripletLoss`` (19,
20), ``CorrelationConsistencyLoss`` (21, 22), ``RegionalCenterLoss`` (7). BAM, CBAM and IWPAM (Table
1): ``modeling/layers``.
*Departs*, or reads what the paper leaves open:

- Eq. 1: the norm runs over the channels and is divided by the root of their number, so that the
  mask is in 0..1 and Eq. 2 can hold; minimum and maximum are of one image, over channels and
  pixels; a constant image has the mask 1. The text does not say whether x is the image in 0..255 or
  the normalized one: ``MASK_INPUT``, by default in 0..255, where a masked pixel becomes black.
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
- Eq. 17: b is a constant of the dataset, 3 on SYSU-MM01 and 10 on RegDB (``GEM_EXPONENT``). LLCM is
  not in the paper: 3.
- Eq. 18, 21 run over both views (Eq. 5-8 leave both in f). Eq. 19 averages the M images of an
  identity, which may mean the originals alone: ``LOSS_VIEWS original`` restricts Eq. 19 and 21.
- Eq. 18: the classifier, and the test, see the feature after a batch norm (BNNeck). Eq. 20: a mean
  over the centers, where a sum is printed (``HETERO_CENTER.REDUCTION``); the anchor of each term
  is its own center. Eq. 21: Gram matrices of the identities' centers, as nothing pairs images.
- Not printed: image size, rho, xi, the epochs and the test feature (that of the original image).
  Of one printed rate, 0.1, pretrained layers get a tenth; momentum is Nesterov's, as in AGW.

*Config*: ``MODEL.MRDA``, ``MODEL.HEADS.ATTENTION``, ``MODEL.LOSSES.*``; ``configs/mrda``.

B images of H x W pixels. The two *views* of an image are here the image itself and its masked one;
views that the loader makes (``INPUT.NUM_VIEWS``) are rows of the batch like any others.
"""

from typing import Any, Dict, List, Tuple, Union

import torch
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import SWITCH, Key, between, check_values, declare, one_of
from ..backbones.dual_stream import STAGES, USE_STAGES
from ..heads import retrieval_features, training_outputs
from ..maps import Tap
from .base import DualStreamBaseline

declare(
    "MODEL.MRDA",
    Key("MASK", True, SWITCH, "train on a masked view of each image too (Eq. 1-6)"),
    Key("MASK_INPUT", "raw", one_of("raw", "normalized"), "x of Eq. 1-4; raw: in 0..255"),
    Key("CONSTRAINT_STAGE", 1, between(0, 4), "L_ac compares after this stage (Fig. 6); 0: stem"),
)
declare(
    "MODEL.MRDA",
    Key("LOSS_VIEWS", "both", one_of("both", "original"), "views of metric losses (Eq. 19, 21)"),
    # a choice of the evaluation, which its result names
    Key("TEST_VIEW", "original", one_of("original", "masked", "mean"), "test view; mean: of both"),
    features=False,
)

_SHALLOW_MAPS = ("original_map", "masked_map", "background_map")


@torch.no_grad()
def masked_view(images: Tensor) -> Tensor:
    """Return images (B, 3, H, W) times their masks, Eq. (3): the body regions."""
    return mask_of(images) * images


@torch.no_grad()
def mask_of(images: Tensor) -> Tensor:
    """Compute M+, Eq. (1), of images (B, 3, H, W): (B, 1, H, W) in 0..1, large where bright."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    spread = high - low
    scaled = (images - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
    mask = scaled.square().mean(dim=1, keepdim=True).sqrt()  # ||.||_2 / sqrt(3)
    return torch.where(spread > 0, mask, torch.ones_like(mask))


@META_ARCH_REGISTRY.register()
class MRDA(DualStreamBaseline):
    """The dual-stream network on images and their masked views.

    Args:
        mask: train on both views; False: on the images alone, as the baseline of Table 2.
        mask_input: images that the mask is computed from and multiplied with: ``"raw"``, in
            0..255, or ``"normalized"``.
        constraint_stage: number of the stage after which L_ac compares, 0..4.
        loss_views: rows of Eq. 19 and 21: ``"both"`` or ``"original"``.
        test_view: ``"original"``, ``"masked"``, or ``"mean"`` of both features.
        kwargs: arguments of ``DualStreamBaseline``.

    Raises:
        UserError: a word or number is out of range, the backbone has no stages to stop at, or the
            masked view is off and something needs it.
    """

    config_nodes = ("MODEL.MRDA",)

    @configurable
    def __init__(
        self,
        *,
        mask: bool = True,
        mask_input: str = "raw",
        constraint_stage: int = 1,
        loss_views: str = "both",
        test_view: str = "original",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_values(
            "MODEL.MRDA",
            MASK_INPUT=mask_input,
            LOSS_VIEWS=loss_views,
            TEST_VIEW=test_view,
            CONSTRAINT_STAGE=constraint_stage,
        )
        backbone = self.backbone
        if not hasattr(backbone, "forward_stages") or getattr(backbone, "passes_tokens", False):
            raise UserError(
                f"MRDA compares maps inside the backbone, so it needs stages: {USE_STAGES}."
            )
        self.mask, self.mask_input = mask, mask_input
        self.first_stages = STAGES[: constraint_stage + 1]
        self.last_stages = STAGES[constraint_stage + 1 :]
        self.loss_views, self.test_view = loss_views, test_view
        self.mask_tap = Tap("mask", "M+ of each image, (B, 1, H, W) in 0..1")
        self._check_mask_is_there()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.MRDA``."""
        node = cfg.MODEL.MRDA
        return {
            **super().from_config(cfg),
            "mask": node.MASK,
            "mask_input": node.MASK_INPUT,
            "constraint_stage": node.CONSTRAINT_STAGE,
            "loss_views": node.LOSS_VIEWS,
            "test_view": node.TEST_VIEW,
        }

    @classmethod
    def provided(cls, heads: nn.Module) -> Tuple[str, ...]:
        """Return the names of the tensors that losses may take; shallow maps are among them."""
        return (*super().provided(heads), *_SHALLOW_MAPS)

    def _check_mask_is_there(self) -> None:
        """Raise ``UserError`` if there is no masked view and a loss or the test needs it."""
        needed = [f"{n} of MODEL.LOSSES.NAME" for n in self.loss_terms if self._takes_maps(n)]
        if self.test_view != "original":
            needed.append(f"MODEL.MRDA.TEST_VIEW {self.test_view}")
        if needed and not self.mask:
            raise UserError(
                f"MODEL.MRDA.MASK is False, so there is no masked view, which {needed[0]} needs. "
                "Set MASK True; or leave RegionalCenterLoss (L_ac) out of MODEL.LOSSES.NAME and "
                "set TEST_VIEW original, as configs/mrda/ablation/baseline.yml does."
            )

    def _takes_maps(self, name: str) -> bool:
        return any(one in self.loss_terms.loss(name).inputs for one in _SHALLOW_MAPS)

    @property
    def test_feature(self) -> str:
        """Return the words of the head, and the view unless it is the original one."""
        views = {"original": "", "masked": "masked view", "mean": "mean of both views"}
        return ", ".join(filter(None, (super().test_feature, views[self.test_view])))

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Turn a batch into features (B, D), or in training into the loss terms of Eq. (23)."""
        modalities = self.modalities_of(batch)
        if not self.training:
            return self.test_features(batch["images"], modalities)
        if not self.mask:
            return super().forward(batch)
        regions = self.regions(batch["images"])
        shallow = self.backbone.forward_stages(  # Eq. (5), (6)
            torch.cat(regions), modalities.repeat(len(regions)), self.first_stages
        )
        # Only the original and the masked view are used from here on.
        rows, modalities = 2 * len(regions[0]), modalities.repeat(2)
        feature_map = self.backbone.forward_stages(  # Eq. (8)
            shallow[:rows], modalities, self.last_stages
        )
        targets = batch["targets"].to(self.device).repeat(2)
        outputs = training_outputs(self.heads, feature_map, targets, modalities)
        outputs.update(zip(_SHALLOW_MAPS, shallow.chunk(len(regions))))
        return self.objective(outputs, batch)

    def regions(self, images: Tensor) -> List[Tensor]:
        """Return normalized images (B, 3, H, W): whole, body region and, if wanted, background.

        The background is wanted if L_ac pushes it away.
        """
        x = self._mask_images(images)
        mask = self.mask_tap(mask_of(x))  # M+, Eq. (1)
        found = [x, mask * x]  # Eq. (3)
        if any("background_map" in self.loss_terms.loss(n).inputs for n in self.loss_terms):
            found.append((1 - mask) * x)  # Eq. (4), with M- of Eq. (2)
        return [self._network_images(one) for one in found]

    def _mask_images(self, images: Tensor) -> Tensor:
        """Return the images of Eq. (1) to (4): in 0..255, or normalized (``mask_input``)."""
        if self.mask_input == "normalized":
            return self.normalize(images)
        return images.to(self.device, self.pixel_mean.dtype)

    def _network_images(self, images: Tensor) -> Tensor:
        """Return what the network sees of images that :meth:`_mask_images` returned."""
        return images if self.mask_input == "normalized" else self.normalize(images)

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute L = L_id + L_hc,tri + L_mc + L_ac of Eq. (23), each times its ``SCALE``."""
        if not self.mask:
            return super().losses(outputs, batch)
        labels = self.labels(batch)
        rows = len(labels["targets"])
        of_both = {**outputs, **_labels_of_both_views(labels)}
        # ``LOSS_VIEWS`` is about metric losses; losses of logits see both views in any case.
        metric_rows = 2 * rows if self.loss_views == "both" else rows
        of_metric = {name: values[:metric_rows] for name, values in of_both.items()}
        terms: Dict[str, Tensor] = {}
        for name in self.loss_terms:
            tensors = of_metric  # L_hc,tri and L_mc, Eq. (19)-(22)
            if self._takes_maps(name):
                tensors = {**outputs, **labels}  # L_ac, Eq. (7): a row for each image
            elif "logits" in self.loss_terms.loss(name).inputs:
                tensors = of_both  # L_id, Eq. (18)
            terms.update(self.loss_terms(tensors, [name]))
        return terms

    def test_features(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Compute the features (B, D) of the view that ``test_view`` names, or the mean of both."""
        x = self._mask_images(images)
        seen = [x]
        if self.test_view != "original" or self.mask_tap.wanted:
            body = self.mask_tap(mask_of(x)) * x
            # The original image comes last, because a recording keeps the maps of the last pass.
            seen = {"original": [x], "masked": [body], "mean": [body, x]}[self.test_view]
        features = [
            retrieval_features(
                self.heads, self.extract(self._network_images(view), modalities), modalities
            )
            for view in seen
        ]
        return features[0] if len(features) == 1 else (features[0] + features[1]) / 2


def _labels_of_both_views(labels: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Repeat labels (B,) for the masked views: (2B,); each image and view has its own index."""
    both = {name: values.repeat(2) for name, values in labels.items()}
    if "index" in both:  # losses may pair by it, so original and masked images need two numbers
        both["index"] = torch.cat([2 * labels["index"], 2 * labels["index"] + 1])
    return both
