"""Centers that stand for a cluster in each modality, and centers that hold part of another one.

N images, D features, C clusters.
"""

from typing import Tuple

import torch
from torch import Tensor

from ...modality import Modality


def aggregated(centers: Tensor, modalities: Tensor, partners: Tensor, share: float) -> Tensor:
    """Return centers (C, D) in which matched visible ones hold a share of their partners (ADCA).

    (1 - share) * visible + share * infrared, not divided by its length, as in the code, where the
    share is 0.9 (``lamda_cm`` 0.1). Infrared centers stay as they are.

    Args:
        centers: (C, D).
        modalities: (C,).
        partners: (C,), -1: none.
        share: 0 to 1.
    """
    rows = torch.nonzero((modalities == Modality.VISIBLE) & (partners >= 0))[:, 0]
    mixed = centers.clone()
    mixed[rows] = (1 - share) * centers[rows] + share * centers[partners[rows]]
    return mixed


def split_by_modality(labels: Tensor, modalities: Tensor, split: bool) -> Tuple[Tensor, Tensor]:
    """Number the prototypes of clusters of all images: visible, then infrared, cluster by cluster.

    Args:
        labels: (N,) clusters; -1: outlier.
        modalities: (N,).
        split: False: one prototype for each cluster.

    Returns:
        (2, C) the prototype of each modality's images in each cluster, and (P,) the cluster of each
        prototype. A prototype that does not exist has the number of the other one.
    """
    kept = labels >= 0
    count = int(labels.max()) + 1 if len(labels) else 0
    present = torch.zeros(count, 2, dtype=torch.bool)
    present[labels[kept], modalities[kept]] = True
    if not split:
        return torch.arange(count).repeat(2, 1), torch.arange(count)
    numbers = (present.flatten().cumsum(0) - 1).view(count, 2)
    first = numbers.masked_fill(~present, len(labels)).amin(dim=1, keepdim=True)
    numbers = torch.where(present, numbers, first)
    return numbers.T.contiguous(), torch.arange(count).repeat_interleave(present.sum(dim=1))
