"""CMTR: a vision transformer that is told the modality, and losses that take it away again.

A reconstruction.

*Paper*: T. Liang, Y. Jin, Y. Gao, W. Liu, S. Feng, T. Wang, Y. Li, "CMTR: Cross-Modality
Transformer for Visible-Infrared Person Re-Identification", arXiv 2110.08994, 2021; its journal
version is "Cross-Modality Transformer with Modality Mining for Visible-Infrared Person
Re-Identification", IEEE Transactions on Multimedia. No public code was found.
*Idea*: each modality has a learned embedding, which is added to the tokens of its images beside
the positions. What a mapping makes of this embedding is subtracted from the features; two losses
on the rest make the embedding hold what is special to its modality, and the features what is not.
*Here*: ``CMTR``. ``backbones/dual_stream_vit.py``: overlapping patches, and I(x) = LP(patches) +
e^pos + e^m. ``layers/modality_removal.py``: f - phi_m(e^m). ``losses/modality_aware.py``: L_MAC,
L_MAID. L_ID, L_WRT and these two are named in ``MODEL.LOSSES.NAME``.
*Known*, from detailed notes on the paper: overlapping patches of P x P pixels with tokens of
P^2 C numbers (768 for P = 16, the width of ViT-B/16), the class token, the input embedding,
f = BN(V), the formulas of L_MAE = L_MAC + L_MAID and of the sum. The equations have no numbers in
the notes and are called by their left sides. *Not known*: lambda, phi, D(., .), whether FC_id is
the classifier of L_ID, image size, sizes of patches and steps, the network and its start,
optimizer, rates, epochs, batch, augmentation, and all results.
*Departs*, or decides what is not known:

- f_c, the center of L_MAC, is printed with the modality m. Then no term couples the modalities,
  while the text says that L_MAC narrows the gap between them; and phi_m(e^m), the same in all
  rows, would cancel. Here a center is the mean of all 2K images of an identity;
  ``MODALITY_AWARE_CENTER.CENTER per_modality`` is the printed one.
- phi_m is a matrix for each modality without activation; at the start its weights are small (0.02),
  so that f - phi_m(e^m) is nearly f. It has no bias: with one, the bias alone could hold what is
  removed, and the embedding would learn nothing from it. ``PHI`` has other forms.
- D is the Euclidean distance. log(1 + exp D) is log 2 at the least, so L_MAC never falls below
  0.693 times its weight, which the log says at the start.
- L_MAC and L_MAID are means over the images where sums are printed: lambda does not depend on the
  batch. lambda is 1 (``LAMBDA``); each term has a weight of its own besides.
- FC_id has weights of its own and no bias; ``MODALITY_AWARE_ID.SHARED`` takes those of the head.
- e^m is added to the tokens of patches, as printed; whether the class token gets it is not said
  (``MODEL.BACKBONE.MODALITY_EMBEDDING all``). Both modalities share all weights of the network,
  as LP has no m, and the statistics of the batch norm.
- L_WRT sees V, the class token before batch norm, as in AGW. L_ID is a plain cross-entropy.
- The test uses f, as the text says, from which no modality is removed; ``TEST_REMOVED`` tests
  f - phi_m(e^m).
- Not known, and taken from PMT's public code: ViT-B/16 with ImageNet weights, 256 x 128, steps of
  12, dropout, drop-path, AdamW and its rates, 24 epochs (RegDB 36).

*Config*: ``MODEL.CMTR``, ``MODEL.LOSSES.MODALITY_AWARE_{CENTER,ID}``; ``configs/cmtr``.

B images, D features, N identities.
"""

import logging
import math
from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from torch import Tensor

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, check_values, declare, one_of
from ..heads.build import output_names
from ..layers.modality_removal import MAPPINGS, ModalityRemoval, sizes
from ..losses import ModalityAwareCenterLoss, ModalityAwareIdentityLoss
from ..precision import at_least_float32
from .base import DualStreamBaseline

NONE = "none"

declare(
    "MODEL.CMTR",
    Key(
        "PHI", "linear", one_of(*MAPPINGS, NONE), "form of phi_m: W e, W e + b, e; none: no removal"
    ),
    Key("LAMBDA", 1.0, at_least(0), "weight of L_MAE, on top of those of L_MAC and L_MAID"),
    # a choice of the evaluation, which its result names
    Key("TEST_REMOVED", False, SWITCH, "test f - phi_m(e^m); False: f, as in the paper"),
    features=False,
)

CENTER, IDENTITY = ModalityAwareCenterLoss.__name__, ModalityAwareIdentityLoss.__name__
MODALITY_AWARE = (CENTER, IDENTITY)
_NAMES = "MODEL.LOSSES.NAME"

logger = logging.getLogger(__name__)


