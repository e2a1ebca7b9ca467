"""``vireid plot``: draw pictures of what a trained model does."""

import argparse
import logging
import sys
from contextlib import contextmanager
from typing import Any, Iterator, Sequence

from ..verb import Parser, Verb, register, say

_PACKAGE_LOG = "vireid_plugins"
_LOADING_LOG = f"{_PACKAGE_LOG}.engine.checkpoint"  # which weights were loaded
_EXAMPLE = "KIND --config-file FILE MODEL.WEIGHTS FILE --out DIR"


@register
class Plot(Verb):
    """Draw one kind of picture. Its words are the options that the kind declares."""

    name = "plot"
    help = "draw pictures of what a trained model does"

    def make_parser(self, prog: str) -> argparse.ArgumentParser:
        """Return the parser that explains the verb; the words of a kind are read in ``run``."""
        parser = Parser(
            prog=prog,
            usage="%(prog)s KIND [--help] ...",
            description=f"""Draw pictures of what a trained model does.

  {prog}                list the kinds of pictures
  {prog} KIND --help    explain the words of one
  {prog} {_EXAMPLE}

Each writes PNG, PDF and the numbers behind them as CSV.

Exit status: 0: drawn; 2: not drawn, the message says why.""",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(command=prog, words=[])
        return parser

    def parse(self, words: Sequence[str], prog: str) -> argparse.Namespace:
        """Keep the words: only the kind knows them, and importing it takes long."""
        parser = self.make_parser(prog)
        if words and words[0].startswith("-") and words[0] not in ("-h", "--help"):
            parser.error(f"the kind comes first; got {words[0]!r}")
        args = parser.parse_args([] if words and not words[0].startswith("-") else words)
        args.words = list(words)
        return args

    def run(self, args: argparse.Namespace) -> int:
        """Draw, or list the kinds."""
        if not args.words:
            self._list_kinds(args.command)
            return 0
        from vireid_plugins.engine.checks import make_output_folder
        from vireid_plugins.engine.setup import build_config
        from vireid_plugins.plots import draw_kind, load_subjects
        from vireid_plugins.plots.kinds import find_kind
        from vireid_plugins.plots.options import make_options

        kind = find_kind(args.words[0])
        given, options = _read_words(kind, args.words[1:], f"{args.command} {kind.name}")
        make_options(kind.name, kind.Options, options)  # a wrong one is known before the model
        make_output_folder(given.out, "--out")
        with _log_to_console():
            subjects: Any
            if kind.needs_config:
                subjects = build_config(given.config_file, given.opts)
            elif kind.needs_model:
                compare = getattr(given, "compare", None)
                subjects = load_subjects(
                    given.config_file, given.opts, compare=compare, labels=given.label
                )
            else:
                subjects = given.runs
            drawn = draw_kind(kind.name, subjects, given.out, **options)
        for line in (*drawn.notes, *(f"Written: {path}" for path in drawn.paths)):
            say(line)
        return 0

    def _list_kinds(self, command: str) -> None:
        from vireid_plugins.plots import all_kinds

        kinds = all_kinds()
        width = max(map(len, kinds)) + 2
        parser = self.make_parser(command)
        parser.epilog = "kinds:\n" + "\n".join(
            f"  {name:{width}}{kind.help}" for name, kind in kinds.items()
        )
        parser.print_help()


def _read_words(kind: Any, words: Sequence[str], prog: str) -> Any:
    """Return the words of the command, and the options of the kind by name."""
    from vireid_plugins.plots.options import options_of

    parser = Parser(prog=prog, description=kind.help, allow_abbrev=False)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write into")
    if kind.needs_config:
        _add_config_words(parser)
    elif kind.needs_model:
        _add_model_words(parser, kind.most_subjects)
    else:
        parser.add_argument("runs", nargs="+", metavar="RUN_FOLDER", help="with metrics.json in it")
    options = options_of(kind.Options)
    for option in options:
        _add_option(parser, option)
    given = parser.parse_intermixed_args(words)
    return given, {one.name: getattr(given, one.name) for one in options if one.name in given}


def _add_config_words(parser: argparse.ArgumentParser) -> None:
    """Add the words that say whose data are drawn."""
    parser.add_argument(
        "--config-file", required=True, metavar="FILE", help="a path, or a file below configs/"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="pairs")


def _add_model_words(parser: argparse.ArgumentParser, most: int) -> None:
    """Add the words that say which models are drawn, at most ``most``."""
    parser.add_argument(
        "--config-file",
        default="",
        metavar="FILE",
        help="a path, or a file below configs/; default: the config that the checkpoint carries",
    )
    parser.add_argument(
        "opts", nargs="*", metavar="KEY VALUE", help="pairs; MODEL.WEIGHTS names the checkpoint"
    )
    if most > 1:
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
        help="name of a model, given once for each; default: the checkpoint's folder",
    )


def _add_option(parser: argparse.ArgumentParser, option: Any) -> None:
    """Add the word of an option; if it is not given, the kind's own default is used."""
    how = {"type": option.type, "default": argparse.SUPPRESS}
    if option.choices:
        how["choices"] = option.choices
    elif option.metavar:
        how["metavar"] = option.metavar
    if option.several:
        how.update({"action": "append"} if option.repeated else {"nargs": "+"})
    text = option.help.replace("%", "%%")
    if "default" not in text and option.default != "":
        text += f"; default {option.default}"
    parser.add_argument(option.word, dest=option.name, help=text, **how)


@contextmanager
def _log_to_console() -> Iterator[None]:
    """Show on the standard output which weights are loaded, and all warnings of the package."""
    logger, loading = logging.getLogger(_PACKAGE_LOG), logging.getLogger(_LOADING_LOG)
    levels = [(one, one.level) for one in (logger, loading)]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    loading.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        for one, level in levels:
            one.setLevel(level)
