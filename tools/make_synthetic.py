"""Render SynthVI, the synthetic dataset, in the layout of a real one.

python tools/make_synthetic.py --layout sysu --preset small --out datasets/SynthVI
FASTREID_DATASETS=datasets/SynthVI python tools/train_net.py --config-file ...
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid_plugins.synthvi import (  # noqa: E402
    LAYOUT_FOLDERS,
    PRESETS,
    make_settings,
    render_dataset,
    write_preview,
)


def whole_numbers(text: str, separator: str, meaning: str) -> Tuple[int, int]:
    """Two whole numbers joined by ``separator``, such as 288x144."""
    match = re.fullmatch(rf"(\d+){separator}(\d+)", text.strip(), re.IGNORECASE)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected {meaning}; got {text!r}")
    return int(match.group(1)), int(match.group(2))


def image_size(text: str) -> Tuple[int, int]:
    """HEIGHTxWIDTH in pixels."""
    return whole_numbers(text, "x", "HEIGHTxWIDTH in pixels, such as 288x144")


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layout", required=True, choices=LAYOUT_FOLDERS)
    parser.add_argument("--out", required=True, help="folder for the dataset's own folder")
    parser.add_argument("--preset", default="small", choices=PRESETS)
    parser.add_argument(
        "--ids", nargs="+", metavar="N", help="training and test identities: 96+48, or 96 48"
    )
    parser.add_argument("--images-per-camera", type=int, metavar="N")
    parser.add_argument("--size", type=image_size, metavar="HxW", help="pixels, such as 288x144")
    parser.add_argument(
        "--difficulty", type=float, default=1.0, help="0 tidy .. 1 as designed .. 3"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, help="processes; default: one per core where it pays")
    parser.add_argument("--overwrite", action="store_true", help="replace other SynthVI settings")
    parser.add_argument("--preview", metavar="PNG", help="also write a picture sheet")
    return parser


def parse_ids(parser: argparse.ArgumentParser, words: Optional[List[str]]):
    """``--ids`` as (train, test), or None."""
    if words is None:
        return None
    try:
        return whole_numbers("+".join(words), r"\+", "TRAIN+TEST, such as 96+48")
    except argparse.ArgumentTypeError as error:
        parser.error(f"--ids: {error}")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line; 0 if the dataset is there."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = make_parser()
    options = parser.parse_args(arguments)
    choice = {
        "ids": parse_ids(parser, options.ids),
        "images_per_camera": options.images_per_camera,
        "size": options.size,
        "difficulty": options.difficulty,
    }
    try:
        root = render_dataset(
            options.layout,
            options.out,
            options.preset,
            options.seed,
            options.jobs,
            overwrite=options.overwrite,
            **choice,
        )
    except (ValueError, FileExistsError) as error:
        parser.exit(2, f"make_synthetic: {error}\n")
    logging.info("SynthVI: %s", root)
    if options.preview:
        settings = make_settings(options.layout, options.preset, options.seed, **choice)
        logging.info("SynthVI: picture sheet %s", write_preview(options.preview, settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
