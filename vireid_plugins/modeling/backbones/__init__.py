"""Backbones with a stream per modality; FastReID's own backbones also work, with shared weights."""

from .dual_stream_resnet import DualStreamResNet, build_dual_stream_resnet_backbone

__all__ = ["DualStreamResNet", "build_dual_stream_resnet_backbone"]
