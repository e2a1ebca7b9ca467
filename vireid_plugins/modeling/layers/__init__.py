"""Layers that more than one paper uses."""

from .non_local import NonLocal

__all__ = ["NonLocal"]
