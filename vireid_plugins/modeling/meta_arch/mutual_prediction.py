"""Mutual prediction: fine-grained features, and classifiers that cross the modalities.

*Paper*: "Fine-grained cross-modality person re-identification based on mutual prediction
learning" (in Chinese; authors, venue and DOI are not in the source text).
*Idea*: a classifier for each modality learns what identifies a person in that modality. Then the
classifiers are frozen, and each must recognize the *other* modality's images, which makes the
network turn features that are specific to one modality into features that both share.
*Here*: ``MutualPrediction``; the features of Eq. (3)-(8) are ``heads/stripe_head.py``, L_ID and
L_tri of Eq. (9), (10) are the losses that the config names.
*Departs*:

- W_v and W_t take all D features. The text says 2048 inputs, but Eq. (11), (12) feed f^m (3584).
- The identity losses (Eq. 1, 9, 11, 12) divide the sum over *both* modalities by the n_b images
  of *one*: mean over the visible rows plus mean over the infrared rows. A batch that lacks a
  modality gets the mean over the other.
- Eq. (2), (10) print a minus sign before the triplet loss: it is dropped.
- L^{v-t} and L^{t-v} alternate, as the text says; Eq. (13) prints their sum, of which an epoch
  has one. The first alternating phase, epochs 20-24, is that of L^{v-t}.
- "Batch size 32" is n_b, images per modality: 8 identities x (4 + 4) = 64 rows.
- Section 4.5 calls beta = 1 reasonable right after choosing 0.4 and 4, which are taken.
- Not printed, and chosen: classifiers have a bias and start as in ``StripeHead``.

*Config*: ``configs/mutual_prediction``; ``MODEL.MUTUAL_PREDICTION``, ``MODEL.HEADS.NUM_STRIPES``,
``STRIPE_DIM``, ``MODEL.LOSSES.LABEL_SMOOTHING`` (of all identity losses).

B images, D features, N identities.
"""

from typing import Any, Callable, Dict

import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from ...errors import UserError
from ...keys import Key, at_least, check_values, declare
from ...modality import apply_per_modality
from ..layers import modality_classifiers
from ..losses import LabelSmoothingCrossEntropyLoss
from .base import DualStreamBaseline

declare(
    "MODEL.MUTUAL_PREDICTION",
    Key("ALPHA", 12.2, at_least(0), "weight of L^{v-t} (Eq. 13)"),
    Key("BETA", 0.4, at_least(0), "weight of L^{t-v} (Eq. 13)"),
    Key("START_EPOCH", 20, at_least(0), "first epoch, from 0, of L^{v-t} and L^{t-v}"),
    Key("PERIOD", 5, at_least(1), "epochs of each of the two alternating phases"),
    features=False,
)


SHARED, OWN, CROSSED = "shared", "own", "crossed"


