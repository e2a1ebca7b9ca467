"""RBNet: a reverse backbone learns key points, and masks the image for a second pass.

*Paper*: P. Yu, Y. Piao, "Reverse backbone net for unsupervised person re-identification", Journal
of Jilin University (Engineering and Technology Edition), 2024, 54 (11), from p. 3309, doi
10.13229/j.cnki.jdxbgxb.20240916 (in Chinese; no public code).
*Idea*: behind the network, a mirrored one turns its last map back into maps of 17 key points, which
a pose estimator teaches. One of its shallow maps becomes a mask; the image times the mask passes
the network again, which then looks at the whole body and not at the background.
*Here*: ``RBNet``; ``layers/reverse_backbone.py`` (Table 1). As students of ``MMT``
(``MODEL.MMT.STUDENT RBNet``): Eq. 5-11.
*Departs*, or decides what the paper leaves open:

- Table 1 gives re-conv1 an output of 256 x 128, Eq. 3 maps of 128 x 64: the error is computed at
  128 x 64, the size of conv1. It is a mean over all cells (Eq. 3: 1/N).
- "Depth-wise separable convolutions in 17 groups": a block is a bottleneck with a 3 x 3 convolution
  in 17 groups of ``GROUP_WIDTH`` channels. Each reverse layer has as many blocks as the layer.
- Fusing is adding, after a 1 x 1 convolution and a ReLU. In step 2 conv1 and layer1 are fused
  (``SKIPS``), because the text found that better than all; in step 3, only the mask goes back.
- The mask: the map that ``MASK_FROM`` names, 1 x 1 convolution to 17 parts, their sum, a sigmoid,
  bilinear to the size of the image. It begins at about 0.9 everywhere. Table 1 has re-layer1's
  output at 64 x 32 with 64 channels. "conv 1" of Table 2 is read as re-conv1.
- x M(x) of Eq. 1 is the normalized image times the mask: what is masked out becomes the mean color
  (``MASK_FORM residual``: x (1 + M(x))).
- Backbone 2 has the weights of backbone 1; with ``MMT``, it is the average of them, as in the text.
  Both passes share head and batch norm.
- Eq. 1: a hinge, and the hardest pairs (``MODEL.LOSSES.BATCH_HARD``). Eq. 2: with a minus sign; the
  labels of L_id2 are y, where f is printed.
- Eq. 4 prints L_stri, which the text defines for the adaptation only: here L_tri. Of the lambdas
  only lambda_3 is described: it makes lambda_3 L_MSE about as large as lambda_2 L_tri. It is the
  ratio of their running means, from 1 to 10,000, without a gradient, times ``KEYPOINT_SCALE``
  (``KEYPOINT_BALANCE fixed``: this scale alone). The others are 1.
- HRNet's heat maps of 64 rows (deviation 2) are Gaussians around the key points of a file, whose
  deviation is the same share of the height (``SIGMA``), times the confidence.
- The test is said to use backbone 2 only in Fig. 3: the feature of the masked image
  (``TEST_VIEW plain``: of the image). No test reads key points.
- Eq. 7 and 8: as in MMT, each student learns from the average of the other; the average sees
  x M(x), with the mask of its own student. Eq. 9-11: norms, and exp(d+) + exp(d-) below, which is
  MMT's softmax triplet loss, as a mean. It is computed on the features of the average, f(x M(x)),
  together with their cross-entropy (L_id2); as the average does not learn, both teach the mask.

*Config*: ``MODEL.RBNET``, ``INPUT.KEYPOINTS``, ``MODEL.LOSSES.*``; ``configs/rbnet``.

B images of H x W pixels.
"""

import copy
import math
from typing import Any, Dict, List, NamedTuple, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keypoints import heat_maps
from ...keys import Key, above, at_least, check_values, declare, one_of
from ..backbones.dual_stream import USE_STAGES
from ..heads import retrieval_features
from ..layers.reverse_backbone import FORWARD, PARTS, REVERSE, SKIPS, ReverseBackbone
from ..losses import LossTerms
from ..maps import Tap
from ..precision import at_least_float32, without_autocast
from .base import DualStreamBaseline

