"""What methods that learn from clusters share: memories of centers, matching across modalities."""

from .found import FoundClusters, centers_of, modality_of_clusters
from .links import Links
from .matching import count_partners, graph_partners
from .memory import UPDATES, ClusterMemory
from .prototypes import aggregated, split_by_modality
from .stages import Stages, stage_of

__all__ = [
    "UPDATES",
    "ClusterMemory",
    "FoundClusters",
    "Links",
    "Stages",
    "aggregated",
    "centers_of",
    "count_partners",
    "graph_partners",
    "modality_of_clusters",
    "split_by_modality",
    "stage_of",
]
