#!/usr/bin/env python
"""Measure this package beside what it replaces: ``vireid bench memory``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid.cli import run_verb  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_verb("bench", ["memory", *sys.argv[1:]], prog="tools/bench.py"))
