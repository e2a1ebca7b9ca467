"""One file per paper; ``base.py`` is what they share."""

from .base import DualStreamBaseline
from .mrda import MRDA

__all__ = ["MRDA", "DualStreamBaseline"]
