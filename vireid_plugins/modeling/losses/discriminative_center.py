"""Discriminative center loss (DCL) of PMT (Lu et al., AAAI 2023, arXiv 2212.00226).

Public code: hulu88/PMT, ``loss/DCL.py``.

Shapes: B rows, D feature size, P identities.
"""

from typing import Optional

import torch
from torch import Tensor

from ...keys import Key, at_least, declare
from ...modality import group_means
from ...registry import LOSS_REGISTRY
from .base import Loss, full_precision
from .pairs import mean_within, zero_of

declare(
    "MODEL.LOSSES.DISCRIMINATIVE_CENTER",
    Key("SCALE", 0.5, at_least(0), "weight in the sum of losses"),
)

_SMALLEST = 1e-6  # a distance; below it, the public code counts no pair


@LOSS_REGISTRY.register()
class DiscriminativeCenterLoss(Loss):
    """Compute the ratio of two mean distances, from the centers of identities to images.

    A center is the mean feature of an identity over both modalities. The numerator is the mean
    distance from centers to the images of their identity. The denominator is the mean over centers
    of the mean distance to the *near* images of other identities: those nearer than all images of
    other identities are on average. Distances are Euclidean, of features as they are.

    An identity with a single image has a center, but no own distance (it is 0). A center whose
    distances to other identities are all equal keeps all of them. Without two identities, or
    without two images of one, there is nothing to compare and the loss is 0. The denominator is at
    least 1e-6, so that equal features give no division by zero.
    """

    inputs = ("features", "targets")
    log_name = "loss_dcl"
    config_node = "DISCRIMINATIVE_CENTER"

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,), a scalar."""
        centers = group_means(x, targets)
        own = centers.labels[:, 0].unsqueeze(1) == targets  # (P, B)
        counted = own & (own.sum(dim=1, keepdim=True) > 1)
        if len(own) < 2 or len(own) == len(x):
            return zero_of(x)
        distances = torch.cdist(
            centers.features, x, compute_mode="donot_use_mm_for_euclid_dist"
        )  # center to image, (P, B)
        near = mean_within(distances, near_others(distances.detach(), ~own)).mean()
        compact = (distances * counted).sum() / counted.sum()
        return compact / near.clamp(min=_SMALLEST)  # DCL


def near_others(distances: Tensor, others: Tensor) -> Tensor:
    """Return which images of other identities are nearer to a center than they are on average.

    Args:
        distances: (P, B), from centers to images.
        others: (P, B) bool, images of another identity than the center's.

    Returns:
        (P, B) bool; where all of a center's distances are equal, all of ``others``.
    """
    near = others & (distances < mean_within(distances, others).unsqueeze(1))
    return near | (others & ~near.any(dim=1, keepdim=True))
