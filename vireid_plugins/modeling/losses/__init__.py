"""Losses: registered classes with explicit arguments, each testable by its formula."""

from ...registry import LOSS_REGISTRY
from .base import Loss
from .build import LossTerms, build_losses, check_loss_names
from .cascaded_aggregation import CascadedAggregationLoss
from .center import CenterLoss
from .correlation import CorrelationConsistencyLoss
from .cross_entropy import LabelSmoothingCrossEntropyLoss
from .cross_modality_triplet import CrossModalityTripletLoss
from .discriminative_center import DiscriminativeCenterLoss
from .hetero_center import HeteroCenterTripletLoss
from .host import CircleLoss, Cosface, CrossEntropyLoss, FocalLoss, TripletLoss
from .intra_triplet import IntraModalityTripletLoss
from .mean_discrepancy import MeanDiscrepancyLoss
from .modality_aware import ModalityAwareCenterLoss, ModalityAwareIdentityLoss
from .modality_shared import ModalitySharedEnhancementLoss
from .modality_synergy import DiversityLoss, GlobalComplementLoss, LocalComplementLoss
from .path_triplet import PathTripletLoss
from .regional_center import RegionalCenterLoss
from .softmax_triplet import SoftmaxTripletLoss
from .triplet import BatchHardTripletLoss
from .unidirectional import UnidirectionalMetricLoss
from .weighted_triplet import WeightedTripletLoss

__all__ = [
    "LOSS_REGISTRY",
    "BatchHardTripletLoss",
    "CascadedAggregationLoss",
    "CenterLoss",
    "CircleLoss",
    "CorrelationConsistencyLoss",
    "Cosface",
    "CrossEntropyLoss",
    "CrossModalityTripletLoss",
    "DiscriminativeCenterLoss",
    "DiversityLoss",
    "FocalLoss",
    "GlobalComplementLoss",
    "HeteroCenterTripletLoss",
    "IntraModalityTripletLoss",
    "LabelSmoothingCrossEntropyLoss",
    "LocalComplementLoss",
    "Loss",
    "LossTerms",
    "MeanDiscrepancyLoss",
    "ModalityAwareCenterLoss",
    "ModalityAwareIdentityLoss",
    "ModalitySharedEnhancementLoss",
    "PathTripletLoss",
    "RegionalCenterLoss",
    "SoftmaxTripletLoss",
    "TripletLoss",
    "UnidirectionalMetricLoss",
    "WeightedTripletLoss",
    "build_losses",
    "check_loss_names",
]
