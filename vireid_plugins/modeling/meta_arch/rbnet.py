"""RBNet: a reverse backbone learns key points, and masks the image for a second pass.

*Paper*: P. Yu, Y. Piao, "Reverse backbone net for unsupervised person re-identification", Journal
of Jilin University (Engineering and Technology Edition), 2024, 54 (11), from p. 3309, doi
10.13229/j.cnki.jdxbgxb.20240916 (in Chinese; no public code).
*Idea*: behind the network, a mirrored one turns its last map back into maps of 17 key points, which
a pose estimator teaches. One of its shallow maps becomes a mask; the image times the mask passes
the network again, which then looks at the whole body and not at the background.
*Here*: ``RBNet``; ``layers/reverse_backbone.py`` (Table 1), ``layers/part_mask.py``; the terms that
are its own: ``losses/keypoint_maps.py`` (Eq. 3), ``losses/masked_pass.py`` (L_id2, L_tri2). As
students of ``MMT`` (``MODEL.MMT.STUDENT RBNet``): Eq. 5-11.
*Departs*, or decides what the paper leaves open, besides what those four files say:

- In step 2 conv1 and layer1 are fused (``SKIPS``), because the text found that better than all; in
  step 3, only the mask goes back.
- Table 1 has re-layer1's output at 64 x 32 with 64 channels. "conv 1" of Table 2 is read as
  re-conv1.
- Backbone 2 has the weights of backbone 1; with ``MMT``, it is the average of them, as in the text.
  Both passes share head and batch norm.
- Eq. 1: a hinge, and the hardest pairs (``MODEL.LOSSES.BATCH_HARD``). Eq. 2: with a minus sign.
- Eq. 4 prints L_stri, which the text defines for the adaptation only: here L_tri. lambda_1 and
  lambda_2 are 1.
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
from typing import Any, Dict, NamedTuple, Tuple, Union

from torch import Tensor

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import Key, check_values, declare, one_of
from ..backbones.dual_stream import USE_STAGES
from ..heads import retrieval_features
from ..layers.part_mask import PartMask
from ..layers.reverse_backbone import FORWARD, PARTS, REVERSE, ReverseBackbone, stage_sizes
from ..losses import LossTerms
from ..losses.keypoint_maps import KeypointLoss
from ..losses.masked_pass import MaskedPass, marked, metric_sum, unmarked
from ..maps import Tap
from .base import DualStreamBaseline

NONE = "none"
INSTEAD = "MODEL.RBNET.KEYPOINT_SCALE 0 with INPUT.KEYPOINTS.READ none trains without key points."

declare(
    "MODEL.RBNET",
    Key("MASK_FROM", "re_layer1", one_of(*REVERSE, NONE), "reverse map that is the mask (Table 2)"),
)
# A choice of the evaluation, which its result names.
declare(
    "MODEL.RBNET",
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

    Raises:
        UserError: a value is not allowed, the backbone has no stages, or nothing would be learned
            besides the baseline.
    """

    config_nodes = ("MODEL.RBNET",)
    takes_clusters = True
    may_be_student = True
    without_keypoints = INSTEAD

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
        check_values("MODEL.RBNET", MASK_FROM=mask_from, TEST_VIEW=test_view)
        self.mask_from = "" if mask_from == NONE else mask_from
        self.learns_keypoints = keypoint_scale > 0
        self.masked_pass = MaskedPass(masked_id_scale, masked_metric_scale)
        self.guides_average = bool(self.mask_from) and test_view == "masked"
        self._check()
        channels, blocks = stage_sizes(self.backbone)
        until = REVERSE[-1] if self.learns_keypoints else self.mask_from
        self.reverse = ReverseBackbone(channels, blocks, skips, group_width, until)
        if self.mask_from:
            given = dict(zip(REVERSE, [*channels[-2::-1], PARTS]))
            self.part_mask = PartMask(given[mask_from], mask_form)
        self.keypoint_tap = Tap("keypoints", "maps of the 17 key points, (B, 17, H', W')")
        self.keypoint_loss = KeypointLoss(sigma, keypoint_scale, keypoint_balance)
        self.training_only = self._training_only()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.RBNET`` and those of the baseline."""
        own = {name.lower(): value for name, value in cfg.MODEL.RBNET.items()}
        return {**super().from_config(cfg), **own}

    def _training_only(self) -> Tuple[str, ...]:
        unused = self.reverse.only_after(self.mask_from if self.guides_average else "")
        mask = ("part_mask",) if self.mask_from and not self.guides_average else ()
        return (*(f"reverse.{name}" for name in unused), *mask, "keypoint_loss")

    def _check(self) -> None:
        if not hasattr(self.backbone, "all_maps"):
            raise UserError(
                "RBNet mirrors the stages of a convolutional network, which this backbone does not "
                f"have: {USE_STAGES}."
            )
        if not self.mask_from and not self.learns_keypoints:
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
        found = {"loss_keypoints": "MODEL.RBNET.KEYPOINT_SCALE"} if self.learns_keypoints else {}
        return {**found, **(self.masked_pass.weight_keys(losses) if self.mask_from else {})}

    # ---------------------------------------------------------------------------- the passes

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Turn a batch into features (B, D), or in training into the loss terms of Eq. (4)."""
        modalities = self.modalities_of(batch)
        if not self.training:
            return self.average_features(self, batch)
        outputs, images = self.student_pass(batch)
        if self.mask_from:
            second = self.head_outputs(self.extract(images, modalities), batch)
            outputs.update(marked(second))
        return self.objective(outputs, batch)

    def student_pass(self, batch: Dict[str, Any]) -> Tuple[Dict[str, Tensor], Tensor]:
        """Return the outputs of the first pass and the masked images (B, 3, H, W), x M(x).

        Besides those of the head there is ``keypoint_errors`` (B,), the mean square of each image.
        """
        seen = self.look(batch)
        outputs = self.head_outputs(seen.feature_map, batch)
        if self.learns_keypoints:
            outputs["keypoint_errors"] = self.keypoint_errors(batch, seen)
        return outputs, self.masked(seen) if self.mask_from else seen.images

    def look(self, batch: Dict[str, Any], until: str = "") -> Pass:
        """Pass images through the network, and its maps through the reverse backbone."""
        images = self.normalize(batch["images"])
        maps = dict(zip(FORWARD, self.backbone.all_maps(images, self.modalities_of(batch))))
        return Pass(images, self.map_tap(maps["layer4"]), self.reverse(maps, until))

    def masked(self, seen: Pass) -> Tensor:
        """Return x M(x), (B, 3, H, W)."""
        images: Tensor = self.part_mask(seen.images, seen.reverse[self.mask_from])
        return images

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
        maps = self.keypoint_tap(seen.reverse[REVERSE[-1]])
        return self.keypoint_loss.errors(maps, batch["keypoints"], seen.images)

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
        return self.keypoint_tap.wanted or bool(self.mask_from and self.part_mask.tap.wanted)

    # ---------------------------------------------------------------------------- the losses

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of Eq. (4)."""
        return self.terms(self.loss_terms, outputs, unmarked(outputs), self.labels(batch))

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
        if "keypoint_errors" in outputs:
            metric, error = metric_sum(losses, terms), outputs["keypoint_errors"].mean()
            terms["loss_keypoints"] = self.keypoint_loss(metric, error)
        masked = self.masked_pass.terms(losses, second, labels) if self.mask_from else {}
        return {**terms, **masked}

    def after_step(self) -> None:
        """Keep the running means of the step."""
        super().after_step()
        self.keypoint_loss.after_step()

    def measures(self) -> Dict[str, Tensor]:
        """Return lambda_3, if it follows the triplet loss."""
        return self.keypoint_loss.measures()

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
