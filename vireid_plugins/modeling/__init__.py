"""Backbones, heads, losses and one meta-architecture per paper."""

from . import backbones, heads, layers, losses, meta_arch

__all__ = ["backbones", "heads", "layers", "losses", "meta_arch"]