@META_ARCH_REGISTRY.register()
class CMTR(DualStreamBaseline):
    """The baseline, whose modality-aware losses see features without their modality.

    Args:
        phi: form of phi_m: ``"linear"``, ``"affine"``, ``"identity"`` or ``"none"``.
        lambda_mae: lambda, 0 or more.
        test_removed: test features without their modality, too.
        baseline: arguments of ``DualStreamBaseline``. The backbone has a ``modality_embedding``,
            unless ``phi`` is ``"none"``; the head is a ``BNNeckHead``; ``loss_terms`` has
            ``ModalityAwareCenterLoss`` or ``ModalityAwareIdentityLoss``, or both.

    Raises:
        UserError: a value is not allowed, or one of these parts is missing.
    """

    config_nodes = ("MODEL.CMTR",)
    training_only: Tuple[str, ...] = ("removal",)

    @configurable
    def __init__(
        self,
        *,
        phi: str = "linear",
        lambda_mae: float = 1.0,
        test_removed: bool = False,
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_values("MODEL.CMTR", PHI=phi, LAMBDA=lambda_mae)
        self.lambda_mae, self.test_removed = float(lambda_mae), test_removed
        self.modality_aware = [name for name in MODALITY_AWARE if name in self.loss_terms]
        self._check_losses()
        self.removal: Optional[ModalityRemoval] = None
        if phi != NONE:
            embeddings = self.embeddings
            feat_dim = int(self.heads.weight.shape[1])
            self.removal = ModalityRemoval(phi, embeddings.shape[1], feat_dim)
        if test_removed:
            self._check_test()
            self.training_only = ()
        if CENTER in self.modality_aware:
            self._log_least()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.CMTR`` and those of the baseline."""
        node = cfg.MODEL.CMTR
        return {
            **super().from_config(cfg),
            "phi": node.PHI,
            "lambda_mae": node.LAMBDA,
            "test_removed": node.TEST_REMOVED,
        }

    @property
    def embeddings(self) -> Tensor:
        """Return e^vis and e^ir, (2, E), as the backbone adds them to its tokens.

        Raises:
            UserError: the backbone has none.
        """
        embeddings = getattr(self.backbone, "modality_embedding", None)
        if embeddings is None:
            raise UserError(
                "CMTR removes what it learned of a modality, and this backbone has no modality "
                "embedding. Set MODEL.BACKBONE.NAME build_dual_stream_timm_backbone with a ViT and "
                "MODEL.BACKBONE.MODALITY_EMBEDDING patches; or MODEL.CMTR.PHI none, which removes "
                "nothing."
            )
        return getattr(self.backbone, "modality_scale", 1.0) * embeddings

    @property
    def test_feature(self) -> str:
        """Return in words what the test features are."""
        words = super().test_feature
        return f"{words}, modality removed" if self.test_removed else words

    def measures(self) -> Dict[str, Tensor]:
        """Return the lengths of what is removed from each modality, and of the difference.

        Where the difference is small beside the features (a feature of D numbers after batch norm
        has a length of about the root of D), both modalities lose the same.
        """
        if self.removal is None:
            return {}
        with torch.no_grad():
            found = sizes(self.removal, self.embeddings)
        return dict(zip(("removed_visible", "removed_infrared", "removed_difference"), found))

    def forward(self, batch: Dict[str, Any]) -> Union[Tensor, Dict[str, Tensor]]:
        """Return features (B, D): f, or without their modality; in training the loss terms."""
        found = super().forward(batch)
        if self.training or not self.test_removed:
            return found
        assert isinstance(found, Tensor)
        return self.without_modality(found, self.modalities_of(batch))

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of L_overall = L_ID + L_WRT + lambda L_MAE."""
        tensors = {**outputs, **self.labels(batch)}
        others: List[str] = [name for name in self.loss_terms if name not in MODALITY_AWARE]
        terms = self.loss_terms(tensors, others)  # L_ID + L_WRT
        own = self.loss_terms(self.removed(tensors), self.modality_aware)  # L_MAE, in two terms
        terms.update({name: self.lambda_mae * term for name, term in own.items()})
        return terms

    def removed(self, tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Return the tensors with f - phi_m(e^m), f after batch norm, in the place of features.

        The logits are then those of the head for it, if a loss asks for them.
        """
        features = self.without_modality(tensors["bn_features"], tensors["modalities"])
        found = {**tensors, "features": features}
        if self._shares_classifier:
            found["logits"] = self.heads.classify(features, tensors["targets"])
        return found

    def without_modality(self, features: Tensor, modalities: Tensor) -> Tensor:
        """Return f - phi_m(e^m), (B, D), in float32 or better; f if nothing is removed."""
        features = at_least_float32(features)
        if self.removal is None:
            return features
        return self.removal(features, self.embeddings, modalities)

    @property
    def _shares_classifier(self) -> bool:
        if IDENTITY not in self.modality_aware:
            return False
        return "logits" in self.loss_terms.loss(IDENTITY).inputs

    def _check_losses(self) -> None:
        if not self.modality_aware:
            raise UserError(
                f"{_NAMES} names none of {' and '.join(MODALITY_AWARE)}, CMTR's own losses. Name "
                "at least one of them, or set MODEL.META_ARCHITECTURE DualStreamBaseline."
            )
        if "bn_features" not in output_names(self.heads):
            raise UserError(
                "CMTR's losses take the feature after the BNNeck, which "
                f"{type(self.heads).__name__} does not give; set MODEL.HEADS.NAME BNNeckHead."
            )
        if self._shares_classifier and not hasattr(self.heads, "classify"):
            raise UserError(
                "MODEL.LOSSES.MODALITY_AWARE_ID.SHARED is True, and the classifier of "
                f"{type(self.heads).__name__} cannot be shared; set MODEL.HEADS.NAME BNNeckHead, "
                "or SHARED False."
            )

    def _check_test(self) -> None:
        if self.removal is None:
            raise UserError(
                "MODEL.CMTR.TEST_REMOVED is True, and MODEL.CMTR.PHI none removes nothing. Set "
                "TEST_REMOVED False, or PHI linear."
            )
        if getattr(self.heads, "evaluated", "bn") != "bn":
            raise UserError(
                f"MODEL.CMTR.TEST_REMOVED is True, and TEST.FEATURE is {self.heads.evaluated!r}. "
                "The modality is removed from the feature after batch norm: set TEST.FEATURE bn."
            )

    def _log_least(self) -> None:
        scale = self.lambda_mae * self.loss_terms.scales[CENTER]
        logger.info(
            "%s is log(1 + exp D): it cannot fall below %.3f, log 2 times its weight.",
            *(ModalityAwareCenterLoss.log_name, math.log(2) * scale),
        )
