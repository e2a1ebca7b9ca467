#!/usr/bin/env python
"""Write one page about a run: numbers, settings, curves, pictures: ``vireid report``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid.cli import run_verb  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_verb("report", prog="tools/report.py"))
