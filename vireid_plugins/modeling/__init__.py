"""Backbones, heads, losses and one meta-architecture per paper."""

from . import backbones, heads, layers, losses, meta_arch
from .maps import map_names, recorded_maps

__all__ = ["backbones", "heads", "layers", "losses", "map_names", "meta_arch", "recorded_maps"]
