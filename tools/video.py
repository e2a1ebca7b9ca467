#!/usr/bin/env python
"""Cut the persons out of a video, and measure models on them: ``vireid video``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid.cli import run_verb  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_verb("video", prog="tools/video.py"))
