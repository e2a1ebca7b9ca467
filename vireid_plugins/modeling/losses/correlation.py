"""Correlation consistency between the modalities: their Gram matrices should agree.

MRDA's modality correlation loss. The public code of CM-NAS (Fu et al., ICCV 2021, arXiv 2101.08467;
JDAI-CV/CM-NAS, losses/sp.py and train_base.py) has a relative of it, which is ``norm="row",
reduction="mse", level="image", feature="bn_features"`` with the weight 5: Gram matrices of all
images of a batch instead of the identities' centers, from the features after BNNeck.

Shapes: B rows, D feature size, n paired rows of each modality (identities, or images).
"""

from typing import Dict, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError
from ...keys import Key, at_least, declare, one_of
from ...modality import paired_centers, shared_identity_rows
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision, require_modalities, require_rows
from .pairs import zero_of

_EPSILON = 1e-12


declare(
    "MODEL.LOSSES.CORRELATION",
    Key("NORM", "matrix", one_of("matrix", "row"), "norm that divides a Gram matrix"),
    Key("REDUCTION", "frobenius", one_of("frobenius", "mse"), "size of the matrices' difference"),
    Key("FEATURE", "features", one_of("features", "bn_features"), "or features after batch norm"),
    Key("LEVEL", "identity", one_of("identity", "image"), "compare identity centers, or images"),
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class CorrelationConsistencyLoss(Loss):
    """Difference of the normalized Gram matrices ``F F^T`` (n, n) of the two modalities.

    Row i of the visible and row i of the infrared matrix F must belong together. Identities
    with images of one modality only are left out; a batch without a shared identity gives 0.

    Args:
        norm: divide each Gram matrix by its Frobenius norm (``"matrix"``) or each of its rows
            by its own norm (``"row"``).
        reduction: ``"frobenius"`` norm of the difference, or ``"mse"``, its mean square.
        level: ``"identity"``: F holds the identities' mean features. ``"image"``: F holds the
            images; within an identity the visible and infrared rows are paired by ascending
            ``index``. Images paired in this way have nothing in common but the identity:
            the value depends on the order of the dataset's list.
        feature: tensor of the head that is compared: ``"features"``, which metric losses see, or
            ``"bn_features"``, after batch norm. Pooled features share a large mean, which makes the
            Gram matrices of all identities alike; batch norm takes it away.

    Raises:
        UserError: an argument is not one of these words.
    """

    inputs: Tuple[str, ...] = ("features", "targets", "modalities")
    log_name = "loss_correlation"
    config_node = "CORRELATION"
    only_pulls = True

    def __init__(
        self,
        norm: str = "matrix",
        reduction: str = "frobenius",
        level: str = "identity",
        feature: str = "features",
    ) -> None:
        super().__init__()
        self.check(norm=norm, reduction=reduction, level=level, feature=feature)
        self.norm, self.reduction, self.level = norm, reduction, level
        self.inputs = (feature, *type(self).inputs[1:])
        if level == "image":
            self.inputs = (*self.inputs, "index")

    @full_precision
    def forward(
        self,
        x: Tensor,
        targets: Tensor,
        modalities: Optional[Tensor] = None,
        index: Optional[Tensor] = None,
    ) -> Tensor:
        """Compute the loss of features ``x`` (B, D), a scalar.

        Args:
            x: (B, D).
            targets: (B,).
            modalities: (B,), needed.
            index: (B,) position in the dataset's list, needed at level ``"image"``.

        Raises:
            UserError: ``modalities`` or ``index`` is missing or has another length, or, at
                level ``"image"``, an identity has unequal numbers of visible and infrared rows.
        """
        name = type(self).__name__
        modalities = require_modalities(name, modalities, len(x))
        if self.level == "identity":
            visible, infrared = paired_centers(x, targets, modalities)
        else:
            index = require_rows(name + "(level='image')", "index", index, len(x))
            visible, infrared = _paired_images(x, targets, modalities, index)
        if len(visible) == 0:
            return zero_of(x)
        difference = self._normalized_gram(visible) - self._normalized_gram(infrared)
        if self.reduction == "mse":
            return difference.square().mean()
        return torch.linalg.vector_norm(difference)  # Eq. (22) of MRDA

    def _normalized_gram(self, rows: Tensor) -> Tensor:
        gram = rows @ rows.t()
        if self.norm == "row":
            return F.normalize(gram, dim=1, eps=_EPSILON)
        return gram / torch.linalg.vector_norm(gram).clamp_min(_EPSILON)  # Eq. (21) of MRDA


def _paired_images(
    features: Tensor, targets: Tensor, modalities: Tensor, index: Tensor
) -> Tuple[Tensor, Tensor]:
    """Pair the rows of identities seen in both modalities by identity, then index: (n, D) each."""
    # Rows with the same index (an image drawn twice, or its augmented copies) have no order of
    # their own; sorting them by the mean feature does not depend on the order of the batch.
    tie_break = features.detach().mean(dim=1)
    keys = [key.cpu().numpy() for key in (tie_break, index, targets)]
    order = torch.from_numpy(np.lexsort(keys)).to(features.device)
    visible, infrared = (
        order[rows] for rows in shared_identity_rows(targets[order], modalities[order])
    )
    if not torch.equal(targets[visible], targets[infrared]):
        raise UserError(
            "CorrelationConsistencyLoss(level='image') pairs the visible and infrared rows of "
            "each identity, so their numbers must be equal; got visible "
            f"{_counts(targets[visible])} and infrared {_counts(targets[infrared])} (identity: "
            "rows). Use CrossModalityIdentitySampler, or MODEL.LOSSES.CORRELATION.LEVEL "
            "'identity'."
        )
    return features[visible], features[infrared]


def _counts(targets: Tensor) -> Dict[int, int]:
    identities, counts = targets.unique(return_counts=True)
    return dict(zip(identities.tolist(), counts.tolist()))
