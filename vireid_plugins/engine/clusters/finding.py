"""Find clusters by the features of a model: process 0 finds them, and all processes get them.

N images, D features.
"""

import logging
import time
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.utils import comm

from ...data.seeding import generator
from ...errors import UserError
from ...evaluation import extract_features
from ...modeling.clusters import FoundClusters
from .. import runtime
from .labels import Clusterer, Clustering, clustered_rows, largest

logger = logging.getLogger(__name__)

_SUBSETS = 3  # keeps the draw of the images that are clustered apart from other draws


class Search(NamedTuple):
    """How clusters are found, this time."""

    clusterer: Clusterer
    kinds: Sequence[str]  # of the labelings, values of CLUSTERS.WITHIN
    visible_share: float  # of the visible images, which is clustered
    draw: Tuple[int, int]  # what the choice of images follows from: seed and epoch
    radii: Sequence[float]  # of the clustering before
    most: int  # how many clusters there may be
    phase: str  # of the method


class Found(NamedTuple):
    """What was found."""

    clustering: Clustering
    handed: FoundClusters  # what a model is given of it
    modalities: np.ndarray  # (N,)
    seconds: Tuple[float, float]  # for features, for clusters


def find_clusters(model: Any, images: Any, search: Search) -> Found:
    """Return the clusters of all images; every process calls it.

    Args:
        model: the model.
        images: batches of all training images, each once, without augmentation.
        search: how they are found.

    Raises:
        UserError: images cannot be clustered, or clusters cannot be matched.
    """
    begin = time.perf_counter()
    with runtime.uncompiled_calls():
        found = extract_features(_ClusterFeatures(model), images)
    features = F.normalize(found.features.float(), dim=1)
    modalities = torch.from_numpy(found.modalities)
    extracted = time.perf_counter()
    result: Any = None
    if comm.is_main_process():
        result = cluster(features, found.modalities, search)
        if isinstance(result, Clustering):
            result = _matched(model, result, features, modalities, search.phase)
    result = comm.all_gather(result)[0]
    if isinstance(result, UserError):
        raise result
    seconds = extracted - begin, time.perf_counter() - extracted
    handed = _handed(result, features, modalities, search.phase)
    return Found(result, handed, found.modalities, seconds)


def cluster(features: Tensor, modalities: np.ndarray, search: Search) -> Any:
    """Return the clusters, or the error that every process then raises."""
    found: List[np.ndarray] = []
    used: List[float] = []
    for place, kind in enumerate(search.kinds):
        rng = generator(*search.draw, _SUBSETS)
        rows = clustered_rows(modalities, search.visible_share, place, rng)
        try:
            part = replace(search.clusterer, within=kind)(
                features[torch.from_numpy(rows)], modalities[rows], search.radii[len(used) :]
            )
        except UserError as error:
            return error
        labels = np.full(len(modalities), -1, np.int64)
        labels[rows] = _limited(part, search.most)
        found.append(labels)
        used += part.radii
    return Clustering(found[0], used, tuple(found[1:]))


def _limited(found: Clustering, most: int) -> np.ndarray:
    """Return the labels of a clustering, with at most as many clusters as there may be."""
    labels = largest(found.labels, most)
    if labels is not found.labels:
        logger.warning(
            "%d clusters were found: the %d largest are kept (MODEL.HEADS.NUM_CLASSES), and "
            "the images of the others count as outliers.",
            *(found.num_clusters, most),
        )
    return labels


def _matched(
    model: Any, found: Clustering, features: Tensor, modalities: Tensor, phase: str
) -> Any:
    """Return the clusters with their partners, if the model matches them, or an error."""
    if not hasattr(model, "match_clusters"):
        return found
    try:
        partners = model.match_clusters(_handed(found, features, modalities, phase))
    except UserError as error:
        return error
    return found if partners is None else replace(found, partners=partners.numpy())


def _handed(found: Clustering, features: Tensor, modalities: Tensor, phase: str) -> FoundClusters:
    """Return what a model is given of a clustering."""
    labels = [torch.from_numpy(one) for one in (found.labels, *found.others)]
    partners = None if found.partners is None else torch.from_numpy(found.partners)
    return FoundClusters(features, modalities, labels, phase, partners)


class _ClusterFeatures(nn.Module):
    """A model that returns the features by which its images are clustered."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Dict[str, Any]) -> Tensor:
        own = getattr(self.model, "cluster_features", self.model)
        features: Tensor = own(batch)
        return features
