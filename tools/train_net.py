#!/usr/bin/env python
"""Train or evaluate, with the words of FastReID's ``tools/train_net.py``: ``vireid train``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid.cli import run_verb  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_verb("train", prog="tools/train_net.py"))
