"""The BNNeck head: pooling, batch norm without a moving bias, a bias-free classifier.

Luo et al., Bag of Tricks, CVPRW 2019; pooling of AGW (Ye et al., TPAMI 2021). It is FastReID's
``EmbeddingHead`` with outputs under this package's names. B images, C channels, D features, N
identities.
"""

from typing import Any, Dict, Optional, Tuple, Union

import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.layers.pooling import GeneralizedMeanPooling
from fastreid.layers.weight_init import weights_init_kaiming
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead

from ...errors import UserError
from ...keys import Key, above, at_least, check_values, declare, one_of
from ..layers import MeanFloorPooling
from ..maps import class_scores_tap
from .evaluated import CHOICES, ONE_FEATURE, check_choice, evaluated_feature, feature_words

GEM_EPS = ("activation", "mean")
_HOST_EXPONENT = 3.0  # of FastReID's generalized-mean pooling

declare(
    "MODEL.HEADS",
    Key(
        "CLASSIFIER_STD",
        0.01,
        above(0),
        "BNNeckHead: deviation of the classifier's initial weights (AGW's code: 0.001)",
        features=False,
    ),
    Key(
        "NECK_STD",
        0.0,
        at_least(0),
        "BNNeckHead: deviation, around 1, of the batch norm's initial weights (AGW's code: 0.01)",
        features=False,
    ),
    Key(
        "GEM_EPS",
        "activation",
        one_of(*GEM_EPS),
        "BNNeckHead, generalized-mean pooling: activations are at least 1e-6, or 1e-12 is added "
        "to the mean of their powers (AGW's code)",
    ),
    Key(
        "GEM_EXPONENT",
        3.0,
        above(0),
        "BNNeckHead and HCTHead, generalized-mean pooling: exponent; the initial one if learned",
    ),
)


