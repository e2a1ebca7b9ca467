"""Query expansion: each feature becomes a mean over its neighbors, before anything is ranked.

Shapes: Q queries, G gallery items, D features.
"""

import math
from dataclasses import dataclass
from typing import List, Tuple

import torch
from torch import Tensor

from ...errors import UserError
from ..arguments import real_number, whole_number
from ..similarity import Array, normalize
from .parameters import cpu_pair, set_fields, too_large

_BLOCK_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class QueryExpansion:
    """Query expansion with its parameters, before ranking: see :func:`expand_features`.

    Raises:
        UserError: a parameter is out of range; the message names it.
    """

    k: int = 5
    alpha: float = 3.0
    times: int = 1

    def __post_init__(self) -> None:
        k, times = (whole_number(getattr(self, n), n, -math.inf) for n in ("k", "times"))
        alpha = real_number(self.alpha, "alpha", -math.inf)
        if min(k, times) < 1 or alpha < 0:
            raise UserError(
                "Query expansion needs k and times of at least 1 and alpha of at least 0; got "
                f"k={self.k!r}, alpha={self.alpha!r}, times={self.times!r}."
            )
        set_fields(self, {"k": k, "alpha": alpha, "times": times})

    def __str__(self) -> str:
        repeated = f" {self.times} times" if self.times > 1 else ""
        return f"AQE k={self.k} α={self.alpha:g}{repeated}"

    def expand(self, query: Tensor, gallery: Tensor) -> Tuple[Tensor, Tensor]:
        """Return features (Q, D) and (G, D) expanded, of length 1."""
        return expand_features(query, gallery, self.k, self.alpha, self.times)

    def remarks(self, num_gallery: int, num_query: int) -> List[str]:
        """Return a sentence for each parameter that is too large for a gallery of that size."""
        return too_large(num_gallery, {"TEST.AQE.QE_K": self.k})


def expand_features(
    query_features: Array, gallery_features: Array, k: int = 5, alpha: float = 3.0, times: int = 1
) -> Tuple[Tensor, Tensor]:
    """Expand the features of queries and gallery by alpha query expansion.

    Radenovic, Tolias, Chum, *Fine-tuning CNN Image Retrieval with No Human Annotation*, TPAMI
    2019, as FastReID's ``aqe`` computes it: the new feature of an image is the mean of the features
    of its k nearest images (itself among them), each weighted by its cosine to the power ``alpha``.
    With ``alpha`` 0 it is average expansion (Chum et al., ICCV 2007).

    Args:
        query_features: (Q, D).
        gallery_features: (G, D).
        k: images averaged, 1 or more; if there are fewer images, all are averaged.
        alpha: power of the weights, 0 or more. Negative cosines count as 0.
        times: how often to expand, 1 or more.

    Returns:
        (Q, D) and (G, D) of length 1.

    Raises:
        UserError: a number is out of range, or features do not fit.
    """
    checked = QueryExpansion(k, alpha, times)
    k, alpha, times = checked.k, checked.alpha, checked.times
    query, gallery = cpu_pair(query_features, gallery_features)
    items = unit = normalize(torch.cat([query, gallery]))
    for _ in range(times if len(items) else 0):
        expanded = torch.empty_like(items)
        step = max(1, _BLOCK_ELEMENTS // max(len(items), k * items.shape[1]))
        for begin in range(0, len(items), step):
            cosines = unit[begin : begin + step] @ unit.T
            values, found = cosines.topk(min(k, len(items)), dim=1)
            weights = values.clamp_(min=0.0).pow_(alpha)
            expanded[begin : begin + step] = (weights[..., None] * items[found]).sum(1)
        items, unit = expanded, normalize(expanded)
    return unit[: len(query)], unit[len(query) :]
