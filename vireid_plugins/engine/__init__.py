"""Training, evaluation and feature extraction."""

from .carrying import carry_config
from .converting import convert
from .feature_extractor import FeatureExtractor
from .trainer import VIReIDTrainer

__all__ = ["FeatureExtractor", "VIReIDTrainer", "carry_config", "convert"]
