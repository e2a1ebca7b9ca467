"""Distances and features that look at more than one pair of images."""
