"""The head of HCT: horizontal stripes, pooled by the generalized mean, then embedded.

*Paper*: H. Liu, X. Tan, X. Zhou, "Parameter Sharing Exploration and Hetero-Center Triplet Loss for
Visible-Thermal Person Re-Identification", IEEE TMM 2021, doi 10.1109/TMM.2020.3042080; public code
hijune6/Hetero-center-triplet-loss-for-VT-Re-ID.
*Here*: ``HCTHead``, for checkpoints of that code (``vireid convert --from hct``). The loss:
``HeteroCenterTripletLoss``.
*Departs*: in training, one cross-entropy sees the mean of the stripes' logits, where the paper adds
one cross-entropy for each stripe, and the triplet of each stripe is left out. So a converted model
gives the paper's features, and a training with this head is not the paper's.

B images, C x H x W a feature map, R stripes of S features, N identities.
"""

from typing import Any, Dict, Optional, Union

from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY

from ...keys import check_values
from ..layers import MeanFloorPooling
from ..maps import class_scores_tap
from .evaluated import refuse_bnneck
from .stripe_branch import StripeBranch, stripe_arguments


@REID_HEADS_REGISTRY.register()
class HCTHead(nn.Module):
    """Features of R stripes, concatenated; each stripe has its own embedding and classifier.

    Pooling is always ``(mean(x^p) + 1e-12)^(1/p)``, and ``MODEL.HEADS.WITH_BNNECK`` must be False.

    Args:
        in_channels: C, of the feature map.
        num_classes: N.
        num_stripes: R.
        stripe_dim: S.
        exponent: p, of the pooling.

    Raises:
        UserError: a number is out of its range, or ``WITH_BNNECK`` is True; in ``forward``: the
            map has fewer rows than stripes.
    """

    outputs = ("features", "logits")
    test_feature = "stripes, pooled and embedded"
    takes_modalities = True
    config_nodes = ()  # see ``DualStreamBaseline``
    own_keys = ("GEM_EXPONENT",)  # see ``BNNeckHead``
    training_only = ("stripes.classifiers",)  # see ``DualStreamBaseline``

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_stripes: int = 6,
        stripe_dim: int = 256,
        exponent: float = 3.0,
    ) -> None:
        super().__init__()
        check_values("MODEL.HEADS", GEM_EXPONENT=exponent)
        self.pool_layer = MeanFloorPooling(float(exponent))
        self.stripes = StripeBranch(
            in_channels,
            num_classes,
            num_stripes,
            stripe_dim,
            shared_embedding=False,
            bias=True,
        )
        self.feat_dim = num_stripes * stripe_dim
        self.scores_tap = class_scores_tap()

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HEADS`` and ``MODEL.BACKBONE.FEAT_DIM``."""
        refuse_bnneck(cfg, "HCTHead has no batch norm before its classifiers")
        return {**stripe_arguments(cfg), "exponent": cfg.MODEL.HEADS.GEM_EXPONENT}

    def forward(
        self,
        feature_map: Tensor,
        targets: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> Union[Tensor, Dict[str, Tensor]]:
        """Return at test the features (B, R * S) of a map (B, C, H, W); in training a dict:

        - ``features`` (B, R * S): of all stripes, which evaluation uses too;
        - ``logits`` (B, N): the mean of the stripes' logits.
        """
        stripes = self.stripes(feature_map, self.pool_layer)
        features = stripes.flatten(1)
        if not self.training:
            if self.scores_tap.wanted:
                self.scores_tap(self.stripes.classify(stripes).mean(dim=1))
            return features
        return {"features": features, "logits": self.stripes.classify(stripes).mean(dim=1)}
