"""Measurements of this package beside what it replaces; :func:`run_topic` runs one."""

from .topics import run_topic

__all__ = ["run_topic"]
