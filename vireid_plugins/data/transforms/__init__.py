"""Transforms of images, per modality, and the chains that they form."""
