"""Features of horizontal stripes, pooled first and then embedded, each with a classifier.

As in the public code of the hetero-center triplet (Liu et al., TMM 2021); also the local branch of
CM-LSP-GE. B images, C x H x W a feature map, R stripes of S features, N identities.
"""

from typing import Any, Callable, Dict

import torch
from torch import Tensor, nn

from fastreid.layers.weight_init import weights_init_kaiming

from ...keys import Key, at_least, check_values, declare
from ..layers import split_stripes
from ..maps import Tap

declare(
    "MODEL.HEADS",
    Key("NUM_STRIPES", 6, at_least(1), "horizontal stripes of StripeHead, CMLSPGEHead, HCTHead"),
    Key("STRIPE_DIM", 256, at_least(1), "width of the feature of each stripe"),
)


def stripe_arguments(cfg: Any) -> Dict[str, Any]:
    """Read what every head with stripes reads from ``MODEL.HEADS`` and ``MODEL.BACKBONE``."""
    return {
        "in_channels": cfg.MODEL.BACKBONE.FEAT_DIM,
        "num_classes": cfg.MODEL.HEADS.NUM_CLASSES,
        "num_stripes": cfg.MODEL.HEADS.NUM_STRIPES,
        "stripe_dim": cfg.MODEL.HEADS.STRIPE_DIM,
    }


class StripeBranch(nn.Module):
    """One feature and one classifier for each horizontal stripe.

    Args:
        in_channels: C, of the feature map.
        num_classes: N.
        num_stripes: R.
        stripe_dim: S.
        shared_embedding: one 1x1 convolution and batch norm for all stripes, not one each.
        bias: whether the convolutions have a bias; in training the batch norms cancel it.

    Raises:
        UserError: a size is below 1; in ``forward``: the map has fewer rows than stripes.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_stripes: int = 6,
        stripe_dim: int = 256,
        shared_embedding: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_values("MODEL.HEADS", NUM_STRIPES=num_stripes, STRIPE_DIM=stripe_dim)
        self.num_stripes = num_stripes
        self.embeddings = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, stripe_dim, kernel_size=1, bias=bias),
                nn.BatchNorm2d(stripe_dim),
                nn.ReLU(),
            )
            for _ in range(1 if shared_embedding else num_stripes)
        )
        self.classifiers = nn.ModuleList(
            nn.Linear(stripe_dim, num_classes) for _ in range(num_stripes)
        )
        self.apply(weights_init_kaiming)
        self.tap = Tap("stripe_features", "features of the stripes from the top, (B, R, S), >= 0")

    def forward(self, feature_map: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute F^loc (B, R, S) of a map (B, C, H, W); ``pool`` makes a stripe (B, C, 1, 1)."""
        stripes = [pool(stripe) for stripe in split_stripes(feature_map, self.num_stripes)]
        if len(self.embeddings) == 1:
            embedded = self.embeddings[0](torch.cat(stripes, dim=2))  # (B, S, R, 1)
        else:
            parts = [embed(stripe) for embed, stripe in zip(self.embeddings, stripes)]
            embedded = torch.cat(parts, dim=2)
        return self.tap(embedded[..., 0].transpose(1, 2))

    def classify(self, stripe_features: Tensor) -> Tensor:
        """Classify features (B, R, S): logits (B, R, N)."""
        parts = zip(self.classifiers, stripe_features.unbind(dim=1))
        return torch.stack([classifier(stripe) for classifier, stripe in parts], dim=1)
