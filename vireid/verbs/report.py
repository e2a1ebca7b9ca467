"""``vireid report``: write one page about a run."""

import argparse
from typing import Sequence

from ..verb import Verb, register, say

_LARGE = 6_000_000  # bytes; mail programs and browsers take less without difficulty


@register
class Report(Verb):
    """Write a page about a run."""

    name = "report"
    help = "write one page about a run: settings, numbers, pictures"
    description = """Write one page about a run: what was run, its numbers, its pictures.

  vireid report LOG_DIR [--out report.html] [KEY VALUE ...]

The page is one file: it opens without a server, without a network, and on another machine.

Exit status: 0: written; 1: written, but a picture failed by an error of the program; 2: nothing
was written, the message says why."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.allow_abbrev = False
        parser.add_argument("folder", metavar="LOG_DIR", help="a run's OUTPUT_DIR")
        parser.add_argument(
            "opts",
            nargs="*",
            metavar="KEY VALUE",
            help="pairs over the run's config: MODEL.DEVICE cpu",
        )
        parser.add_argument("--out", metavar="FILE", help="default: LOG_DIR/report.html")
        parser.add_argument(
            "--figures",
            metavar="DIR",
            help="where PNG, PDF and CSV files go; default: figures beside the page",
        )
        parser.add_argument(
            "--weights", default="", metavar="FILE", help="a checkpoint; default: the run's last"
        )
        parser.add_argument("--no-model", action="store_true", help="show only what needs no model")
        parser.add_argument(
            "--skip",
            nargs="+",
            default=[],
            metavar="KIND",
            help="kinds of pictures to leave out; `vireid plot` lists them",
        )
        parser.add_argument(
            "--queries", type=int, default=8, metavar="N", help="hardest ones shown; default 8"
        )
        parser.add_argument("--title", default="", help="default: the folder's name")

    def parse(self, words: Sequence[str], prog: str) -> argparse.Namespace:
        """Read the words; KEY VALUE pairs may stand between options."""
        return self.make_parser(prog).parse_intermixed_args(words)

    def run(self, args: argparse.Namespace) -> int:
        """Write the page."""
        from vireid_plugins.reporting import write_report
        from vireid_plugins.reporting.sections import size_words

        report = write_report(
            args.folder,
            out=args.out,
            figures=args.figures,
            weights=args.weights,
            with_model=not args.no_model,
            skip=args.skip,
            queries=args.queries,
            title=args.title,
            opts=args.opts,
            say=say,
        )
        say(f"Written: {report.page} ({size_words(report.size)})")
        if report.size > _LARGE:
            say("  That is large for one page; --skip KIND and --queries N make it smaller.")
        return 1 if report.failed else 0
