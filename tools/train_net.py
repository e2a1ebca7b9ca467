#!/usr/bin/env python
"""Train or evaluate: the command line of FastReID's ``tools/train_net.py``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid_plugins.train import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
