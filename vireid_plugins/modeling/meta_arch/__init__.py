"""One file per paper; ``base.py`` is what they share."""

from .base import DualStreamBaseline
from .mrda import MRDA
from .mutual_prediction import MutualPrediction

__all__ = ["MRDA", "DualStreamBaseline", "MutualPrediction"]
