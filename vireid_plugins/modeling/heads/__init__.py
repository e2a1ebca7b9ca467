"""Heads: from a feature map to training outputs, or to the feature used for retrieval."""

from .bnneck_head import BNNeckHead
from .build import build_head, retrieval_features, training_outputs
from .stripe_head import StripeHead

__all__ = ["BNNeckHead", "StripeHead", "build_head", "retrieval_features", "training_outputs"]
