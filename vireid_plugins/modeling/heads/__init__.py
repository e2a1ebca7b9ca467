"""Heads, which turn a feature map into training outputs, or into the feature for retrieval."""

from .bnneck_head import BNNeckHead
from .build import build_head, retrieval_features, training_outputs
from .stripe_head import StripeHead

__all__ = ["BNNeckHead", "StripeHead", "build_head", "retrieval_features", "training_outputs"]
