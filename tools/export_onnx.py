#!/usr/bin/env python
"""Write a trained model as an ONNX file, compared with PyTorch: ``vireid export``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid.cli import run_verb  # noqa: E402

if __name__ == "__main__":
    sys.exit(run_verb("export", prog="tools/export_onnx.py"))
