"""``vireid check-data``: is a dataset on this machine complete?"""

import argparse
import inspect
import sys
from typing import Any, Dict, Sequence

from ..verb import Verb, register

#: argument of a dataset's constructor -> the word that sets it
OPTIONS = {"trial": "--trial", "csv_file": "--csv"}


@register
class CheckData(Verb):
    """Check a dataset."""

    name = "check-data"
    help = "check a dataset: counts, missing and broken images"
    description = """Check a dataset on this machine.

  vireid check-data SYSUMM01
  vireid check-data RegDB --trial 2 --full
  vireid check-data csv --csv mine/list.csv DATASETS.CSV_SKIP_SAME_CAMERA False

Shows identities and images per camera and split beside the published counts, what is missing or
unreadable, and the page where the dataset is requested.

Exit status: 0: the dataset is usable; 1: it is not; 2: a word is wrong."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "name", metavar="NAME", help="a registered dataset, such as SYSUMM01, in any case"
        )
        parser.add_argument(
            "opts",
            nargs="*",
            metavar="KEY VALUE",
            help="pairs, as in a training: DATASETS.CSV_SKIP_SAME_CAMERA False",
        )
        parser.add_argument("--root", help="folder of all datasets; default $FASTREID_DATASETS")
        parser.add_argument("--full", action="store_true", help="decode every image")
        parser.add_argument("--trial", type=int, help="RegDB: which split, 1..10; default 1")
        parser.add_argument(
            "--csv", dest="csv_file", metavar="FILE", help="CSVDataset: the list of images"
        )
        parser.add_argument(
            "--allow-overlap",
            action="store_true",
            help="as DATASETS.ALLOW_OVERLAP True: training and test may share images and persons",
        )

    def parse(self, words: Sequence[str], prog: str) -> argparse.Namespace:
        """Read the words; KEY VALUE pairs may stand between options."""
        return self.make_parser(prog).parse_intermixed_args(words)

    def run(self, args: argparse.Namespace) -> int:
        """Check the dataset, and write the report."""
        from vireid_plugins.data.checks.dataset import check_dataset, dataset_class
        from vireid_plugins.data.datasets.build import dataset_root

        options = given_options(args, dataset_class(args.name))
        root = args.root or dataset_root()
        report = check_dataset(
            args.name,
            root,
            full=args.full,
            allow_overlap=args.allow_overlap,
            opts=args.opts,
            **options,
        )
        sys.stdout.write(f"{report}\n")
        return 0 if report.usable else 1


def given_options(args: argparse.Namespace, dataset: Any) -> Dict[str, Any]:
    """Return the arguments for the constructor of ``dataset``, a class, that the user gave.

    Raises:
        UserError: the dataset has no such option.
    """
    from vireid_plugins.errors import UserError

    options = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    for name in options:
        if name not in inspect.signature(dataset).parameters:
            raise UserError(f"{OPTIONS[name]} is not an option of {dataset.__name__}.")
    return options
