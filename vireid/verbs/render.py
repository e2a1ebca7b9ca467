"""``vireid render``: render SynthVI, the synthetic dataset, in the layout of a real one."""

import argparse
import logging
import re
import sys
from typing import Sequence, Tuple

from ..verb import Verb, register

LAYOUTS = ("sysu", "regdb", "llcm", "market", "duke")
PRESETS = ("tiny", "small", "medium", "sysu")


@register
class Render(Verb):
    """Render SynthVI."""

    name = "render"
    help = "render SynthVI, the synthetic dataset"
    description = """Render SynthVI, the synthetic dataset, in the layout of a real one.

  vireid render --layout sysu --preset small --out datasets/SynthVI
  FASTREID_DATASETS=datasets/SynthVI vireid train --config-file agw/synthetic.yml

A dataset that is there with the same settings is reused; an unfinished one is completed.

Exit status: 0: rendered; 2: not rendered, the message says why."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "--layout",
            required=True,
            choices=LAYOUTS,
            help="the dataset whose folders, cameras and file names it has; market and duke have "
            "visible images alone",
        )
        parser.add_argument("--out", required=True, help="folder for the dataset's own folder")
        parser.add_argument(
            "--preset",
            default="small",
            choices=PRESETS,
            help="how many people and images: tiny for tests, small for a training on a CPU "
            "(default), medium for tables of methods, sysu for the numbers of SYSU-MM01",
        )
        parser.add_argument(
            "--ids",
            nargs="+",
            metavar="N",
            help="training and test identities: 96+48, or 96 48",
        )
        parser.add_argument("--images-per-camera", type=int, metavar="N")
        parser.add_argument(
            "--size", type=image_size, metavar="HxW", help="pixels, such as 288x144"
        )
        parser.add_argument(
            "--difficulty", type=float, default=1.0, help="0 tidy .. 1 as designed .. 3"
        )
        parser.add_argument(
            "--infrared",
            nargs="+",
            metavar="SHARES",
            help="how near infrared is linked to the visible colors: the shares of cloth in dense, "
            "clear and free dyes, such as 0.5,0.3,0.2, or a name: linked (default: 0.5,0.3,0.2), "
            "dense (1,0,0), clear (0,1,0), free (0,0,1: nothing is linked, as before version 3); "
            "see docs/infrared.md",
        )
        parser.add_argument(
            "--seed", type=int, default=0, help="another seed: other people and places"
        )
        parser.add_argument(
            "--jobs", type=int, help="processes; default: one per core where it pays"
        )
        parser.add_argument(
            "--overwrite", action="store_true", help="replace other SynthVI settings"
        )
        parser.add_argument("--preview", metavar="PNG", help="also write a picture sheet")

    def parse(self, words: Sequence[str], prog: str) -> argparse.Namespace:
        """Read the words; ``ids`` becomes a pair, from one word or from two."""
        parser = self.make_parser(prog)
        args = parser.parse_args(words)
        if args.ids is not None:
            try:
                args.ids = whole_numbers("+".join(args.ids), r"\+", "TRAIN+TEST, such as 96+48")
            except argparse.ArgumentTypeError as error:
                parser.error(f"--ids: {error}")
        return args

    def run(self, args: argparse.Namespace) -> int:
        """Render the dataset and, if asked for, its picture sheet."""
        from vireid_plugins.synthvi import make_settings, render_dataset, write_preview

        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        names = ("ids", "images_per_camera", "size", "difficulty")
        choice = {name: getattr(args, name) for name in names}
        if args.infrared is not None:
            choice["infrared"] = " ".join(args.infrared)
        root = render_dataset(
            args.layout,
            args.out,
            args.preset,
            args.seed,
            args.jobs,
            overwrite=args.overwrite,
            **choice,
        )
        logging.info("SynthVI: %s", root)
        if args.preview:
            settings = make_settings(args.layout, args.preset, args.seed, **choice)
            logging.info("SynthVI: picture sheet %s", write_preview(args.preview, settings))
        return 0


def whole_numbers(text: str, separator: str, meaning: str) -> Tuple[int, int]:
    """Return two whole numbers that ``separator`` joins, as in 288x144."""
    match = re.fullmatch(rf"(\d+){separator}(\d+)", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected {meaning}; got {text!r}")
    return int(match.group(1)), int(match.group(2))


def image_size(text: str) -> Tuple[int, int]:
    """Return (height, width) in pixels, read from HEIGHTxWIDTH."""
    return whole_numbers(text, "x", "HEIGHTxWIDTH in pixels, such as 288x144")
