"""Draw pictures of what a trained model does.

    python tools/plot.py KIND --config-file FILE MODEL.WEIGHTS FILE --out DIR
    python tools/plot.py KIND --help

Each writes PNG, PDF and the numbers behind them as CSV.
"""

import argparse
import logging
import sys
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional, Sequence

from ..engine.checks import make_output_folder
from ..engine.loading import WEIGHTS
from ..errors import PlotError, is_foreseen, message_of
from . import cam, curves, distances, embedding, maps, retrieval  # noqa: F401  register their kinds
from .kinds import KINDS, Kind, draw, find_kind
from .subject import Subject, load_subject

PACKAGE_LOG = "vireid_plugins"
# What a user of pictures wants to read: what was loaded, what was chosen.
_TOLD = (
    f"{PACKAGE_LOG}.plots",
    f"{PACKAGE_LOG}.drawing",
    f"{PACKAGE_LOG}.runs",
    f"{PACKAGE_LOG}.engine.checkpoint",
)
# A model's own keys: those that KEY VALUE pairs set for the first model only.
_OF_ONE_MODEL, _OF_ALL = ("MODEL.", "INPUT."), ("MODEL.DEVICE",)


def overview() -> argparse.ArgumentParser:
    """The command line without a kind."""
    width = max(map(len, KINDS), default=0) + 2
    kinds = "\n".join(f"  {name:{width}}{KINDS[name].help}" for name in sorted(KINDS))
    parser = argparse.ArgumentParser(
        prog="plot.py",
        usage="%(prog)s KIND [--help] ...",
        description=__doc__,
        epilog=f"kinds:\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def kind_parser(kind: Kind) -> argparse.ArgumentParser:
    """The command line of one kind; read it by ``parse_intermixed_args``."""
    parser = argparse.ArgumentParser(
        prog=f"plot.py {kind.name}", description=kind.help, allow_abbrev=False
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write into")
    if kind.needs_model:
        _add_model_arguments(parser, kind)
    kind.add_arguments(parser)
    return parser


def _add_model_arguments(parser: argparse.ArgumentParser, kind: Kind) -> None:
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="a path, or a file below configs/; default: the config that the checkpoint carries",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help=f"pairs; {WEIGHTS} names the checkpoint"
    )
    if kind.most_subjects > 1:
        parser.add_argument(
            "--compare",
            nargs=2,
            metavar=("CONFIG", "WEIGHTS"),
            help="another model beside it; CONFIG may be -: the one that its checkpoint carries. "
            "KEY VALUE pairs hold for both, but MODEL.* and INPUT.* (except MODEL.DEVICE) for "
            "the first only",
        )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME",
        help="of the model, and given again of the other; default: the checkpoint's folder",
    )


def load_subjects(args: argparse.Namespace) -> List[Subject]:
    """The model, and the one it is compared with.

    Raises:
        PlotError: as ``load_subject``; or the number of labels is another.
    """
    other = getattr(args, "compare", None)
    number = 2 if other else 1
    labels = args.label or [""] * number
    if len(labels) != number:
        raise PlotError(f"--label is given once for each of {number} models; got {labels}.")
    subjects = [load_subject(args.config_file, args.opts, labels[0])]
    if other:
        config_file, weights = other
        opts = [*_shared(args.opts), WEIGHTS, weights]
        subjects.append(load_subject("" if config_file == "-" else config_file, opts, labels[1]))
        _tell_apart(subjects)
    return subjects


def _shared(opts: Sequence[str]) -> List[str]:
    pairs = zip(opts[0::2], opts[1::2])
    kept = [p for p in pairs if p[0] in _OF_ALL or not p[0].startswith(_OF_ONE_MODEL)]
    return [word for pair in kept for word in pair]


def _tell_apart(subjects: Sequence[Subject]) -> None:
    """Two models of one folder, or of folders of one name, get a number."""
    if len({subject.label for subject in subjects}) < len(subjects):
        for number, subject in enumerate(subjects, start=1):
            subject.label = f"{subject.label} ({number})"


@contextmanager
def _log_to_console() -> Iterator[None]:
    """What concerns pictures goes to the standard output, and warnings of all else."""
    logger, told = logging.getLogger(PACKAGE_LOG), [logging.getLogger(name) for name in _TOLD]
    levels = [(one, one.level) for one in (logger, *told)]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    for one in told:
        one.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        for one, level in levels:
            one.setLevel(level)


def run(words: Sequence[str]) -> List[str]:
    """Draw what the words ask for; returns the paths written.

    Raises:
        PlotError: there is no such kind, or it cannot be drawn.
    """
    kind = find_kind(words[0])
    args = kind_parser(kind).parse_intermixed_args(words[1:])
    make_output_folder(args.out, "--out")
    with _log_to_console():
        subjects = load_subjects(args) if kind.needs_model else []
        return draw(kind, subjects, args, args.out)


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run the command line.

    Returns:
        0: written; 2: nothing can be drawn, the message says why; 130: interrupted.
    """
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0].startswith("-"):
        parser: Any = overview()
        if words and words[0] not in ("-h", "--help"):
            parser.error(f"the kind comes first; got {words[0]!r}")
        parser.print_help()
        return 0
    try:
        written = run(words)
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return 130
    except Exception as error:
        if not is_foreseen(error):
            raise
        sys.stderr.write(f"error: {message_of(error)}\n")
        return 2
    sys.stdout.write("".join(f"Written: {path}\n" for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
