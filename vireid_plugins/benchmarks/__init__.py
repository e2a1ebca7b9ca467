"""Measure this package beside what it replaces; :func:`run_topic` runs one measurement."""

from .topics import run_topic

__all__ = ["run_topic"]
