"""The BNNeck head: pooling, batch norm without a moving bias, a bias-free classifier.

Luo et al., Bag of Tricks, CVPRW 2019; pooling of AGW (Ye et al., TPAMI 2021). It is FastReID's
``EmbeddingHead`` with outputs under this package's names. B images, C channels, D features, N
identities.
"""

from typing import Dict, Optional, Union

import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.modeling.heads import REID_HEADS_REGISTRY, EmbeddingHead


@REID_HEADS_REGISTRY.register()
class BNNeckHead(EmbeddingHead):
    """Pool (``MODEL.HEADS.POOL_LAYER``), normalise, classify.

    ``GlobalAvgPool``, ``GlobalMaxPool``, ``GeneralizedMeanPooling`` (exponent 3, fixed) and
    ``GeneralizedMeanPoolingP`` (learnable) are FastReID's. ``MODEL.HEADS.NECK_FEAT`` chooses the
    feature that metric losses see: ``"before"`` or ``"after"`` batch norm.
    """

    outputs = ("features", "bn_features", "logits")
    takes_modalities = True

    def forward(
        self,
        feature_map: Tensor,
        targets: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> Union[Tensor, Dict[str, Tensor]]:
        """At test (B, D), after batch norm. In training a dict:

        - ``features`` (B, D): for metric losses, by ``NECK_FEAT``;
        - ``bn_features`` (B, D): after batch norm, what the test sees;
        - ``logits`` (B, N): of the classifier, with its margin and scale.
        """
        pooled = self.pool(feature_map)
        bn_features = self.bottleneck(pooled)[..., 0, 0]
        if not self.training:
            return bn_features
        if type(self.cls_layer).__name__ == "Linear":
            logits = F.linear(bn_features, self.weight)
        else:
            logits = F.linear(F.normalize(bn_features), F.normalize(self.weight))
        return {
            "features": pooled[..., 0, 0] if self.neck_feat == "before" else bn_features,
            "bn_features": bn_features,
            "logits": self.cls_layer(logits.clone(), targets),
        }

    @property
    def test_feature(self) -> str:
        """In words, what evaluation sees."""
        has_neck = any(not isinstance(layer, nn.Conv2d) for layer in self.bottleneck)
        return "after BNNeck" if has_neck else "pooled"

    def pool(self, feature_map: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 1, 1)."""
        return self.pool_layer(feature_map)