@REID_HEADS_REGISTRY.register()
class BNNeckHead(EmbeddingHead):
    """Pool (``MODEL.HEADS.POOL_LAYER``), normalize, classify.

    ``GlobalAvgPool``, ``GlobalMaxPool``, ``GeneralizedMeanPooling`` (fixed exponent) and
    ``GeneralizedMeanPoolingP`` (learned exponent) are FastReID's. ``MODEL.HEADS.NECK_FEAT`` chooses
    the feature that metric losses see: ``"before"`` or ``"after"`` batch norm.

    Args:
        classifier_std: standard deviation of the initial weights of the classifier, around 0.
        neck_std: that of the initial weights of the batch norm, around 1.
        evaluated: the feature for evaluation, see ``evaluated.py``: ``"bn"``, ``"pooled"`` or
            ``"both"``.
        gem_eps: what keeps generalized-mean pooling above 0: ``"activation"``: each activation is
            at least 1e-6, as in FastReID; ``"mean"``: 1e-12 is added to the mean of the powers, as
            in the public code of AGW. Other kinds of pooling ignore it.
        gem_exponent: of generalized-mean pooling; where it is learned, the initial one.
        kwargs: arguments of ``EmbeddingHead``.

    Raises:
        UserError: a number or word is not allowed; an exponent other than 3 is given, and the
            pooling has none; or ``evaluated`` is not ``"bn"`` where there is no batch norm.
    """

    outputs: Tuple[str, ...] = ("features", "bn_features", "logits")
    takes_modalities = True
    config_nodes: Tuple[str, ...] = ()  # see ``DualStreamBaseline``
    #: keys of ``MODEL.HEADS`` that only this head, and heads derived from it, read
    own_keys = ("CLASSIFIER_STD", "NECK_STD", "GEM_EPS", "GEM_EXPONENT")
    #: what tables of results call the feature after :meth:`neck`
    neck_words = "after BNNeck"
    pool_layer: nn.Module

    @configurable
    def __init__(
        self,
        *,
        classifier_std: float = 0.01,
        neck_std: float = 0.0,
        gem_eps: str = "activation",
        gem_exponent: float = 3.0,
        evaluated: str = "bn",
        **kwargs: Any,
    ) -> None:
        check_values(
            "MODEL.HEADS",
            CLASSIFIER_STD=classifier_std,
            NECK_STD=neck_std,
            GEM_EPS=gem_eps,
            GEM_EXPONENT=gem_exponent,
        )
        # FastReID's constructor calls reset_parameters, which reads them.
        self._classifier_std, self._neck_std = classifier_std, neck_std
        super().__init__(**kwargs)
        self.pool_layer = _with_exponent(self.pool_layer, float(gem_exponent))
        if gem_eps == "mean" and isinstance(self.pool_layer, GeneralizedMeanPooling):
            self.pool_layer = MeanFloorPooling(self.pool_layer.p)
        self.scores_tap = class_scores_tap()
        check_choice(self, evaluated)
        self.evaluated = evaluated

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HEADS``."""
        heads = cfg.MODEL.HEADS
        return {
            **super().from_config(cfg),
            "classifier_std": heads.CLASSIFIER_STD,
            "neck_std": heads.NECK_STD,
            "gem_eps": heads.GEM_EPS,
            "gem_exponent": heads.GEM_EXPONENT,
            "evaluated": cfg.TEST.FEATURE,
        }

    def reset_parameters(self) -> None:
        """Draw the initial weights of the batch norm and of the classifier."""
        self.bottleneck.apply(weights_init_kaiming)
        if self._neck_std > 0:  # without a deviation nothing is drawn
            for name, parameter in self.bottleneck.named_parameters():
                if name.endswith("weight") and parameter.ndim == 1:  # that of a normalization
                    nn.init.normal_(parameter, mean=1.0, std=self._neck_std)
        nn.init.normal_(self.weight, std=self._classifier_std)

    def forward(
        self,
        feature_map: Tensor,
        targets: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> Union[Tensor, Dict[str, Tensor]]:
        """Return at test the features that ``evaluated`` names; in training a dict:

        - ``features`` (B, D): for metric losses, before or after batch norm (``NECK_FEAT``);
        - ``bn_features`` (B, D): after batch norm;
        - ``logits`` (B, N): the classifier's output, with its margin and scale.
        """
        pooled = self.pool(feature_map)
        bn_features = self.neck(pooled)
        if not self.training:
            if self.scores_tap.wanted:
                self.scores_tap(self._class_scores(bn_features))
            return evaluated_feature(self.evaluated, pooled[..., 0, 0], bn_features)
        return {
            "features": pooled[..., 0, 0] if self.neck_feat == "before" else bn_features,
            "bn_features": bn_features,
            "logits": self.classify(bn_features, targets),
        }

    def classify(self, bn_features: Tensor, targets: Optional[Tensor]) -> Tensor:
        """Return the logits (B, N) of features (B, D), with the classifier's margin and scale."""
        return self.cls_layer(self._class_scores(bn_features).clone(), targets)

    def _class_scores(self, bn_features: Tensor) -> Tensor:
        """Classify features (B, D): (B, N), without margin and scale."""
        if type(self.cls_layer).__name__ == "Linear":
            return F.linear(bn_features, self.weight)
        return F.linear(F.normalize(bn_features), F.normalize(self.weight))

    @property
    def test_feature(self) -> str:
        """Return in words which features evaluation uses."""
        evaluated = getattr(self, "evaluated", "bn")  # not set yet while it is checked
        return feature_words(evaluated, self.neck_words) if self._has_neck else "pooled"

    @property
    def test_choices(self) -> Tuple[str, ...]:
        """Return the values of ``TEST.FEATURE`` that this head has."""
        return CHOICES if self._has_neck else ONE_FEATURE

    @property
    def _has_neck(self) -> bool:
        return any(not isinstance(layer, nn.Conv2d) for layer in self.bottleneck)

    def pool(self, feature_map: Tensor) -> Tensor:
        """Pool a map (B, C, H, W) to (B, C, 1, 1)."""
        return self.pool_layer(feature_map)

    def neck(self, pooled: Tensor) -> Tensor:
        """Normalize pooled features (B, C, 1, 1): (B, D)."""
        return self.bottleneck(pooled)[..., 0, 0]


def _with_exponent(pooling: nn.Module, exponent: float) -> nn.Module:
    """Return FastReID's generalized-mean pooling with another exponent than its 3.

    FastReID raises activations to 1e-6. The power of that number leaves the range of float32 if
    the exponent is above 6, and the gradient would be NaN: there the least activation is the one
    whose power is 1e-36.

    Raises:
        UserError: it is another kind of pooling.
    """
    if exponent == _HOST_EXPONENT:
        return pooling
    if not isinstance(pooling, GeneralizedMeanPooling):
        raise UserError(
            f"MODEL.HEADS.GEM_EXPONENT is {exponent:g}, and MODEL.HEADS.POOL_LAYER "
            f"{type(pooling).__name__} has no exponent. Set POOL_LAYER GeneralizedMeanPooling or "
            f"GeneralizedMeanPoolingP, or GEM_EXPONENT {_HOST_EXPONENT:g}."
        )
    return type(pooling)(norm=exponent, eps=max(1e-6, 1e-36 ** (1 / exponent)))
