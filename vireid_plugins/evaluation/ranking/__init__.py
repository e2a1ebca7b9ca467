"""Ranks and metrics of queries in a gallery."""
