"""From features to labels: Jaccard distances, radius, DBSCAN.

N images, D features, C clusters.
"""

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...evaluation import jaccard_distance
from ...evaluation.reranking.jaccard import DEFINITIONS, ORDERS
from ...keys import SWITCH, Key, above, at_least, check_values, declare, one_of
from ...modality import Modality

WITHIN = ("all", "modality", "balanced")

declare(
    "CLUSTERS",
    Key("PERIOD", 1, at_least(1), "epochs between two clusterings; the first epoch always begins"),
    Key(
        "RADIUS",
        0.0,
        at_least(0, below=1),  # 1 would be reached by every pair, and not all pairs are stored
        "DBSCAN's radius, a Jaccard distance; 0: MMT's rule, once",
    ),
    Key("RADIUS_SHARE", 1.6e-3, above(0, at_most=1), "MMT's rule: share of pairs averaged (rho)"),
    Key("MIN_SAMPLES", 4, at_least(1), "DBSCAN: neighbors, itself included, that make a core"),
    Key("K1", 20, at_least(1), "neighbors of a k-reciprocal set"),
    Key("K2", 6, at_least(1), "neighbors averaged by local query expansion; 1: none"),
    Key("DEFINITION", "original", one_of(*DEFINITIONS), "Jaccard distance; softmax: FastReID's"),
    Key(
        "WITHIN", "all", one_of(*WITHIN), "cluster together, by modality, or with neighbors of both"
    ),
    Key(
        "BALANCED_ORDER",
        "turns",
        one_of(*ORDERS),
        "balanced: neighbors of both modalities take turns, or come by similarity (BMIL's code)",
    ),
    Key(
        "VISIBLE_SHARE",
        1.0,
        above(0, at_most=1),
        "share of the visible images that is clustered, drawn anew each time (BMIL: 0.5)",
    ),
    Key("NEW_OPTIMIZER", True, SWITCH, "the optimizer forgets its state at each clustering"),
    features=False,
)


@dataclass(frozen=True)
class Clustering:
    """Clusters of N images.

    Attributes:
        labels: (N,) int64 from 0; -1: outlier.
        radii: those of DBSCAN, of all labelings.
        others: further labelings of the same images, (N,) each.
        partners: (C,) the cluster of the other modality that a cluster of ``labels`` was matched
            with, -1: none; None: nothing was matched.
    """

    labels: np.ndarray
    radii: List[float]
    others: Tuple[np.ndarray, ...] = ()
    partners: Optional[np.ndarray] = None

    @property
    def num_clusters(self) -> int:
        """The number of clusters, C."""
        return int(self.labels.max(initial=-1)) + 1


@dataclass(frozen=True)
class Clusterer:
    """Find clusters by the keys of ``CLUSTERS``.

    Args:
        radius: of DBSCAN, a Jaccard distance; 0: the rule of MMT (``clustering.py``).
        share: of the pairs that the rule averages.
        min_samples: of DBSCAN.
        k1: see ``jaccard_distance``, as for k2 and ``definition``.
        k2: see there.
        definition: see there.
        within: ``"all"``: all images together; ``"modality"``: those of each modality for
            themselves, so that a cluster has one modality, and each has a radius; ``"balanced"``:
            together, with half of the neighbors from each modality.
        order: ``"balanced"``: see ``jaccard_distance``, ``group_order``.
        device: where to search for neighbors.
    """

    radius: float = 0.0
    share: float = 1.6e-3
    min_samples: int = 4
    k1: int = 20
    k2: int = 6
    definition: str = "original"
    within: str = "all"
    order: str = "turns"
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_values("CLUSTERS", RADIUS=self.radius, WITHIN=self.within)

    @classmethod
    def from_config(cls, cfg: Any) -> "Clusterer":
        """Read the arguments from ``CLUSTERS``."""
        node = cfg.CLUSTERS
        return cls(
            radius=node.RADIUS,
            share=node.RADIUS_SHARE,
            min_samples=node.MIN_SAMPLES,
            k1=node.K1,
            k2=node.K2,
            definition=node.DEFINITION,
            within=node.WITHIN,
            order=node.BALANCED_ORDER,
            device=cfg.MODEL.DEVICE,
        )

    def __call__(
        self, features: Tensor, modalities: np.ndarray, radii: Sequence[float] = ()
    ) -> Clustering:
        """Find the clusters of normalized features (N, D) of images with ``modalities`` (N,).

        Args:
            radii: those that the rule gave at an earlier clustering, which are kept; empty: there
                was none. They do not matter if ``radius`` is given.

        Raises:
            UserError: a feature is not finite, or there are too few images for the rule.
        """
        from ...clustering import cluster  # SciPy is slow to load

        labels = np.full(len(features), -1, np.int64)
        parts = [np.arange(len(features))]
        if self.within == "modality":
            parts = [np.flatnonzero(modalities == value) for value in np.unique(modalities)]
        balanced = self.within == "balanced" and len(np.unique(modalities)) > 1
        found: List[float] = []
        for place, rows in enumerate(parts):
            distances = jaccard_distance(
                features[torch.from_numpy(rows)],
                self.k1,
                self.k2,
                definition=self.definition,
                groups=modalities if balanced else None,
                group_order=self.order,
                device=self.device,
            )
            kept = self.radius or (radii[place] if place < len(radii) else 0.0)
            found.append(float(kept or _radius_by_rule(distances, self.share)))
            own = cluster(distances, found[-1], self.min_samples)
            own[own >= 0] += labels.max(initial=-1) + 1
            labels[rows] = own
        return Clustering(labels, found)


def _radius_by_rule(distances: Any, share: float) -> float:
    from ...clustering import automatic_radius

    try:
        return automatic_radius(distances, share)
    except UserError as error:
        raise UserError(
            f"CLUSTERS.RADIUS_SHARE: {error} (The radius is CLUSTERS.RADIUS.)"
        ) from error


def clustered_rows(
    modalities: np.ndarray, share: float, place: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the rows that are clustered: a share of the visible images, and all others.

    Args:
        modalities: (N,).
        share: above 0, at most 1; 1: all rows, and nothing is drawn.
        place: of the labeling. Each takes the next share of one shuffled list, from its beginning
            again where it ends, so that two labelings with half of the images have different ones.
        rng: draws the order.

    Returns:
        (M,) ascending.
    """
    visible = np.flatnonzero(modalities == Modality.VISIBLE)
    if share == 1 or len(visible) == 0:
        return np.arange(len(modalities))
    size = max(1, int(share * len(visible)))
    order = rng.permutation(visible)
    drawn = np.take(order, np.arange(place * size, (place + 1) * size), mode="wrap")
    return np.sort(np.concatenate([np.flatnonzero(modalities != Modality.VISIBLE), drawn]))


def largest(labels: np.ndarray, most: int) -> np.ndarray:
    """Return labels (N,) with at most ``most`` clusters: the largest; others become outliers.

    Of clusters of one size, those with the lower number stay. Numbers keep their order.
    """
    sizes = np.bincount(labels[labels >= 0])
    if len(sizes) <= most:
        return labels
    stay = np.sort(np.argsort(-sizes, kind="stable")[:most])
    numbers = np.full(len(sizes) + 1, -1, np.int64)  # the last one is that of outliers, -1
    numbers[stay] = np.arange(most)
    return numbers[labels]
