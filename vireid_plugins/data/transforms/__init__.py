"""Transforms of images, which depend on the modality, and the chains that they form."""

from .base import Transform
from .chains import ModalityTransforms, build_transforms

__all__ = ["ModalityTransforms", "Transform", "build_transforms"]
