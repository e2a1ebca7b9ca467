"""Layers that more than one paper uses."""

from .bam import BAM
from .cbam import CBAM, ChannelAttention, SpatialAttention
from .csa import CSA
from .dynamic_attention import DynamicAttention
from .gem import MeanFloorPooling
from .iwpam import IWPAM
from .modality_classifiers import modality_classifiers
from .modality_removal import ModalityRemoval
from .mogrifier_lstm import MogrifierLSTM, MogrifierLSTMCell
from .non_local import NonLocal
from .part_interaction import PartInteraction
from .path_distance import (
    aligned_path_distances,
    candidate_path_distances,
    normalized_stripes,
    path_distances,
    shortest_path,
    stripe_distances,
)
from .stripes import split_stripes, stripe_heights, stripe_means, stripe_rows
from .structure import AttendedStructure, LearnedStructureMap, RelationNetwork
from .synergy import Synergy, SynergyModule

__all__ = [
    "BAM",
    "CBAM",
    "CSA",
    "IWPAM",
    "AttendedStructure",
    "ChannelAttention",
    "DynamicAttention",
    "LearnedStructureMap",
    "MeanFloorPooling",
    "ModalityRemoval",
    "MogrifierLSTM",
    "MogrifierLSTMCell",
    "NonLocal",
    "PartInteraction",
    "RelationNetwork",
    "SpatialAttention",
    "Synergy",
    "SynergyModule",
    "aligned_path_distances",
    "candidate_path_distances",
    "modality_classifiers",
    "normalized_stripes",
    "path_distances",
    "shortest_path",
    "split_stripes",
    "stripe_distances",
    "stripe_heights",
    "stripe_means",
    "stripe_rows",
]