NONE = "none"
INSTEAD = "MODEL.RBNET.KEYPOINT_SCALE 0 with INPUT.KEYPOINTS.READ none trains without key points."
_START = 0.9  # of the mask
_RUNNING = 0.99  # of the means that lambda_3 is the ratio of
_RATIOS = (1.0, 1e4)  # least and greatest lambda_3

declare(
    "MODEL.RBNET",
    Key("MASK_FROM", "re_layer1", one_of(*REVERSE, NONE), "reverse map that is the mask (Table 2)"),
    Key("MASK_FORM", "product", one_of("product", "residual"), "x M(x), or x (1 + M(x))"),
    Key("SKIPS", "shallow", one_of(*SKIPS), "fused maps; shallow: conv1 and layer1"),
    Key("GROUP_WIDTH", 8, at_least(1), "channels of each of the 17 groups in a reverse block"),
)
declare(
    "MODEL.RBNET",
    Key("SIGMA", 2 / 64, above(0), "deviation of a heat map, as a share of the image's height"),
    Key("KEYPOINT_SCALE", 1.0, at_least(0), "weight of L_MSE (lambda_3); 0: no key points"),
    Key(
        "KEYPOINT_BALANCE",
        "running",
        one_of("running", "fixed"),
        "running: lambda_3 also follows the triplet loss; fixed: it is KEYPOINT_SCALE",
    ),
    Key("MASKED_ID_SCALE", 1.0, at_least(0), "weight of losses of logits, masked (lambda_4)"),
    Key("MASKED_METRIC_SCALE", 1.0, at_least(0), "weight of the other losses, masked (lambda_5)"),
    # a choice of the evaluation, which its result names
    Key("TEST_VIEW", "masked", one_of("masked", "plain"), "the tested feature: x M(x) or x"),
    features=False,
)


class Pass(NamedTuple):
    """What a pass over images gives."""

    images: Tensor  # (B, 3, H, W), normalized
    feature_map: Tensor  # (B, C, H', W')
    reverse: Dict[str, Tensor]  # outputs of the reverse backbone by name


