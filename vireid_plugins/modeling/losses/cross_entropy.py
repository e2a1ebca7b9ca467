"""Cross-entropy with label smoothing (Szegedy et al., CVPR 2016, arXiv 1512.00567).

Shapes: B rows, N identities.
"""

from typing import Optional

import torch.nn.functional as F
from torch import Tensor

from fastreid.config import CfgNode

from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision


@LOSS_REGISTRY.register()
class LabelSmoothingCrossEntropyLoss(Loss):
    """Mean over rows of ``-sum_i q_i log softmax(logits)_i``.

    The label has ``q_y = 1 - smoothing * (N - 1) / N``, every other identity ``smoothing / N``.
    FastReID's ``CrossEntropyLoss`` divides by N - 1 instead, so the two differ slightly.

    Args:
        smoothing: probability spread evenly over all N identities, 0 to below 1.

    Raises:
        ValueError: ``smoothing`` is out of range.
    """

    inputs = ("logits", "targets")
    log_name = "loss_id"
    config_node = "LABEL_SMOOTHING"

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(
                f"LabelSmoothingCrossEntropyLoss: smoothing must be in [0, 1); got {smoothing}."
            )
        self.smoothing = smoothing

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "LabelSmoothingCrossEntropyLoss":
        """Read ``MODEL.LOSSES.LABEL_SMOOTHING``."""
        return cls(smoothing=cls.node(cfg).SMOOTHING)

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Loss of logits ``x`` (B, N) for ``targets`` (B,) in 0..N-1; a scalar."""
        return F.cross_entropy(x, targets, label_smoothing=self.smoothing)
