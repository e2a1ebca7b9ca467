"""Batch-hard triplet loss within each modality: PMT's first stage (Lu et al., AAAI 2023).

Public code: hulu88/PMT, ``train.py`` and ``loss/Triplet.py``.

Shapes: B rows, D feature size.
"""

from typing import Optional

from torch import Tensor

from ...keys import Key, at_least, declare
from ...modality import modality_rows
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision, require_modalities
from .triplet import BatchHardTripletLoss

declare(
    "MODEL.LOSSES.INTRA_TRIPLET",
    Key("MARGIN", 0.1, at_least(0), "margin, a Euclidean distance"),
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class IntraModalityTripletLoss(Loss):
    """Add the batch-hard triplet losses of the visible and of the infrared rows.

    Positives and negatives are of the anchor's own modality, so that the modalities are not
    compared yet. A modality without a triplet adds nothing.

    Args:
        margin: Euclidean distance.
    """

    inputs = ("features", "targets", "modalities")
    log_name = "loss_intra_triplet"
    config_node = "INTRA_TRIPLET"

    def __init__(self, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin
        self.triplet = BatchHardTripletLoss(margin)

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D), with (B,) labels each; a scalar.

        Raises:
            UserError: ``modalities`` is missing, has another length or holds unknown numbers.
        """
        modalities = require_modalities(type(self).__name__, modalities, len(x))
        visible, infrared = modality_rows(modalities)
        return self.triplet(x[visible], targets[visible]) + self.triplet(
            x[infrared], targets[infrared]
        )