@META_ARCH_REGISTRY.register()
class RBNet(DualStreamBaseline):
    """The baseline with a reverse backbone, and a second pass over masked images.

    Args:
        mask_from: the output of the reverse backbone that becomes the mask; ``"none"``: key points
            are learned, and nothing is masked.
        mask_form: ``"product"`` or ``"residual"``.
        skips: fused maps: ``"shallow"``, ``"all"`` or ``"none"``.
        group_width: channels of a group, 1 or more.
        sigma: deviation of the heat maps, as a share of the image's height, above 0.
        keypoint_scale: weight of L_MSE, 0 or more; 0: nothing is learned from key points.
        keypoint_balance: ``"running"`` or ``"fixed"``.
        masked_id_scale, masked_metric_scale: weights of the losses of the masked pass, 0 or more.
        test_view: ``"masked"`` or ``"plain"``.
        baseline: arguments of ``DualStreamBaseline``.

    Attributes:
        balance: (2,) running means of the metric losses and of L_MSE.

    Raises:
        UserError: a value is not allowed, the backbone has no stages, or nothing would be learned
            besides the baseline.
    """

    takes_clusters = True
    may_be_student = True
    without_keypoints = INSTEAD
    balance: Tensor

    @configurable
    def __init__(
        self,
        *,
        mask_from: str = "re_layer1",
        mask_form: str = "product",
        skips: str = "shallow",
        group_width: int = 8,
        sigma: float = 2 / 64,
        keypoint_scale: float = 1.0,
        keypoint_balance: str = "running",
        masked_id_scale: float = 1.0,
        masked_metric_scale: float = 1.0,
        test_view: str = "masked",
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_values(
            "MODEL.RBNET",
            MASK_FROM=mask_from,
            MASK_FORM=mask_form,
            SKIPS=skips,
            GROUP_WIDTH=group_width,
            SIGMA=sigma,
            KEYPOINT_SCALE=keypoint_scale,
            KEYPOINT_BALANCE=keypoint_balance,
            MASKED_ID_SCALE=masked_id_scale,
            MASKED_METRIC_SCALE=masked_metric_scale,
            TEST_VIEW=test_view,
        )
        self.mask_from = "" if mask_from == NONE else mask_from
        self.mask_form, self.sigma = mask_form, float(sigma)
        self.keypoint_scale, self.balances = float(keypoint_scale), keypoint_balance == "running"
        self.masked_id_scale = float(masked_id_scale)
        self.masked_metric_scale = float(masked_metric_scale)
        self.learns_keypoints = self.keypoint_scale > 0
        self.guides_average = bool(self.mask_from) and test_view == "masked"
        self._check()
        channels, blocks = _sizes_of(self.backbone)
        until = REVERSE[-1] if self.keypoint_scale else self.mask_from
        self.reverse = ReverseBackbone(channels, blocks, skips, group_width, until)
        if self.mask_from:
            self.parts = _part_masks(dict(zip(REVERSE, [*channels[-2::-1], PARTS])), mask_from)
            self.mask_tap = Tap("mask", "M(x) of each image, (B, 1, H, W) in 0..1")
        self.keypoint_tap = Tap("keypoints", "maps of the 17 key points, (B, 17, H', W')")
        unused = self.reverse.only_after(self.mask_from if self.guides_average else "")
        self.training_only = tuple(f"reverse.{name}" for name in unused)
        if self.mask_from and not self.guides_average:
            self.training_only = (*self.training_only, "parts")
        self.register_buffer("balance", torch.zeros(2))
        self._last_sizes = torch.zeros(2)  # of the step in progress

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.RBNET`` and those of the baseline."""
        own = {name.lower(): value for name, value in cfg.MODEL.RBNET.items()}
        return {**super().from_config(cfg), **own}

    def _check(self) -> None:
        if not hasattr(self.backbone, "all_maps"):
            raise UserError(
                "RBNet mirrors the stages of a convolutional network, which this backbone does not "
                f"have: {USE_STAGES}."
            )
        if not self.mask_from and not self.keypoint_scale:
            raise UserError(
                "MODEL.RBNET.MASK_FROM is none and KEYPOINT_SCALE is 0: the reverse backbone has "
                "nothing to do. Set one of them, or MODEL.META_ARCHITECTURE DualStreamBaseline."
            )

    @property
    def test_feature(self) -> str:
        """Return the words of the head, and whether the image is masked."""
        words = super().test_feature
        return ", ".join(filter(None, (words, "masked image"))) if self.guides_average else words

    @property
    def own_weight_keys(self) -> Dict[str, str]:  # type: ignore[override]  # it depends on losses
        """Return the config key of the weight of each term of its own, by log name."""
        return self.weight_keys_for(self.loss_terms)

    def weight_keys_for(self, losses: LossTerms) -> Dict[str, str]:
        """Return the config key of the weight of each term that :meth:`terms` adds."""
        found = {"loss_keypoints": "MODEL.RBNET.KEYPOINT_SCALE"} if self.keypoint_scale else {}
        for name in losses if self.mask_from else ():
            kind = "ID" if "logits" in losses.loss(name).inputs else "METRIC"
            found[_masked(losses.loss(name).log_name)] = f"MODEL.RBNET.MASKED_{kind}_SCALE"
        return found

    # ---------------------------------------------------------------------------- the passes

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Turn a batch into features (B, D), or in training into the loss terms of Eq. (4)."""
        modalities = self.modalities_of(batch)
        if not self.training:
            return self.average_features(self, batch)
        outputs, images = self.student_pass(batch)
        if self.mask_from:
            second = self.head_outputs(self.extract(images, modalities), batch)
            outputs.update({_masked(name): value for name, value in second.items()})
        return self.objective(outputs, batch)

    def student_pass(self, batch: Dict[str, Any]) -> Tuple[Dict[str, Tensor], Tensor]:
        """Return the outputs of the first pass and the masked images (B, 3, H, W), x M(x).

        Besides those of the head there is ``keypoint_errors`` (B,), the mean square of each image.
        """
        seen = self.look(batch)
        outputs = self.head_outputs(seen.feature_map, batch)
        if self.keypoint_scale:
            outputs["keypoint_errors"] = self.keypoint_errors(batch, seen)
        return outputs, self.masked(seen) if self.mask_from else seen.images

    def look(self, batch: Dict[str, Any], until: str = "") -> Pass:
        """Pass images through the network, and its maps through the reverse backbone."""
        images = self.normalize(batch["images"])
        maps = dict(zip(FORWARD, self.backbone.all_maps(images, self.modalities_of(batch))))
        return Pass(images, self.map_tap(maps["layer4"]), self.reverse(maps, until))

    def masked(self, seen: Pass) -> Tensor:
        """Return x M(x), (B, 3, H, W)."""
        parts = self.parts(seen.reverse[self.mask_from])
        mask = torch.sigmoid(parts.sum(dim=1, keepdim=True))
        mask = F.interpolate(mask, size=_size_of(seen.images), mode="bilinear", align_corners=False)
        mask = self.mask_tap(mask.to(seen.images.dtype))
        return seen.images * (mask if self.mask_form == "product" else 1 + mask)

    def keypoint_errors(self, batch: Dict[str, Any], seen: Pass) -> Tensor:
        """Compute L_MSE of each image, (B,), Eq. (3).

        Raises:
            UserError: the batch has no key points.
        """
        if "keypoints" not in batch:
            raise UserError(
                "RBNet learns key points, and this batch has none: set INPUT.KEYPOINTS.READ train; "
                f"INPUT.KEYPOINTS.FILE names their file, which `vireid pose` makes. {INSTEAD}"
            )
        maps = self.keypoint_tap(at_least_float32(seen.reverse[REVERSE[-1]]))
        size, wanted = _size_of(seen.images), _size_of(maps)
        points = batch["keypoints"].to(maps)
        targets = heat_maps(points, size, wanted, self.sigma * wanted[0])
        with without_autocast(maps):
            return (maps - targets).square().mean(dim=(1, 2, 3))

    def average_features(self, average: DualStreamBaseline, batch: Dict[str, Any]) -> Tensor:
        """Return features (B, D) by ``average`` of images that this network masks; in evaluation.

        With itself for ``average`` this is its own test.
        """
        modalities = self.modalities_of(batch)
        if not self.guides_average:
            images = self.normalize(batch["images"])
            if self._wants_maps:
                self.masked_in_test(batch)
        else:
            images = self.masked_in_test(batch)
        return retrieval_features(average.heads, average.extract(images, modalities), modalities)

    def masked_in_test(self, batch: Dict[str, Any]) -> Tensor:
        """Return the masked images of a test; the reverse backbone goes no further than it must."""
        wants = self.keypoint_tap.wanted and REVERSE[-1] in self.reverse.names
        seen = self.look(batch, "" if wants else self.mask_from)
        if wants:
            self.keypoint_tap(seen.reverse[REVERSE[-1]])
        return self.masked(seen) if self.mask_from else seen.images

    @property
    def _wants_maps(self) -> bool:
        return self.keypoint_tap.wanted or bool(self.mask_from and self.mask_tap.wanted)

    # ---------------------------------------------------------------------------- the losses

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of Eq. (4)."""
        second = {
            name[len("masked_") :]: value
            for name, value in outputs.items()
            if name.startswith("masked_")
        }
        return self.terms(self.loss_terms, outputs, second, self.labels(batch))

    def terms(
        self,
        losses: LossTerms,
        outputs: Dict[str, Tensor],
        second: Dict[str, Tensor],
        labels: Dict[str, Tensor],
    ) -> Dict[str, Tensor]:
        """Compute the weighted terms of both passes, and that of the key points.

        Args:
            losses: L_id and L_tri, with lambda_1 and lambda_2.
            outputs: of the first pass, see :meth:`student_pass`.
            second: of the head, for the masked images.
            labels: (B,) each, by name.
        """
        terms = losses({**outputs, **labels})
        by_logits = {name: "logits" in losses.loss(name).inputs for name in losses}
        metric = sum(
            terms[losses.loss(n).log_name] for n, logits in by_logits.items() if not logits
        )
        if "keypoint_errors" in outputs:
            error = outputs["keypoint_errors"].mean()
            terms["loss_keypoints"] = self.keypoint_weight(metric, error) * error
        for name, logits in by_logits.items() if self.mask_from else ():
            loss = losses.loss(name)
            value = loss(*({**second, **labels}[key] for key in loss.inputs))
            scale = self.masked_id_scale if logits else self.masked_metric_scale
            terms[_masked(loss.log_name)] = scale * value
        return terms

    def keypoint_weight(self, metric: Union[Tensor, int], error: Tensor) -> Union[Tensor, float]:
        """Return lambda_3, without a gradient, and note both sizes for the running means.

        Args:
            metric: lambda_2 L_tri of this step; 0: there is no metric loss, and no balance.
            error: L_MSE of this step.
        """
        if not self.balances or not isinstance(metric, Tensor):
            return self.keypoint_scale
        sizes = torch.stack([metric.detach().float(), error.detach().float()])
        self._last_sizes = self._mean_with(sizes)
        return self.keypoint_scale * self._ratio(self._last_sizes)

    def _mean_with(self, sizes: Tensor) -> Tensor:
        """Return the running means after a step with ``sizes``; the first one begins them."""
        balance = self.balance.to(sizes)
        return torch.where(balance[1] > 0, _RUNNING * balance + (1 - _RUNNING) * sizes, sizes)

    @staticmethod
    def _ratio(sizes: Tensor) -> Tensor:
        return (sizes[0] / sizes[1].clamp(min=1e-12)).clamp(*_RATIOS)

    def after_step(self) -> None:
        """Keep the running means of the step."""
        super().after_step()
        if self.balances and self.keypoint_scale:
            self.balance.copy_(self._last_sizes)

    def measures(self) -> Dict[str, Tensor]:
        """Return lambda_3, if it follows the triplet loss."""
        if not (self.balances and self.keypoint_scale):
            return {}
        return {"keypoint_weight": self.keypoint_scale * self._ratio(self.balance)}

    # ------------------------------------------------------------------- as a student of MMT

    def averaged(self) -> DualStreamBaseline:
        """Return backbone 2 of the adaptation: a network of its own, without a reverse backbone."""
        mean, deviation = (one.flatten().tolist() for one in (self.pixel_mean, self.pixel_std))
        return DualStreamBaseline(
            backbone=copy.deepcopy(self.backbone),
            heads=copy.deepcopy(self.heads),
            loss_terms=LossTerms({}, {}),
            pixel_mean=mean,
            pixel_std=deviation,
        )


def _masked(name: str) -> str:
    """Return the name of an output or of a loss term in the masked pass."""
    return name.replace("loss_", "loss_masked_", 1) if "loss_" in name else f"masked_{name}"


def _size_of(maps: Tensor) -> Tuple[int, int]:
    return int(maps.shape[2]), int(maps.shape[3])


def _sizes_of(backbone: Any) -> Tuple[List[int], List[int]]:
    """Return the channels of the five maps, and the numbers of blocks of the four layers."""
    stages = list(backbone.network.stages.values())
    return [one.channels for one in stages], [max(1, len(one.blocks)) for one in stages[1:]]


def _part_masks(channels: Dict[str, int], source: str) -> nn.Conv2d:
    """Return the convolution to 17 parts, whose sum begins near the logit of ``_START``."""
    parts = nn.Conv2d(channels[source], PARTS, 1)
    nn.init.normal_(parts.weight, std=0.01 / math.sqrt(PARTS))
    nn.init.constant_(_bias_of(parts), math.log(_START / (1 - _START)) / PARTS)
    return parts


def _bias_of(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
