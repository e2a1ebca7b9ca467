"""``vireid search``: the words of ``index``, ``query`` and ``calibrate``."""

import argparse
from pathlib import Path

from ..verb import Verb, register

PRECISIONS = ("float32", "bfloat16", "float16")


@register
class Search(Verb):
    """Search in a folder of your own images."""

    name = "search"
    help = "search in a folder of your own images: index, query, calibrate"
    description = """Search in a folder of your own images by a trained model.

  vireid search index --weights FILE --images DIR --modality visible --out INDEX
  vireid search query INDEX --image night.jpg --modality infrared --save grid.png
  vireid search query INDEX --images NIGHT_DIR --modality infrared --csv found.csv
  vireid search calibrate INDEX

The same index command continues where it was interrupted, and brings the index up to date.

Exit status: 0: done; 1: done, but some images could not be read; 2: not done, with the reason."""
    stopped = "Stopped. The same index command continues where it was."
    stops_at_sigterm = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words of the three actions."""
        actions = parser.add_subparsers(
            dest="action", required=True, metavar="index|query|calibrate"
        )
        add_index_arguments(
            actions.add_parser("index", help="compute the features of all images below a folder")
        )
        add_query_arguments(
            actions.add_parser("query", help="find the images most similar to your own")
        )
        add_calibrate_arguments(
            actions.add_parser(
                "calibrate", help="compute a threshold for scores from labeled images, and keep it"
            )
        )

    def run(self, args: argparse.Namespace) -> int:
        """Do what the action says."""
        from ..searching import run_action

        return run_action(args)


def add_index_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``index``."""
    parser.add_argument("--weights", required=True, metavar="FILE", help="a checkpoint")
    parser.add_argument("--images", required=True, metavar="DIR", help="and all folders below it")
    add_modality(parser, "of all images")
    parser.add_argument("--out", required=True, metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "--index",
        dest="kind",
        default="",
        metavar="KIND",
        help="flat, hnsw, ivf-pq, or words of faiss's factory; default: flat, exact. Indexes of "
        "fewer than 10,000 images are always searched exactly",
    )
    for modality in ("visible", "infrared"):
        parser.add_argument(
            f"--{modality}-range",
            default="",
            metavar="LOW..HIGH",
            help=f"gray values of {modality} images of more than 8 bits that become black and "
            "white; default: those of the training, or else of each file",
        )
    add_keypoints(parser, "--images")
    add_model_arguments(parser, batch_size=64)


def add_query_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``query``."""
    parser.add_argument("index", metavar="INDEX", help="folder of the index")
    parser.add_argument("--image", nargs="+", default=[], metavar="FILE", help="one or several")
    parser.add_argument("--images", default="", metavar="DIR", help="all images below a folder")
    add_modality(parser, "modality of the queries; it is never guessed")
    parser.add_argument("--topk", type=int, default=10, metavar="K", help="default 10")
    parser.add_argument("--save", type=Path, metavar="FILE", help="a picture, .png or .pdf")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="a line for each result")
    parser.add_argument(
        "--threshold",
        default="auto",
        metavar="NUMBER",
        help="a cosine similarity; default auto: the one that calibrate computed, if it was run",
    )
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="default: the file that index used"
    )
    add_keypoints(parser, "--images")
    add_model_arguments(parser, batch_size=32)


def add_calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of ``calibrate``."""
    parser.add_argument("index", metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "--dataset", default="", metavar="NAME", help="default: the first the model was tested on"
    )
    parser.add_argument(
        "--weights", default="", metavar="FILE", help="default: the file that index used"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config keys")
    add_model_arguments(parser, batch_size=64)


def add_modality(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare ``--modality``, which is never guessed."""
    parser.add_argument("--modality", required=True, choices=("visible", "infrared"), help=what)


def add_keypoints(parser: argparse.ArgumentParser, images: str) -> None:
    """Declare the file of key points, for models that need them."""
    parser.add_argument(
        "--keypoints",
        default="",
        metavar="FILE",
        help="key points of the images, for a model that needs them (SPOT): vireid pose --images "
        f"DIR --out FILE makes it. Its paths are relative to its own folder, or to {images}",
    )


def add_model_arguments(parser: argparse.ArgumentParser, batch_size: int) -> None:
    """Declare how the model is run."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...; default cpu")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=PRECISIONS,
        help="numbers that the network computes in; default float32. The 16-bit ones are faster on "
        "hardware that has them, and their features differ slightly",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=batch_size,
        metavar="N",
        help=f"images that the network gets at once; default {batch_size}",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that read images; default 1"
    )
