"""The stripe head: the global feature of a map, and one feature for each horizontal stripe.

It is the fine-grained feature learning of *mutual prediction* (``meta_arch/mutual_prediction.py``,
whose equations are numbered here). B images, C channels, H x W positions, R stripes of S features
each, D = C + R * S, N identities.
"""

from typing import Any, Dict, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.layers.weight_init import weights_init_kaiming
from fastreid.modeling.heads import REID_HEADS_REGISTRY

from ...keys import check_values
from ..layers import split_stripes
from ..maps import Tap, class_scores_tap
from .evaluated import refuse_bnneck
from .stripe_branch import stripe_arguments


@REID_HEADS_REGISTRY.register()
class StripeHead(nn.Module):
    """Global average and stripe features, concatenated; one classifier, no batch norm.

    Pooling is always the average, and ``MODEL.HEADS.WITH_BNNECK`` must be False. The classifier
    W_id is a fully connected layer with bias. Its initial weights are drawn as in FastReID's
    ``EmbeddingHead`` (normal, deviation 0.01; bias 0). Those of the 1x1 convolutions follow
    Kaiming's rule for the number of *inputs*: a stripe's feature then begins at the scale of the
    global feature, and neither outweighs the other in distances.

    Args:
        in_channels: C, of the feature map.
        num_classes: N.
        num_stripes: R.
        stripe_dim: S.

    Attributes:
        feat_dim: D, size of ``features``.

    Raises:
        UserError: ``num_stripes`` or ``stripe_dim`` is below 1; ``WITH_BNNECK`` is True; in
            ``forward``: the map has fewer rows than stripes.
    """

    outputs = ("features", "logits")
    test_feature = "global and stripes, pooled"
    takes_modalities = True
    config_nodes = ()  # see ``DualStreamBaseline``
    training_only = ("classifier",)  # see ``DualStreamBaseline``

    @configurable
    def __init__(
        self, *, in_channels: int, num_classes: int, num_stripes: int = 6, stripe_dim: int = 256
    ) -> None:
        super().__init__()
        check_values("MODEL.HEADS", NUM_STRIPES=num_stripes, STRIPE_DIM=stripe_dim)
        self.num_stripes = num_stripes
        self.feat_dim = in_channels + num_stripes * stripe_dim
        self.stripe_convs = nn.ModuleList(
            nn.Conv2d(in_channels, stripe_dim, kernel_size=1) for _ in range(num_stripes)
        )
        self.classifier = nn.Linear(self.feat_dim, num_classes)
        self.tap = Tap("stripe_features", "features of the stripes from the top, (B, R, S), >= 0")
        self.scores_tap = class_scores_tap()
        self._reset_parameters()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HEADS`` and ``MODEL.BACKBONE.FEAT_DIM``."""
        refuse_bnneck(cfg, "StripeHead has no batch norm before its classifier")
        return stripe_arguments(cfg)

    def _reset_parameters(self) -> None:
        for name, parameter in self.stripe_convs.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, mode="fan_in", nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)
        weights_init_kaiming(self.classifier)

    def forward(
        self,
        feature_map: Tensor,
        targets: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> Union[Tensor, Dict[str, Tensor]]:
        """Return at test the features (B, D) of a map (B, C, H, W); in training a dict:

        - ``features`` (B, D): f^m, which evaluation uses too;
        - ``logits`` (B, N): the output of W_id.
        """
        global_features = feature_map.mean(dim=(2, 3))  # Eq. (5), (6)
        stripe_features = [  # Eq. (3), (4)
            F.relu(conv(stripe)).mean(dim=(2, 3))
            for conv, stripe in zip(self.stripe_convs, split_stripes(feature_map, self.num_stripes))
        ]
        stripes = self.tap(torch.stack(stripe_features, dim=1))
        features = torch.cat([global_features, stripes.flatten(1)], dim=1)  # Eq. (7), (8)
        if not self.training:
            if self.scores_tap.wanted:
                self.scores_tap(self.classifier(features))
            return features
        return {"features": features, "logits": self.classifier(features)}  # W_id of Eq. (9)
