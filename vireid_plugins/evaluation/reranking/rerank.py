"""Re-ranking, which uses the neighbors of two images to compare them.

Shapes: Q queries, G gallery items, D features. The result of one query depends on the other queries
or on the whole gallery, so every printed line of results names what was used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..arguments import real_number, switch, word
from ..late_sparse import sparse
from ..similarity import Array, normalize
from .jaccard import (
    DEFINITIONS,
    checked_neighbors,
    jaccard_rows,
    k_reciprocal_encoding,
    mean_of_rows,
)
from .parameters import cpu_pair, set_fields, too_large

_BLOCK_ELEMENTS = 1 << 22
NEIGHBORS = ("all", "queries")


@dataclass(frozen=True)
class Reranking:
    """k-reciprocal re-ranking with its parameters, see :func:`k_reciprocal_rerank`.

    Raises:
        UserError: a parameter is out of range; the message names it.
    """

    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    definition: str = "original"
    cross_modality: bool = False
    neighbors: str = "all"

    def __post_init__(self) -> None:
        word(self.definition, "definition", DEFINITIONS)
        word(self.neighbors, "neighbors", NEIGHBORS)
        k1, k2 = checked_neighbors(self.k1, self.k2)
        values = {
            "k1": k1,
            "k2": k2,
            "lambda_value": real_number(self.lambda_value, "lambda_value", 0, 1),
            "cross_modality": switch(self.cross_modality, "cross_modality"),
        }
        set_fields(self, values)
        if self.cross_modality and self.neighbors == "queries":
            raise UserError(
                "Neighbors are taken from queries and gallery in turn (TEST.RERANK.CROSS_MODALITY "
                "True), or among the queries alone (TEST.RERANK.NEIGHBORS queries), not both: set "
                "CROSS_MODALITY False, or NEIGHBORS all."
            )

    def __str__(self) -> str:
        words = f"k1={self.k1} k2={self.k2} λ={self.lambda_value:g}"
        if self.definition != "original":
            words += f" {self.definition}"
        words += " cross-modality" if self.cross_modality else ""
        return words + (" neighbors among queries" if self.neighbors == "queries" else "")

    def distances(self, query: Tensor, gallery: Tensor) -> np.ndarray:
        """Return distances (Q, G) from features (Q, D) and (G, D)."""
        return k_reciprocal_rerank(
            query,
            gallery,
            self.k1,
            self.k2,
            self.lambda_value,
            definition=self.definition,
            cross_modality=self.cross_modality,
            neighbors=self.neighbors,
        )

    def remarks(self, num_gallery: int, num_query: int) -> List[str]:
        """Return a sentence for each parameter that is too large for a trial of that size."""
        values = {"TEST.RERANK.K1": self.k1, "TEST.RERANK.K2": self.k2}
        if self.neighbors == "queries":
            return too_large(num_query, values, "a trial has {} queries")
        return too_large(num_gallery, values)


@dataclass(frozen=True)
class AffinityInference:
    """Re-ranking by AIM, see :func:`affinity_inference`.

    Raises:
        UserError: a parameter is below 1.
    """

    k1: int = 20
    k2: int = 6

    def __post_init__(self) -> None:
        k1, k2 = checked_neighbors(self.k1, self.k2)
        set_fields(self, {"k1": k1, "k2": k2})

    def __str__(self) -> str:
        return f"AIM k1={self.k1} k2={self.k2}"

    def distances(self, query: Tensor, gallery: Tensor) -> np.ndarray:
        """Return distances (Q, G) from features (Q, D) and (G, D)."""
        return affinity_inference(query, gallery, self.k1, self.k2)

    def remarks(self, num_gallery: int, num_query: int) -> List[str]:
        """Return a sentence for each parameter that is too large for a gallery of that size."""
        return too_large(num_gallery, {"TEST.RERANK.K1": self.k1, "TEST.RERANK.K2": self.k2})


def k_reciprocal_rerank(
    query_features: Array,
    gallery_features: Array,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    *,
    definition: str = "original",
    cross_modality: bool = False,
    neighbors: str = "all",
) -> np.ndarray:
    """Return re-ranked distances from queries to gallery items (Zhong et al., CVPR 2017).

    Args:
        query_features: (Q, D); normalize them for distances by angle.
        gallery_features: (G, D).
        k1: neighbors that make an item's k-reciprocal set.
        k2: neighbors averaged by the local query expansion; 1: none.
        lambda_value: weight of the original distance against the Jaccard distance, 0 to 1.
        definition: the definition of the Jaccard distance, see ``jaccard.py``.
        cross_modality: queries are of one modality and gallery items of the other; neighbors
            are taken alternately from both sides, however far apart the modalities lie.
        neighbors: ``"all"``, or ``"queries"``: every item, a gallery item too, has queries alone as
            neighbors, as in the code of MPANet (and of IDKL) for SYSU-MM01. The encoding of a
            gallery item is then the mean of those of its k2 nearest queries.

    Returns:
        (Q, G) float32, ``(1 - lambda) * Jaccard + lambda * d``, where d is the squared Euclidean
        distance divided by the greatest one of the query's row.

    Raises:
        UserError: k1 or k2 is below 1, lambda is not in 0 to 1, features do not fit, or
            ``neighbors`` is unknown, or ``"queries"`` with ``cross_modality``.
    """
    checked = Reranking(k1, k2, lambda_value, definition, cross_modality, neighbors)
    query, gallery = cpu_pair(query_features, gallery_features)
    num_query = len(query)
    if num_query == 0 or len(gallery) == 0:
        return np.zeros((num_query, len(gallery)), dtype=np.float32)
    items = torch.cat([query, gallery])
    is_query = torch.arange(len(items), device=items.device) < num_query
    encoding = k_reciprocal_encoding(
        items,
        checked.k1,
        checked.k2,
        definition=definition,
        groups=is_query if cross_modality else None,
        allowed=is_query if neighbors == "queries" else None,
    )
    near = jaccard_rows(encoding.rows[:num_query], encoding.rows[num_query:])
    near.data = 1.0 - near.data  # nearness: 0 for a pair that is not stored, as in the dense form
    result = near.toarray()
    scale = torch.from_numpy(encoding.greatest[:num_query, None])
    _blend(result, query, gallery, scale, checked.lambda_value)
    return result


def _blend(
    nearness: np.ndarray, query: Tensor, gallery: Tensor, scale: Tensor, lambda_value: float
) -> None:
    """Turn nearness (Q, G) into re-ranked distances, in place and block by block.

    Args:
        nearness: 1 - Jaccard.
        query, gallery: (Q, D) and (G, D) features.
        scale: (Q, 1), the greatest squared distance of each query.
        lambda_value: weight of the original distance.
    """
    step = max(1, _BLOCK_ELEMENTS // len(gallery))
    wide = gallery.double()
    for begin in range(0, len(query), step):
        part = slice(begin, begin + step)
        distances = (_squared_distances(query[part].double(), wide) / scale[part]).numpy()
        nearness[part] = (1.0 - lambda_value) * (1.0 - nearness[part]) + lambda_value * distances


def affinity_inference(
    query_features: Array, gallery_features: Array, k1: int = 20, k2: int = 6
) -> np.ndarray:
    """Return distances by AIM, which adds the similarity of two neighborhoods to the cosine.

    Fang, Yang, Fu, *Visible-Infrared Person Re-Identification via Semantic Alignment and Affinity
    Inference*, ICCV 2023, as its public code (xiaoye-hhh/SAAI) computes it: the affinity of a query
    is its row of cosines to the gallery, of which the k1 largest are kept. That of a gallery item
    is the same, averaged over its k2 nearest gallery items. Both have length 1.

    The paper's settings (k1, k2) for SYSU-MM01: (4, 1) *all* single-shot, (2, 2) *indoor*
    single-shot, (20, 6) multi-shot; RegDB: (8, 2).

    Args:
        query_features: (Q, D).
        gallery_features: (G, D).
        k1: cosines that are kept, 1 or more; if there are fewer, all are kept.
        k2: gallery items averaged, 1 or more.

    Returns:
        (Q, G) float32 distances: the negative of the cosine plus the affinities' cosine.

    Raises:
        UserError: k1 or k2 is below 1, or features do not fit.
    """
    k1, k2 = checked_neighbors(k1, k2)
    query, gallery = (
        normalize(features) for features in cpu_pair(query_features, gallery_features)
    )
    if len(query) == 0 or len(gallery) == 0:
        return np.zeros((len(query), len(gallery)), dtype=np.float32)
    affinity, order = _largest(gallery, gallery, k1)
    nearest = order[:, :k2]
    averaged = _rows_of_length_1(mean_of_rows(nearest, len(gallery)) @ affinity).T.tocsr()
    expanded = _rows_of_length_1(_largest(query, gallery, k1)[0])
    result = np.empty((len(query), len(gallery)), np.float32)
    step = max(1, _BLOCK_ELEMENTS // len(gallery))
    for begin in range(0, len(query), step):
        part = slice(begin, begin + step)
        cosines = (query[part] @ gallery.T).numpy()
        result[part] = -(cosines + (expanded[part] @ averaged).toarray())
    return result


def _largest(query: Tensor, gallery: Tensor, k: int) -> Tuple[sparse.csr_matrix, np.ndarray]:
    """Return each row's k largest cosines, with all that equal the k-th, and their columns.

    Args:
        query: (Q, D) of length 1.
        gallery: (G, D) of length 1.
        k: if it exceeds G, all cosines are returned.

    Returns:
        The cosines, sparse (Q, G), and the columns of the k largest (Q, k) int64, largest first.
    """
    blocks, orders = [], []
    for part in query.split(max(1, _BLOCK_ELEMENTS // len(gallery))):
        cosines = part @ gallery.T
        values, order = cosines.topk(min(k, len(gallery)), dim=1)
        rows, columns = (cosines >= values[:, -1:]).nonzero(as_tuple=True)
        entries = (cosines[rows, columns].numpy(), (rows.numpy(), columns.numpy()))
        blocks.append(sparse.csr_matrix(entries, shape=cosines.shape))
        orders.append(order.numpy())
    return sparse.vstack(blocks, format="csr"), np.concatenate(orders)


def _rows_of_length_1(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.diags(1.0 / np.where(lengths > 0, lengths, 1.0)) @ matrix


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances (A, B) of float64 features, never below 0."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1)
    return squares.sub_(2.0 * (a @ b.T)).clamp_(min=0.0)
