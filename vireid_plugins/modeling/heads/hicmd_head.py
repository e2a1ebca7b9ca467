"""The head of Hi-CMD: a linear layer, batch norm, dropout, a classifier, and a second linear layer.

``ClassBlock`` of bismex/HiCMD, ``reIDmodel.py``. B images, D_0 inputs, D features, T features of
the triplet loss, N identities.
"""

from typing import Any, Dict, Optional, Tuple, Union

from torch import Tensor, nn

from fastreid.config import configurable
from fastreid.modeling.heads import REID_HEADS_REGISTRY

from ...errors import UserError
from ...keys import Key, at_least, between, check_values, declare
from ..maps import class_scores_tap
from .evaluated import CHOICES, check_choice, evaluated_feature, feature_words

_DEVIATION = 0.001  # of the classifier's initial weights
_NORM_DEVIATION = 0.02  # of the batch norm's, around 1

declare(
    "MODEL.HEADS",
    Key(
        "DROPOUT",
        0.5,
        at_least(0, below=1),
        "HiCMDHead: share of the features that are dropped in training",
        features=False,
    ),
    Key(
        "TRIPLET_DIM",
        1024,
        between(1, 100000),
        "HiCMDHead: length of the features that the triplet loss compares",
        features=False,
    ),
)


@REID_HEADS_REGISTRY.register()
class HiCMDHead(nn.Module):
    """Embed f_0 as f_1 = BN(W f_0 + b), the feature of the test, and classify it.

    ``TEST.FEATURE`` ``"pooled"`` is f_0, ``"bn"`` is f_1.

    Args:
        in_channels: D_0.
        embedding_dim: D; 0: D_0.
        num_classes: N.
        triplet_dim: T.
        dropout: share of f_1 that classifier and triplet loss do not see in training.
        evaluated: ``"bn"``, ``"pooled"`` or ``"both"``.

    Raises:
        UserError: a number or word is not allowed.
    """

    outputs: Tuple[str, ...] = ("features", "bn_features", "triplet_features", "logits")
    takes_modalities = True
    config_nodes = ()  # see ``DualStreamBaseline``
    own_keys = ("DROPOUT", "TRIPLET_DIM")
    training_only = ("classifier", "triplet")  # see ``DualStreamBaseline``
    test_choices = CHOICES

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        embedding_dim: int = 0,
        triplet_dim: int = 1024,
        dropout: float = 0.5,
        evaluated: str = "bn",
    ) -> None:
        super().__init__()
        check_values("MODEL.HEADS", DROPOUT=dropout, TRIPLET_DIM=triplet_dim)
        check_choice(self, evaluated)
        self.evaluated = evaluated
        self.feat_dim = embedding_dim or in_channels
        self.embedding = nn.Linear(in_channels, self.feat_dim)
        self.bottleneck = nn.BatchNorm1d(self.feat_dim)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.feat_dim, num_classes)
        self.triplet = nn.Linear(self.feat_dim, triplet_dim)
        self.scores_tap = class_scores_tap()
        self._initialize()

    def _initialize(self) -> None:
        for layer in (self.embedding, self.triplet):
            nn.init.kaiming_normal_(layer.weight, a=0, mode="fan_out")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.bottleneck.weight, 1.0, _NORM_DEVIATION)
        nn.init.normal_(self.classifier.weight, std=_DEVIATION)
        nn.init.zeros_(self.classifier.bias)

    @classmethod
    def from_config(cls, cfg: Any) -> Dict[str, Any]:
        """Read the arguments from ``MODEL.HEADS`` and ``MODEL.BACKBONE.FEAT_DIM``.

        Raises:
            UserError: the config asks for a head without batch norm.
        """
        node = cfg.MODEL.HEADS
        if not node.WITH_BNNECK:
            raise UserError("HiCMDHead always has a batch norm; set MODEL.HEADS.WITH_BNNECK True.")
        return {
            "in_channels": cfg.MODEL.BACKBONE.FEAT_DIM,
            "num_classes": node.NUM_CLASSES,
            "embedding_dim": node.EMBEDDING_DIM,
            "triplet_dim": node.TRIPLET_DIM,
            "dropout": node.DROPOUT,
            "evaluated": cfg.TEST.FEATURE,
        }

    def forward(
        self,
        feature_map: Tensor,
        targets: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> Union[Tensor, Dict[str, Tensor]]:
        """Return at test the features (B, D) of f_0 (B, D_0, 1, 1); in training a dict:

        - ``features`` (B, D_0): f_0;
        - ``bn_features`` (B, D): f_1;
        - ``triplet_features`` (B, T): for the triplet loss;
        - ``logits`` (B, N).
        """
        pooled = feature_map.flatten(1)
        normalized = self.bottleneck(self.embedding(pooled))
        if not self.training:
            if self.scores_tap.wanted:
                self.scores_tap(self.classifier(normalized))
            return evaluated_feature(self.evaluated, pooled, normalized)
        seen = self.dropout(normalized)
        return {
            "features": pooled,
            "bn_features": normalized,
            "triplet_features": self.triplet(seen),
            "logits": self.classifier(seen),
        }

    @property
    def test_feature(self) -> str:
        """Return in words which features evaluation uses."""
        return feature_words(getattr(self, "evaluated", "bn"), "after batch norm")
