"""Backbones with a stream per modality; FastReID's own backbones also work, with shared weights."""

from .crossvit import DualStreamCrossViT, build_crossvit_backbone
from .dual_stream import DualStreamBackbone, build_dual_stream_backbone
from .dual_stream_resnet import DualStreamResNet, build_dual_stream_resnet_backbone
from .dual_stream_timm import build_dual_stream_timm_backbone
from .dual_stream_vit import DualStreamViT

__all__ = [
    "DualStreamBackbone",
    "DualStreamCrossViT",
    "DualStreamResNet",
    "DualStreamViT",
    "build_crossvit_backbone",
    "build_dual_stream_backbone",
    "build_dual_stream_resnet_backbone",
    "build_dual_stream_timm_backbone",
]
