"""``vireid bench compare`` and ``vireid bench keep``: what is done with results of topics."""

import argparse
from typing import Callable, Dict, NamedTuple

from .verb import say


class Command(NamedTuple):
    """A word after ``bench`` that measures nothing."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # returns the exit status


def _compare_words(parser: argparse.ArgumentParser) -> None:
    parser.description = """Say what became slower beyond the spread of both results. Without OLD:
the newest version in docs/performance. Without NEW: logs/bench. Exit status: 0: nothing became
slower; 1: something did; 2: nothing could be compared."""
    parser.usage = "%(prog)s [--fractions] [[OLD] NEW]"
    parser.add_argument(
        "paths", nargs="*", default=[], metavar="PATH", help="a JSON file, or a folder of them"
    )
    parser.add_argument(
        "--fractions",
        action="store_true",
        default=False,
        help="show fractions of the limit, also of other machines; nothing is judged",
    )


def _compare(args: argparse.Namespace) -> int:
    from vireid_plugins.benchmarks.comparing import compare
    from vireid_plugins.errors import UserError

    if len(args.paths) > 2:
        raise UserError(f"Expected at most two paths, OLD and NEW; got {len(args.paths)}.")
    old, new = ["", "", *args.paths][-2:]
    found = compare(old, new, args.fractions)
    say(found.text.rstrip("\n"))
    return 1 if found.slower else 0


def _keep_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", default="", metavar="DIR", help="results; default: logs/bench"
    )


def _keep(args: argparse.Namespace) -> int:
    from pathlib import Path

    from vireid_plugins.benchmarks.measuring import OUT
    from vireid_plugins.benchmarks.results import keep

    say(f"Written: {keep(Path(args.folder or OUT))}")
    return 0


COMMANDS: Dict[str, Command] = {
    "compare": Command("what became slower since a kept result", _compare_words, _compare),
    "keep": Command("keep results as those of this version", _keep_words, _keep),
}
