"""Backbones with a stream per modality; FastReID's own backbones also work, with shared weights."""

from .dual_stream import DualStreamBackbone, build_dual_stream_backbone
from .dual_stream_resnet import DualStreamResNet, build_dual_stream_resnet_backbone

__all__ = [
    "DualStreamBackbone",
    "DualStreamResNet",
    "build_dual_stream_backbone",
    "build_dual_stream_resnet_backbone",
]
