"""Generalized-mean pooling as the public code of AGW computes it.

FastReID's ``GeneralizedMeanPooling`` raises every activation to at least 1e-6 before the power. The
public code of AGW and CAJ (mangye16/Cross-Modal-Re-ID-baseline) adds 1e-12 to the mean of the
powers instead. A channel that is 0 everywhere becomes 1e-6 in FastReID and 1e-4 in that code.
"""

from typing import Union

import torch.nn.functional as F
from torch import Tensor, nn

_ADDED = 1e-12


class MeanFloorPooling(nn.Module):
    """Pool by ``(mean(x^p) + 1e-12)^(1/p)``.

    Negative activations, which the public code does not expect, count as 0.

    Args:
        exponent: ``p``, a number, or a parameter to learn it.
    """

    def __init__(self, exponent: Union[float, nn.Parameter] = 3.0) -> None:
        super().__init__()
        self.p = exponent

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the pooled map: (B, C, 1, 1) of a map (B, C, H, W)."""
        powers = feature_map.clamp(min=0).pow(self.p)
        return (F.adaptive_avg_pool2d(powers, 1) + _ADDED).pow(1.0 / self.p)

    def extra_repr(self) -> str:
        """Return the exponent, for ``repr``."""
        return f"p={float(self.p)}"
