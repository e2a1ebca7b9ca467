"""Cross-entropy with label smoothing (Szegedy et al., CVPR 2016, arXiv 1512.00567).

Shapes: B rows, N identities.
"""

from typing import Optional, Tuple

import torch.nn.functional as F
from torch import Tensor

from ...keys import SWITCH, Key, at_least, declare
from ...modality import modality_rows
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision, require_modalities

declare(
    "MODEL.LOSSES.LABEL_SMOOTHING",
    Key("SMOOTHING", 0.1, at_least(0, below=1), "probability spread over all identities (xi)"),
    Key("PER_MODALITY", False, SWITCH, "add the means of both modalities; False: mean of all rows"),
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class LabelSmoothingCrossEntropyLoss(Loss):
    """Mean over rows of ``-sum_i q_i log softmax(logits)_i``.

    The label has ``q_y = 1 - smoothing * (N - 1) / N``, every other identity ``smoothing / N``.
    FastReID's ``CrossEntropyLoss`` divides by N - 1 instead, so the two differ slightly.

    Args:
        smoothing: probability spread evenly over all N identities, 0 to below 1.
        per_modality: the mean over the visible rows plus the mean over the infrared rows, as
            papers write that sum over pairs of images; a modality without rows adds nothing.

    Raises:
        UserError: ``smoothing`` is out of range.
    """

    inputs: Tuple[str, ...] = ("logits", "targets")
    log_name = "loss_id"
    config_node = "LABEL_SMOOTHING"

    def __init__(self, smoothing: float = 0.1, per_modality: bool = False) -> None:
        super().__init__()
        self.check(smoothing=smoothing)
        self.smoothing = smoothing
        self.per_modality = per_modality
        if per_modality:
            self.inputs = (*type(self).inputs, "modalities")

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of logits ``x`` (B, N) for ``targets`` (B,) in 0..N-1, a scalar.

        Raises:
            UserError: ``per_modality`` is True, but ``modalities`` (B,) are missing or unknown.
        """
        if not self.per_modality:
            return F.cross_entropy(x, targets, label_smoothing=self.smoothing)
        modalities = require_modalities(type(self).__name__, modalities, len(x))
        terms = [
            F.cross_entropy(x[rows], targets[rows], label_smoothing=self.smoothing)
            for rows in modality_rows(modalities)
            if len(rows)
        ]
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]
