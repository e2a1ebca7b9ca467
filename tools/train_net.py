#!/usr/bin/env python
"""Train or evaluate: the command line of FastReID's ``tools/train_net.py``."""

import os
import sys
from pathlib import Path

# Threads that wait must sleep: spinning on a core that others use too makes a step five times
# slower on two cores. Read when PyTorch is loaded, so it is set first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid_plugins.train import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
