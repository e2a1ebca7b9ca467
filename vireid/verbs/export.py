"""``vireid export``: write a trained model as an ONNX file."""

import argparse
from pathlib import Path

from ..verb import Verb, register, say

SECONDS = 1.0  # length of each measurement of speed


@register
class Export(Verb):
    """Write an ONNX file."""

    name = "export"
    help = "write a trained model as an ONNX file, compared with PyTorch"
    description = """Write the network of a checkpoint as an ONNX file, compared with PyTorch.

  vireid export --weights model_final.pth --out model.onnx
  vireid export --weights model_final.pth --out visible.onnx --modality visible

Random images and, where the dataset is found, images of the test set are run by PyTorch and by
onnxruntime, in batches of 1 and 7. The file is written only if every feature is the same.

Exit status: 0: the file is written; 1: the graph gives other features than PyTorch; 2: the model
cannot be exported, or a word is wrong. Only 0 writes."""
    stopped = "Stopped; nothing was written."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "--weights",
            required=True,
            type=Path,
            metavar="FILE",
            help="a checkpoint of this package",
        )
        parser.add_argument(
            "--out", required=True, type=Path, metavar="FILE.onnx", help="the file to write"
        )
        parser.add_argument(
            "--modality",
            choices=("visible", "infrared"),
            help="a graph of this modality alone; default: each image's modality is an input",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Export the model."""
        from vireid_plugins.errors import report
        from vireid_plugins.onnx_export import DifferentFeaturesError, export_onnx

        try:
            export_onnx(args.weights, args.out, args.modality, seconds=SECONDS, say=say)
        except DifferentFeaturesError as error:
            report(error)
            return 1
        return 0
