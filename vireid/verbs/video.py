"""``vireid video``: cut the persons out of a video, and measure models on them."""

import argparse
import logging
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

from ..verb import Verb, register, say
from .render import image_size

_LEAST_HEIGHT = "height in pixels of the smallest person; default: 1/15 of the frame"


@register
class Video(Verb):
    """Cut the persons out of a video, and measure models on them."""

    name = "video"
    help = "cut the persons out of a video of a fixed camera, and measure models on them"
    description = """Cut the persons out of a video of a fixed camera, and measure models on them.

  vireid video square.avi --out logs/square
  vireid video square.avi --out logs/square \\
      --weights random:mobilenetv2 weights:mobilenetv2 logs/demo/model_final.pth
  vireid video FRAMES_DIR --fps 10 --out logs/square

For each model, an index of the crops is made, and rank-1 is reported: a crop of a person is the
query, and the persons of one other moment of the video are the gallery. Crops, indexes and networks
that are in the folder are used again.

Exit status: 0: done; 2: not done, and the message says why."""
    stopped = "Stopped. The same command continues: crops and features that are complete are kept."
    stops_at_sigterm = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument("video", type=Path, help="a video file, or a folder of its frames")
        parser.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="folder to write into"
        )
        parser.add_argument(
            "--weights",
            nargs="+",
            default=[],
            metavar="MODEL",
            help="what to measure: checkpoints, weights:NAME (pretrained; `vireid weights` lists "
            "the names), random:NAME or random:CHECKPOINT (the same network with random weights)",
        )
        parser.add_argument("--fps", type=float, help="frames per second; a folder needs it")
        parser.add_argument(
            "--every",
            type=float,
            default=0.5,
            metavar="SECONDS",
            help="time from one moment at which all persons are cut out to the next; default 0.5",
        )
        parser.add_argument("--min-height", type=float, metavar="PIXELS", help=_LEAST_HEIGHT)
        parser.add_argument(
            "--persons",
            type=Path,
            metavar="FILE",
            help="CSV file with the columns track,person, written by somebody who looked at the "
            "crops: which tracks are one person; default: each track is another person",
        )
        parser.add_argument(
            "--gaps",
            nargs="+",
            type=float,
            default=[1, 2, 4, 8],
            metavar="SECONDS",
            help="times between a query and its gallery; default 1 2 4 8",
        )
        parser.add_argument(
            "--seeds",
            type=int,
            default=5,
            metavar="N",
            help="networks for each random:...; default 5",
        )
        parser.add_argument(
            "--size",
            type=image_size,
            metavar="HxW",
            default="288x144",
            help="size of the images that random:NAME and weights:NAME take; default 288x144",
        )
        parser.add_argument("--device", default="cpu", help="such as cuda; default cpu")

    def run(self, args: argparse.Namespace) -> int:
        """Cut the video and measure the models."""
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        # What is said of each checkpoint that is opened, and of the letters of the figure.
        with _warnings_only("fastreid", "vireid_plugins.engine", "fontTools"):
            self._cut_and_measure(args)
        return 0

    def _cut_and_measure(self, args: argparse.Namespace) -> None:
        from vireid_plugins.video import (
            check_words,
            cut_video,
            measure,
            read_persons,
            table,
            write_rank1,
        )

        if args.weights:
            check_words(args.weights, args.gaps, args.seeds, args.device)
        cut = cut_video(
            args.video,
            args.out,
            fps=args.fps,
            every=args.every,
            min_height=args.min_height,
            progress=True,
        )
        say(
            f"{args.out}: {len(cut.sightings):,} crops of {cut.num_tracks} tracks, one person each "
            "(a person who was hidden in between has several)."
        )
        persons = read_persons(args.persons, cut) if args.persons else {}
        if not args.weights:
            say("To measure models, add --weights random:mobilenetv2 weights:mobilenetv2")
            return
        rows = measure(
            cut,
            args.weights,
            persons=persons,
            gaps=args.gaps,
            seeds=args.seeds,
            size=args.size,
            device=args.device,
            progress=True,
        )
        say(table(rows))
        picture, *_ = write_rank1(rows, args.out)
        say(f"Also in {args.out / 'results.json'}, and as a figure: {picture}")


@contextmanager
def _warnings_only(*names: str) -> Iterator[None]:
    """Let these loggers say warnings alone inside the ``with`` block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
