"""Losses: registered classes with explicit arguments, each testable by its formula."""

from ...registry import LOSS_REGISTRY
from .base import Loss
from .build import LossTerms, build_losses
from .center import CenterLoss
from .correlation import CorrelationConsistencyLoss
from .cross_entropy import LabelSmoothingCrossEntropyLoss
from .hetero_center import HeteroCenterTripletLoss
from .host import CircleLoss, Cosface, CrossEntropyLoss, FocalLoss, TripletLoss
from .regional_center import RegionalCenterLoss
from .triplet import BatchHardTripletLoss
from .weighted_triplet import WeightedTripletLoss

__all__ = [
    "LOSS_REGISTRY",
    "BatchHardTripletLoss",
    "CenterLoss",
    "CircleLoss",
    "CorrelationConsistencyLoss",
    "Cosface",
    "CrossEntropyLoss",
    "FocalLoss",
    "HeteroCenterTripletLoss",
    "LabelSmoothingCrossEntropyLoss",
    "Loss",
    "LossTerms",
    "RegionalCenterLoss",
    "TripletLoss",
    "WeightedTripletLoss",
    "build_losses",
]
