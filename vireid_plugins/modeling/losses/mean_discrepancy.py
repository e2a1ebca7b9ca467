"""Class-specific maximum mean discrepancy between the modalities (CMMD), of CM-NAS.

Fu et al., CM-NAS: Cross-Modality Neural Architecture Search for Visible-Infrared Person
Re-Identification, ICCV 2021, arXiv 2101.08467; JDAI-CV/CM-NAS, ``losses/cmmd.py`` and
``train_base.py``.

Shapes: B rows, D feature size, n identities that are seen in both modalities.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

from ...keys import Key, at_least, declare, one_of
from ...modality import paired_centers
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision, require_modalities
from .pairs import unit, zero_of

declare(
    "MODEL.LOSSES.MEAN_DISCREPANCY",
    Key("FEATURE", "bn_features", one_of("features", "bn_features"), "or those before batch norm"),
    Key("SCALE", 0.05, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class MeanDiscrepancyLoss(Loss):
    """Mean over identities of the squared maximum mean discrepancy of their two modalities.

    For an identity with visible features v and infrared features t, of length 1, it is
    ``mean k(v, v') + mean k(t, t') - 2 mean k(v, t)`` with the kernel ``k(a, b) = (a . b)^2``; each
    mean is over all pairs, a row with itself included. This kernel compares the second moments
    ``mean v v^T`` and ``mean t t^T`` and not the means themselves: the loss is the squared
    Frobenius distance of the two matrices, and a feature and its negative are the same to it. It
    lies between 0 and 2.

    Identities with images of one modality only are left out; a batch without a shared identity
    gives 0. The numbers of visible and infrared rows need not be equal.

    Args:
        feature: tensor of the head that is compared: ``"bn_features"``, after batch norm, as in the
            public code, or ``"features"``, which metric losses see.

    Raises:
        UserError: ``feature`` is not one of these words.
    """

    inputs: Tuple[str, ...] = ("bn_features", "targets", "modalities")
    log_name = "loss_mean_discrepancy"
    config_node = "MEAN_DISCREPANCY"
    only_pulls = True

    def __init__(self, feature: str = "bn_features") -> None:
        super().__init__()
        self.check(feature=feature)
        self.inputs = (feature, *type(self).inputs[1:])

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D), with (B,) labels each; a scalar.

        Raises:
            UserError: ``modalities`` is missing, has another length or holds unknown numbers.
        """
        modalities = require_modalities(type(self).__name__, modalities, len(x))
        # The center of unit vectors holds the weight of each row in a mean over these rows.
        rows = torch.eye(len(x), dtype=x.dtype, device=x.device)
        visible, infrared = paired_centers(rows, targets, modalities)
        if len(visible) == 0:
            return zero_of(x)
        weights = visible - infrared  # (n, B)
        directions = unit(x)
        kernel = (directions @ directions.t()).square()
        return ((weights @ kernel) * weights).sum(dim=1).mean()
