"""Histograms of the distances between features of one person and between those of two persons.

A test set has far too many pairs to keep them all, so they are counted into bins, block by block.

Shapes: N test images, D features, R x C pairs of a set, B bins.
"""

from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..modality import Modality
from .arguments import MOST_PLACES, array_of, device_named, real_number, shown, whole_number
from .features import TestFeatures
from .pair_histogram import EqualErrorPoint, PairHistogram, equal_error_threshold
from .protocols import Protocol
from .ranking.arguments import device_of
from .rules import RankRules
from .similarity import as_features, check_metric, normalize, products

__all__ = [
    "COSINE_RANGE",
    "EqualErrorPoint",
    "PairHistogram",
    "PairSet",
    "count_pairs",
    "equal_error_threshold",
    "greatest_distance",
    "pair_sets",
    "prepare_features",
]

_BLOCK_ELEMENTS = 1 << 20  # pairs at once: about 30 MB
COSINE_RANGE = 2.0  # the greatest cosine distance, 1 - cos


@dataclass(frozen=True)
class PairSet:
    """Pairs of test images.

    Attributes:
        name: in words, such as ``"visible-infrared"``.
        rows: (R,) rows of the test list.
        columns: (C,) rows of the test list; every row makes a pair with every column.
        within: rows and columns are the same images: each pair counts once, and no image makes a
            pair with itself.
        rules: which pairs are never compared; the row is the query, the column the gallery image.
    """

    name: str
    rows: np.ndarray
    columns: np.ndarray
    within: bool = False
    rules: RankRules = RankRules()


def pair_sets(features: TestFeatures, dataset: Any, protocol: Protocol) -> List[PairSet]:
    """Return the pairs of a test set: within each modality, and across the modalities.

    Within a modality these are all pairs of different images. Across, they are the pairs of each
    query with the whole other modality, without those that the protocol never compares. A dataset
    without modalities has one set: the queries with the gallery.

    Args:
        features: only their labels are read.
        dataset: has ``query`` and ``gallery``.
        protocol: gives the rules, and the direction in which they hold.
    """
    rules = protocol.rules()
    kinds = [np.flatnonzero(features.modalities == modality) for modality in Modality]
    if not any(map(len, kinds)):
        num_query = len(dataset.query)
        gallery = num_query + np.arange(len(dataset.gallery))
        return [PairSet("query-gallery", np.arange(num_query), gallery, rules=rules)]
    found = [
        PairSet(f"{modality.label}-{modality.label}", rows, rows, True)
        for modality, rows in zip(Modality, kinds)
        if len(rows) > 1
    ]
    if all(map(len, kinds)):
        # The rules speak of query and gallery cameras, so the rows must be the queries.
        query = protocol.direction.split("_to_")[0]
        rows, columns = kinds if query == Modality.VISIBLE.label else kinds[::-1]
        found.append(PairSet("visible-infrared", rows, columns, rules=rules))
    return found


def prepare_features(features: Any, metric: str, device: str = "cpu") -> Tensor:
    """Return features (N, D) as ``count_pairs`` needs them: of length 1 for the cosine."""
    check_metric(metric)
    rows = as_features(features, "features", device_named(device))
    return normalize(rows) if metric == "cosine" else rows


def greatest_distance(features: Tensor, metric: str) -> float:
    """Return a bound that no distance between two rows of ``features`` exceeds.

    For the cosine it is 2; otherwise it is twice the greatest distance from the center.
    """
    if metric == "cosine":
        return COSINE_RANGE
    center = features.double().mean(0)
    parts = features.split(512)
    farthest = max(float((part.double() - center).norm(dim=1).max()) for part in parts)
    return 2.0 * farthest * (1 + 1e-6) or 1.0


