"""Scores of trials after query expansion, re-ranking, or both."""

from typing import Optional, Protocol

import numpy as np
import torch
from torch import Tensor

from ..ranking.scores import Scores, scores_of_features, scores_of_matrix
from ..similarity import normalize
from .expansion import QueryExpansion


class TrialReranking(Protocol):
    """Re-ranking, such as ``Reranking`` or ``AffinityInference``; its ``str`` names it."""

    def distances(self, query: Tensor, gallery: Tensor) -> np.ndarray:
        """Return distances (Q, G) from features (Q, D) and (G, D)."""


class RerankingScorer:
    """Scores that look at the whole trial: expanded features, re-ranked distances, or both.

    Args:
        features: (N, D) of every test image.
        metric: ``"cosine"`` or ``"euclidean"``.
        reranking: gives the distances; None: the distances of the (expanded) features are used.
        expansion: expands the features first; None: the features are not expanded.
    """

    pairwise = False  # every score depends on the other images of the trial

    def __init__(
        self,
        features: Tensor,
        metric: str,
        reranking: Optional[TrialReranking] = None,
        expansion: Optional[QueryExpansion] = None,
    ) -> None:
        self._features, self._metric = features, metric
        self._reranking, self._expansion = reranking, expansion

    def scores(self, query: np.ndarray, gallery: np.ndarray) -> Scores:
        """Return the scores that ``TrialScorer`` describes."""
        asked, found = (self._features[torch.from_numpy(rows)] for rows in (query, gallery))
        if self._metric == "cosine":
            asked, found = normalize(asked), normalize(found)
        if self._expansion:
            asked, found = self._expansion.expand(asked, found)
        if self._reranking is None:
            return scores_of_features(asked, found, self._metric)
        return scores_of_matrix(-self._reranking.distances(asked, found))
