"""Heads, which turn a feature map into training outputs, or into the feature for retrieval."""

from .bnneck_head import BNNeckHead
from .build import build_head, retrieval_features, training_outputs
from .evaluated import check_choice
from .hct_head import HCTHead
from .hicmd_head import HiCMDHead
from .mrda_head import MRDAHead
from .stripe_head import StripeHead

__all__ = [
    "BNNeckHead",
    "HCTHead",
    "HiCMDHead",
    "MRDAHead",
    "StripeHead",
    "build_head",
    "check_choice",
    "retrieval_features",
    "training_outputs",
]
