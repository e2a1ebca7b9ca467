"""What a clustering hands to a method.

N images, D features, C clusters.
"""

from dataclasses import dataclass
from typing import Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError


@dataclass(frozen=True)
class FoundClusters:
    """Clusters of the training images, the same in all processes, on the CPU.

    Attributes:
        features: (N, D) of length 1.
        modalities: (N,).
        labels: (N,) for each labeling; the first one is that of ``CLUSTERS.WITHIN``. -1: outlier.
        phase: of the method's schedule, for which they were found.
        partners: (C,) the cluster of the other modality that each cluster of the first labeling
            was matched with, -1: none; None: nothing was matched.
    """

    features: Tensor
    modalities: Tensor
    labels: Sequence[Tensor]
    phase: str
    partners: Optional[Tensor] = None

    def centers(self, place: int = 0) -> Tensor:
        """Return the centers (C, D) of length 1 of a labeling."""
        return centers_of(self.features, self.labels[place])


def centers_of(features: Tensor, labels: Tensor) -> Tensor:
    """Return the mean (C, D) of the features (N, D) of each cluster, divided by its length.

    Args:
        features: (N, D).
        labels: (N,) from 0; images with a label below 0 belong to none.
    """
    kept = torch.nonzero(labels >= 0)[:, 0]
    own = labels[kept]
    sums = features.new_zeros(int(own.max()) + 1 if len(own) else 0, features.shape[1])
    return F.normalize(sums.index_add_(0, own, features[kept]), dim=1)


def modality_of_clusters(labels: Tensor, modalities: Tensor) -> Tensor:
    """Return the modality of each cluster, (C,).

    Args:
        labels: (N,) from 0; -1: the image belongs to none.
        modalities: (N,).

    Raises:
        UserError: a cluster has images of both modalities.
    """
    kept = labels >= 0
    own, given = labels[kept], modalities[kept]
    count = int(own.max()) + 1 if len(own) else 0
    found = modalities.new_zeros(count)
    found[own] = given
    if bool((found[own] != given).any()):
        raise UserError(
            "Clusters of one modality are needed, and some have images of both: set "
            "CLUSTERS.WITHIN modality."
        )
    return found