@META_ARCH_REGISTRY.register()
class MutualPrediction(DualStreamBaseline):
    """The baseline with a classifier for each modality, trained and crossed alternately.

    Phases: ``"shared"``: L_ID + L_tri; ``"own"``: that and alpha L^{v-t}; ``"crossed"``: L_ID +
    L_tri + beta L^{t-v}, in which W_v and W_t get no gradient and so do not change.

    Args:
        num_classes: N.
        identity_loss: cross-entropy of the modality classifiers.
        alpha, beta: weights of L^{v-t} and of L^{t-v}, 0 or more.
        start_epoch: first epoch of the alternation, 0 or more.
        period: epochs of each of its phases, 1 or more.
        baseline: arguments of ``DualStreamBaseline``; the head has a ``feat_dim``.

    Raises:
        UserError: a number is out of its range, or the head has no ``feat_dim``.
    """

    config_nodes = ("MODEL.MUTUAL_PREDICTION", "MODEL.LOSSES.LABEL_SMOOTHING")
    phases = (SHARED, OWN, CROSSED)
    may_leave_parameters_unused = True  # W_v and W_t, except in the phase "own"
    training_only = ("visible_classifier", "infrared_classifier")
    own_weight_keys = {
        "loss_own_prediction": "MODEL.MUTUAL_PREDICTION.ALPHA",
        "loss_crossed_prediction": "MODEL.MUTUAL_PREDICTION.BETA",
    }

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        identity_loss: LabelSmoothingCrossEntropyLoss,
        alpha: float = 12.2,
        beta: float = 0.4,
        start_epoch: int = 20,
        period: int = 5,
        **baseline: Any,
    ) -> None:
        super().__init__(**baseline)
        check_values(
            "MODEL.MUTUAL_PREDICTION",
            ALPHA=alpha,
            BETA=beta,
            START_EPOCH=start_epoch,
            PERIOD=period,
        )
        feat_dim = getattr(self.heads, "feat_dim", None)
        if feat_dim is None:
            raise UserError(
                f"MutualPrediction sizes its classifiers by the head's feat_dim, which "
                f"{type(self.heads).__name__} does not have; set MODEL.HEADS.NAME StripeHead."
            )
        self.visible_classifier, self.infrared_classifier = modality_classifiers(
            feat_dim, num_classes
        )  # W_v, W_t
        self.identity_loss = identity_loss
        self.alpha, self.beta = alpha, beta
        self.start_epoch, self.period = start_epoch, period
        self.phase = self.phase_of(0)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.MUTUAL_PREDICTION`` and those of the baseline."""
        node = cfg.MODEL.MUTUAL_PREDICTION
        return {
            **super().from_config(cfg),
            "num_classes": cfg.MODEL.HEADS.NUM_CLASSES,
            "identity_loss": LabelSmoothingCrossEntropyLoss.from_config(cfg),
            "alpha": node.ALPHA,
            "beta": node.BETA,
            "start_epoch": node.START_EPOCH,
            "period": node.PERIOD,
        }

    def phase_of(self, epoch: int) -> str:
        """Return ``"shared"`` before ``start_epoch``; then ``"own"``, ``"crossed"``, ..."""
        if epoch < self.start_epoch:
            return SHARED
        turn = (epoch - self.start_epoch) // self.period
        return CROSSED if turn % 2 else OWN

    def losses(self, outputs: Dict[str, Tensor], batch: Dict[str, Any]) -> Dict[str, Tensor]:
        """Compute the terms of Eq. (13) that the phase has; their sum is L_full."""
        terms = super().losses(outputs, batch)  # L_ID + L_tri, Eq. (9), (10)
        tensors = {**outputs, **self.labels(batch)}
        if self.phase == OWN:
            terms["loss_own_prediction"] = self.alpha * self.own_prediction(tensors)
        elif self.phase == CROSSED:
            terms["loss_crossed_prediction"] = self.beta * self.crossed_prediction(tensors)
        elif self.phase != SHARED:
            raise UserError(f"phase is {self.phase!r}; expected one of {self.phases}.")
        return terms

    def own_prediction(self, tensors: Dict[str, Tensor]) -> Tensor:
        """Compute L^{v-t}, Eq. (11): W_v on visible, W_t on infrared rows; all of them learn."""
        return self._prediction(tensors, self.visible_classifier, self.infrared_classifier)

    def crossed_prediction(self, tensors: Dict[str, Tensor]) -> Tensor:
        """Compute L^{t-v}, Eq. (12): W_t on visible, W_v on infrared rows; only features learn."""
        return self._prediction(
            tensors,
            _standing_still(self.infrared_classifier),
            _standing_still(self.visible_classifier),
        )

    def _prediction(
        self,
        tensors: Dict[str, Tensor],
        of_visible: Callable[[Tensor], Tensor],
        of_infrared: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Compute the identity loss of classifiers (B, D) -> (B, N), each on one modality."""
        modalities = tensors["modalities"]
        logits = apply_per_modality((of_visible, of_infrared), tensors["features"], modalities)
        return self.identity_loss(logits, tensors["targets"], modalities)


def _standing_still(classifier: nn.Linear) -> Callable[[Tensor], Tensor]:
    """Return a function that applies the layer without training it.

    The parameters get no gradient at all, so the optimizer skips them: with a gradient of zero,
    momentum and weight decay would still move them.
    """
    weight, bias = classifier.weight.detach(), classifier.bias.detach()
    return lambda features: F.linear(features, weight, bias)
