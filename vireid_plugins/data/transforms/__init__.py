"""Transforms of images, which depend on the modality, and the chains that they form."""

from .chains import ModalityTransforms, build_transforms
from .plain import Transform

__all__ = ["ModalityTransforms", "Transform", "build_transforms"]
