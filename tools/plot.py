#!/usr/bin/env python
"""Draw pictures of what a trained model does: t-SNE, distances, curves, ..."""

import os
import sys
from pathlib import Path

# As tools/train_net.py: threads that wait must sleep, and PyTorch reads this when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid_plugins.plots.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
