"""The version of the package: read by setup.py without importing anything, and by the package."""

__version__ = "0.1.0"
