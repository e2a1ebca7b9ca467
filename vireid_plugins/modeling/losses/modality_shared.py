"""Modality-shared enhancement loss (MSEL) of PMT (Lu et al., AAAI 2023, arXiv 2212.00226).

Public code: hulu88/PMT, ``loss/MSEL.py``.

Shapes: B rows, D feature size, A anchors.
"""

from typing import Optional

import torch
from torch import Tensor

from ...keys import Key, at_least, declare
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision, require_modalities
from .pairs import mean_within, pair_masks, pairwise_distances, zero_of

declare(
    "MODEL.LOSSES.MODALITY_SHARED",
    Key("SCALE", 0.5, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class ModalitySharedEnhancementLoss(Loss):
    """Make an image as far from its identity in the other modality as from that in its own.

    For an anchor a, let c(a) be its mean distance to the images of its identity in the other
    modality, and s(a) that to the *other* images of its identity in its own modality. The loss is
    the mean over anchors of (c(a) - s(a))^2. Distances are Euclidean, of features as they are.

    An image that has no other image of its identity in its own modality, or none in the other
    modality, is no anchor. The public code takes identity and modality from the place of a row, and
    averages over the visible and over the infrared anchors; it has as many of both, so the mean
    over all of them is the same number.
    """

    inputs = ("features", "targets", "modalities")
    log_name = "loss_msel"
    config_node = "MODALITY_SHARED"
    only_pulls = True

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D), with (B,) labels each; a scalar.

        Raises:
            UserError: ``modalities`` is missing, has another length or holds unknown numbers.
        """
        modalities = require_modalities(type(self).__name__, modalities, len(x))
        same_modality = modalities.unsqueeze(0) == modalities.unsqueeze(1)
        positives, _ = pair_masks(targets)
        own, other = positives & same_modality, positives & ~same_modality
        anchors = torch.nonzero(own.any(dim=1) & other.any(dim=1))[:, 0]
        if len(anchors) == 0:
            return zero_of(x)
        distances = pairwise_distances(x)[anchors]
        across = mean_within(distances, other[anchors])  # c(a)
        within = mean_within(distances, own[anchors])  # s(a)
        return (across - within).square().mean()  # MSEL
