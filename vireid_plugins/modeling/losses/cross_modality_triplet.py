"""Batch-hard triplets within and across the modalities, as in the public code of CM-NAS.

Fu et al., CM-NAS: Cross-Modality Neural Architecture Search for Visible-Infrared Person
Re-Identification, ICCV 2021, arXiv 2101.08467; JDAI-CV/CM-NAS, ``losses/triplet_loss.py`` and
``train_base.py``.

Shapes: B rows, D feature size.
"""

import itertools
from typing import Optional

import torch
from torch import Tensor

from ...keys import Key, at_least, declare
from ...modality import modality_rows
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision, require_modalities
from .pairs import hardest_triplets, pair_masks, pairwise_distances, zero_of

declare(
    "MODEL.LOSSES.CROSS_MODALITY_TRIPLET",
    Key("MARGIN", 0.4, at_least(0), "margin, a Euclidean distance"),
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class CrossModalityTripletLoss(Loss):
    """Mean of four batch-hard triplet losses: anchors of one modality, compared with one modality.

    Each is the mean over its anchors a of ``[margin + max_p d(a, p) - min_n d(a, n)]_+``, where p
    and n are of the same modality: (visible, visible), (infrared, infrared), (visible, infrared)
    and (infrared, visible). So each anchor has a hardest pair in either modality, and the easier
    modality cannot hide the harder one, as it can in ``BatchHardTripletLoss``.

    An anchor without another row of its identity in the compared modality, or without a row of
    another identity there, is left out of that mean, and a loss without anchors out of the mean of
    the four. In a batch of one modality, one loss is left, which is the batch-hard loss.

    The public code counts the anchor itself among its positives, at a distance of 0 (more exactly,
    10⁻⁶). This differs only if an identity has a single row in a modality. There, that row gives a
    term of the margin minus the distance to its nearest negative; here, none.

    Args:
        margin: Euclidean distance.
    """

    inputs = ("features", "targets", "modalities")
    log_name = "loss_cross_modality_triplet"
    config_node = "CROSS_MODALITY_TRIPLET"

    def __init__(self, margin: float = 0.4) -> None:
        super().__init__()
        self.check(margin=margin)
        self.margin = margin

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D), with (B,) labels each; a scalar.

        Raises:
            UserError: ``modalities`` is missing, has another length or holds unknown numbers.
        """
        modalities = require_modalities(type(self).__name__, modalities, len(x))
        distances = pairwise_distances(x)
        positives, negatives = pair_masks(targets)
        losses = []
        for anchors, others in itertools.product(modality_rows(modalities), repeat=2):
            place = anchors.unsqueeze(1), others
            terms = hardest_triplets(
                distances[place], positives[place], negatives[place], self.margin
            )
            if len(terms):
                losses.append(terms.mean())
        return torch.stack(losses).mean() if losses else zero_of(x)
