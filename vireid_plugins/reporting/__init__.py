"""One page about a run: ``tools/report.py``."""
