"""Training, evaluation and feature extraction."""

from .feature_extractor import FeatureExtractor
from .trainer import VIReIDTrainer

__all__ = ["FeatureExtractor", "VIReIDTrainer"]
