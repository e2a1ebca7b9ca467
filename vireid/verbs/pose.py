"""``vireid pose``: find key points in images, and compare them with others."""

import argparse
import logging
import sys

from ..verb import Verb, register, say

_SHOWN = 10  # images that cannot be read, of which the message is shown


@register
class Pose(Verb):
    """Find the joints of persons in images."""

    name = "pose"
    help = "find key points in images of persons, and write them to a file"
    description = """Find key points in images of persons, and write them to a file.

  vireid pose --images datasets/SYSU-MM01 --out datasets/SYSU-MM01/keypoints.npz
  vireid pose --images DIR --out keypoints.npz --model rtmpose.onnx
  vireid pose --images DIR --out keypoints.npz --against DIR/synthvi/index.csv

Each image shows one person, as a crop of re-identification does. The network is BlazePose, which is
fetched at the first use (36 MB for a moment) and needs the extra [pose]. Images that the file has
already are not looked at again. A training reads the file with INPUT.KEYPOINTS.READ all; see
docs/keypoints.md.

Exit status: 0: done; 1: some images cannot be read, the others are in the file; 2: not done, and
the message says why."""
    stopped = "Stopped. What was found is kept; the same command continues."
    stops_at_sigterm = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "--images",
            required=True,
            metavar="DIR",
            help="folder of the dataset; paths in the file are relative to it",
        )
        parser.add_argument("--out", required=True, metavar="FILE", help="file to write, .npz")
        parser.add_argument(
            "--model",
            default="blazepose",
            metavar="NAME",
            help="blazepose (default), or the path of an ONNX file of RTMPose with 17 joints",
        )
        parser.add_argument(
            "--against",
            metavar="FILE",
            help="also compare with the key points of another file, such as DIR/synthvi/index.csv",
        )
        parser.add_argument(
            "--batch", type=int, default=8, metavar="N", help="images at once; default 8"
        )
        parser.add_argument("--threads", type=int, metavar="N", help="threads of the network")
        parser.add_argument(
            "--overwrite", action="store_true", help="find the key points of all images again"
        )

    def run(self, args: argparse.Namespace) -> int:
        """Fill the file and, if asked for, compare it."""
        from vireid_plugins.errors import UserError
        from vireid_plugins.pose import (
            agreement_table,
            check_words,
            compare,
            fill,
            open_estimator,
        )
        from vireid_plugins.readers.keypoints_file import read_keypoints

        for name in ("batch", "threads"):
            value = getattr(args, name)
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}; expected a whole number from 1 on.")
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        check_words(args.images, args.out)  # before a network is fetched
        reference = read_keypoints(args.against) if args.against else None
        filled = fill(
            args.images,
            args.out,
            open_estimator(args.model, args.threads),
            batch=args.batch,
            overwrite=args.overwrite,
        )
        say(f"{filled.path}: key points of {filled.found:,} images found, {filled.kept:,} kept.")
        if filled.unsure:
            say(
                f"In {filled.unsure:,} images no joint has a confidence of 0.5: they may show "
                "nobody, or several persons."
            )
        if reference is not None:
            say(agreement_table(compare(read_keypoints(str(filled.path)), reference)))
        for line in filled.broken[:_SHOWN]:
            say(line)
        if filled.broken:
            say(f"{len(filled.broken):,} images cannot be read and are not in the file.")
        return 1 if filled.broken else 0
