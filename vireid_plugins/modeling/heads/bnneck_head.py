"""The BNNeck head: pooling, batch norm without a moving bias, a bias-free classifier.

Luo et al., Bag of Tricks, CVPRW 2019; pooling of AGW (Ye et al., TPAMI 2021). It is FastReID's
``EmbeddingHead`` with outputs under this package's names. B images, C channels, D features, N
identities.
"""

from typing import Any, Dict, Optional, Union

import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead

from ..maps import class_scores_tap


@REID_HEADS_REGISTRY.register()
class BNNeckHead(EmbeddingHead):
    """Pool (``MODEL.HEADS.POOL_LAYER``), normalize, classify.

    ``GlobalAvgPool``, ``GlobalMaxPool``, ``GeneralizedMeanPooling`` (exponent 3, fixed) and
    ``GeneralizedMeanPoolingP`` (learnable) are FastReID's. ``MODEL.HEADS.NECK_FEAT`` chooses the
    feature that metric losses see: ``"before"`` or ``"after"`` batch norm.
    """

    outputs = ("features", "bn_features", "logits")
    takes_modalities = True

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scores_tap = class_scores_tap()

    def forward(
        self,
        feature_map: Tensor,
        targets: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> Union[Tensor, Dict[str, Tensor]]:
        """Return at test the features (B, D) after batch norm; in training a dict:

        - ``features`` (B, D): for metric losses, before or after batch norm (``NECK_FEAT``);
        - ``bn_features`` (B, D): after batch norm, which evaluation uses;
        - ``logits`` (B, N): the classifier's output, with its margin and scale.
        """
        pooled = self.pool(feature_map)
        bn_features = self.bottleneck(pooled)[..., 0, 0]
        if not self.training:
            if self.scores_tap.wanted:
                self.scores_tap(self._class_scores(bn_features))
            return bn_features
        return {
            "features": pooled[..., 0, 0] if self.neck_feat == "before" else bn_features,
            "bn_features": bn_features,
            "logits": self.cls_layer(self._class_scores(bn_features).clone(), targets),
        }

    def _class_scores(self, bn_features: Tensor) -> Tensor:
        """Classify features (B, D): (B, N), without margin and scale."""
        if type(self.cls_layer).__name__ == "Linear":
            return F.linear(bn_features, self.weight)
        return F.linear(F.normalize(bn_features), F.normalize(self.weight))

    @property
    def test_feature(self) -> str:
        """Return in words which features evaluation uses."""
        has_neck = any(not isinstance(layer, nn.Conv2d) for layer in self.bottleneck)
        return "after BNNeck" if has_neck else "pooled"

    def pool(self, feature_map: Tensor) -> Tensor:
        """Pool a map (B, C, H, W) to (B, C, 1, 1)."""
        return self.pool_layer(feature_map)
