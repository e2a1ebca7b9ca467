"""Write the network of a checkpoint as an ONNX file, after comparing it with PyTorch.

    python tools/export_onnx.py --weights model_final.pth --out model.onnx
    python tools/export_onnx.py --weights model_final.pth --out visible.onnx --modality visible

Random images and, where the dataset is found, images of the test set are run by PyTorch and by
onnxruntime, in batches of 1 and 7. The file is written only if every feature is the same.
"""

import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence

from ..modality import Modality
from .export import DifferentFeaturesError, export_onnx
from .graph import ExportError

SECONDS = 1.0  # of each measurement of speed


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="export_onnx.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--weights", required=True, type=Path, metavar="FILE", help="a checkpoint of this package"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.onnx")
    parser.add_argument(
        "--modality",
        choices=[one.label for one in Modality],
        help="a graph of this modality alone; default: each image's modality is an input",
    )
    return parser


def say(text: str) -> None:
    """A line for the user, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run the command line.

    Returns:
        0: the file is written; 1: the graph gives other features than PyTorch; 2: it cannot be
        exported, the message says why; 130: interrupted. Only 0 writes.
    """
    args = argument_parser().parse_args(words)
    try:
        export_onnx(args.weights, args.out, args.modality, seconds=SECONDS, say=say)
    except ExportError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 1 if isinstance(error, DifferentFeaturesError) else 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; nothing was written.\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