def count_pairs(
    features: Tensor,
    targets: np.ndarray,
    camids: np.ndarray,
    pairs: PairSet,
    *,
    metric: str = "cosine",
    upper: float = COSINE_RANGE,
    bins: int = 20000,
    advance: Optional[Callable[[int], Any]] = None,
) -> PairHistogram:
    """Count the distances of a set of pairs into bins, a block of pairs at a time.

    Args:
        features: (N, D) from ``prepare_features``.
        targets: (N,) identities.
        camids: (N,) camera numbers.
        pairs: the pairs to count.
        metric: ``"cosine"``: 1 - cos; ``"euclidean"``: Euclidean distances.
        upper: the greatest distance, from ``greatest_distance``; the bins divide 0 to ``upper``.
        bins: B; the ROC curve and its threshold are as fine as the bins.
        advance: called with the number of pairs that have just been counted.

    Raises:
        UserError: an argument does not fit; the message names it.
    """
    check_metric(metric)
    bins = whole_number(bins, "bins", 1, MOST_PLACES)
    upper = real_number(upper, "upper", 0)
    if upper == 0:
        raise UserError("upper must be above 0: it is the greatest distance that is counted.")
    features, targets, camids = _checked(features, targets, camids, pairs)
    device = features.device
    block = _Block(features, torch.as_tensor(targets, device=device), camids, pairs, metric)
    counts = torch.zeros(2 * bins + 1, dtype=torch.int64, device=device)
    sums, skipped, begin = np.zeros(2), 0, 0
    while begin < len(pairs.rows):
        first = begin if pairs.within else 0
        step = max(1, _BLOCK_ELEMENTS // max(1, len(pairs.columns) - first))
        end = min(begin + step, len(pairs.rows))
        distances, same, shown = block.distances(begin, end)
        codes = (distances * (bins / upper)).long().clamp_(0, bins - 1)
        codes.add_(same.long(), alpha=bins).masked_fill_(~shown, 2 * bins)
        counts += torch.bincount(codes.flatten(), minlength=len(counts))
        for place, chosen in enumerate((shown & ~same, shown & same)):
            sums[place] += float((distances * chosen).sum(dtype=torch.float64))
        skipped += block.skipped
        if advance is not None:
            advance((end - begin) * (len(pairs.columns) - first))
        begin = end
    found_other, found_same = (counts[i * bins : (i + 1) * bins].cpu().numpy() for i in (0, 1))
    other_mean, same_mean = (
        float(total / number) if number else float("nan")
        for total, number in zip(sums, (found_other.sum(), found_same.sum()))
    )
    edges = np.linspace(0.0, upper, bins + 1)
    return PairHistogram(edges, found_same, found_other, same_mean, other_mean, skipped)


def _checked(
    features: Any, targets: Any, camids: Any, pairs: Any
) -> Tuple[Tensor, np.ndarray, np.ndarray]:
    """Return features, targets from 0, and cameras, all of N images."""
    if not isinstance(pairs, PairSet):
        raise UserError(f"pairs must be a PairSet, from pair_sets; got {shown(pairs)}.")
    features = as_features(features, "features", device_of(None, features))
    labels = []
    for name, values in (("targets", targets), ("camids", camids)):
        labels.append(array_of(values, name))
        if labels[-1].shape != (len(features),):
            raise UserError(
                f"{name} has shape {labels[-1].shape}, but features has {len(features)} rows."
            )
    return features, np.unique(labels[0], return_inverse=True)[1], labels[1]


class _Block:
    """Computes distances of some rows of a pair set with its columns, and which of them count."""

    def __init__(
        self, features: Tensor, targets: Tensor, camids: np.ndarray, pairs: PairSet, metric: str
    ) -> None:
        self._pairs, self._metric, self.skipped = pairs, metric, 0
        device = features.device
        self._cameras = [
            torch.as_tensor(camids[rows], device=device) for rows in (pairs.rows, pairs.columns)
        ]
        rows, columns = (torch.as_tensor(r, device=device) for r in (pairs.rows, pairs.columns))
        self._features = features[rows], features[columns]
        self._targets = targets[rows], targets[columns]

    def distances(self, begin: int, end: int) -> Tuple[Tensor, Tensor, Tensor]:
        """Return for the pairs of the rows from ``begin`` to ``end`` three matrices.

        They are the distances, whether both images show one identity, and whether the pair counts.
        """
        first = begin if self._pairs.within else 0
        rows, columns = self._features[0][begin:end], self._features[1][first:]
        same = self._targets[0][begin:end, None] == self._targets[1][None, first:]
        cameras = self._cameras[0][begin:end, None], self._cameras[1][None, first:]
        shown = ~self._pairs.rules.hides(same, *cameras)
        self.skipped = int((~shown).sum())
        if self._pairs.within:  # each pair once: only columns behind the row's own
            shown = shown.triu(diagonal=1)
        return self._measured(rows, columns), same, shown

    def _measured(self, rows: Tensor, columns: Tensor) -> Tensor:
        if self._metric == "cosine":
            return (1.0 - products(rows, columns)).clamp_(min=0.0)
        rows, columns = rows.double(), columns.double()
        squares = products(rows, columns).mul_(-2.0)
        squares += rows.square().sum(1)[:, None]
        squares += columns.square().sum(1)[None, :]
        return squares.clamp_(min=0.0).sqrt_()
