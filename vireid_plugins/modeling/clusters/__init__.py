"""What methods that learn from clusters share: memories of centers, matching across modalities."""

from .found import FoundClusters, centers_of, modality_of_clusters
from .matching import count_partners, graph_partners
from .memory import UPDATES, ClusterMemory
from .prototypes import aggregated, split_by_modality

__all__ = [
    "UPDATES",
    "ClusterMemory",
    "FoundClusters",
    "aggregated",
    "centers_of",
    "count_partners",
    "graph_partners",
    "modality_of_clusters",
    "split_by_modality",
]
