"""One file per paper; ``base.py`` is what they share."""

from .base import DualStreamBaseline

__all__ = ["DualStreamBaseline"]
