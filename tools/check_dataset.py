"""Check a dataset on this machine: ``python tools/check_dataset.py NAME [--full]``.

Prints identities, images per camera and split against the published counts, what is missing or
unreadable, and the page where the dataset is requested. Exit code 0: usable; 1: not; 2: the
command itself was wrong.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid_plugins.data.build import dataset_root  # noqa: E402
from vireid_plugins.data.checks.dataset import (  # noqa: E402
    ALIASES,
    DATASETS,
    check_dataset,
    dataset_class,
)


def parse_args(words: Optional[List[str]] = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    names = ", ".join([*DATASETS, *ALIASES])
    parser.add_argument("name", metavar="NAME", help=f"one of {names}, in any case")
    parser.add_argument("--root", help="folder of all datasets; default $FASTREID_DATASETS")
    parser.add_argument("--full", action="store_true", help="decode every image")
    parser.add_argument("--trial", type=int, help="RegDB: which split, 1..10; default 1")
    parser.add_argument("--csv", metavar="FILE", help="CSVDataset: the list of images")
    return parser.parse_args(words)


def dataset_options(args: argparse.Namespace) -> Dict[str, Any]:
    """Arguments of the dataset's constructor; ``ValueError`` for an option it does not have."""
    name = dataset_class(args.name).__name__
    options: Dict[str, Any] = {}
    for flag, value, owner, argument in (
        ("--trial", args.trial, "RegDB", "trial"),
        ("--csv", args.csv, "CSVDataset", "csv_file"),
    ):
        if value is not None and name != owner:
            raise ValueError(f"{flag} belongs to {owner}, not to {name}.")
        if value is not None:
            options[argument] = value
    return options


def main(words: Optional[List[str]] = None) -> int:
    """Run the check and return the exit code."""
    args = parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options = dataset_options(args)
        report = check_dataset(args.name, args.root or dataset_root(), full=args.full, **options)
    except (KeyError, ValueError) as error:
        sys.stderr.write(f"{error.args[0]}\n")
        return 2
    sys.stdout.write(f"{report}\n")
    return 0 if report.usable else 1


if __name__ == "__main__":
    sys.exit(main())
