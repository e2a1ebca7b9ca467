"""Match visible clusters with infrared ones: by votes of images (ADCA), or as a graph (PGM).

V visible and I infrared images or clusters, D features, C clusters in all.
"""

from typing import Any, Tuple

import numpy as np
import torch
from torch import Tensor

from ...modality import Modality

_BLOCK_ELEMENTS = 1 << 24  # of a block of similarities


def count_partners(
    features: Tensor,
    labels: Tensor,
    modalities: Tensor,
    of_clusters: Tensor,
    similarity: float = 0.5,
) -> Tensor:
    """Return the partner of each cluster by count-priority selection (ADCA), (C,); -1: none.

    Each pair of a visible and an infrared image with a cosine of ``similarity`` or more is a vote
    for the pair of their clusters. Pairs of clusters are taken by their votes, most first; of equal
    votes, the pair with the greatest cosine comes first. A cluster is taken once.

    Args:
        features: (N, D) of length 1.
        labels: (N,) clusters of one modality each; -1: outlier.
        modalities: (N,) of the images.
        of_clusters: (C,) modality of each cluster.
        similarity: the least cosine of a vote.
    """
    votes, nearest = _votes(features, labels, modalities, len(of_clusters), similarity)
    visible, infrared = np.nonzero(votes)
    order = np.lexsort((-nearest[visible, infrared], -votes[visible, infrared]))
    partners = np.full(len(of_clusters), -1, np.int64)
    for own, other in zip(visible[order], infrared[order]):
        if partners[own] < 0 and partners[other] < 0:
            partners[own], partners[other] = other, own
    return torch.from_numpy(partners)


def _votes(
    features: Tensor, labels: Tensor, modalities: Tensor, count: int, similarity: float
) -> Tuple[np.ndarray, np.ndarray]:
    """Return the votes (C, C) int64 of pairs of clusters, and their greatest cosines (C, C)."""
    rows, columns = (
        torch.nonzero((labels >= 0) & (modalities == modality))[:, 0] for modality in Modality
    )
    votes, nearest = torch.zeros(count, count), torch.full((count, count), -2.0)
    if len(rows) == 0 or len(columns) == 0:
        return votes.long().numpy(), nearest.numpy()
    others, own = features[columns], labels[columns]
    for part in rows.split(max(1, _BLOCK_ELEMENTS // len(columns))):
        cosines = features[part] @ others.T
        found = torch.zeros(len(part), count)
        found.index_add_(1, own, (cosines >= similarity).float())
        votes.index_add_(0, labels[part], found)
        best = torch.full((len(part), count), -2.0)
        best.scatter_reduce_(1, own.expand_as(cosines), cosines, "amax")
        nearest.scatter_reduce_(0, labels[part][:, None].expand_as(best), best, "amax")
    return votes.long().numpy(), nearest.numpy()


def graph_partners(centers: Tensor, of_clusters: Tensor) -> Tensor:
    """Return the partner of each cluster by progressive graph matching (PGM), (C,); -1: none.

    The cost of a pair of centers is 1 / exp(cosine). The assignment of least cost gives each
    cluster of the modality with fewer clusters a partner. Those that are left over in the other
    modality are assigned again, to all clusters of the first, until all have a partner. So partners
    are mutual in the first round only.

    Args:
        centers: (C, D) of length 1.
        of_clusters: (C,) modality of each cluster.
    """
    partners = torch.full((len(centers),), -1, dtype=torch.int64)
    sides = [torch.nonzero(of_clusters == modality)[:, 0] for modality in Modality]
    many, few = sides if len(sides[0]) >= len(sides[1]) else sides[::-1]
    if len(few) == 0:
        return partners
    cost = (-(centers[many] @ centers[few].T)).exp().double().numpy()
    left, first = np.arange(len(many)), True
    while len(left):
        rows, columns = _assigned(cost[left])
        partners[many[left[rows]]] = few[columns]
        if first:
            partners[few[columns]] = many[left[rows]]
        left, first = np.delete(left, rows), False
    return partners


def _assigned(cost: np.ndarray) -> Tuple[Any, Any]:
    """Return rows and columns of the assignment of least cost of a matrix (R, S)."""
    from scipy.optimize import linear_sum_assignment  # slow to load

    rows, columns = linear_sum_assignment(cost)
    return np.asarray(rows), torch.from_numpy(np.asarray(columns, np.int64))
