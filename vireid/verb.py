"""What a verb is, and where verbs are registered."""

import argparse
import sys
from typing import Dict, NoReturn, Sequence, Type

from .stopping import STOPPED, say_at_the_end


class Parser(argparse.ArgumentParser):
    """A parser that reports a wrong word in one line, without the list of all words."""

    def error(self, message: str) -> NoReturn:
        """End the process with one line and exit status 2."""
        message = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        self.exit(2, f"{self.prog}: error: {message}. See: {self.prog} --help\n")


class Verb:
    """One verb of ``vireid``: the words it takes, and what it does with them.

    A verb is one file in ``vireid/verbs``: a subclass under ``@register``. The file may import
    ``vireid_plugins`` only inside ``run``: help must not load PyTorch.
    """

    #: what the user types, such as ``"check-data"``
    name: str
    #: one line for ``vireid --help``
    help: str
    #: what ``vireid VERB --help`` says above the words; empty: ``help``
    description = ""
    #: exit status after a mistake of the user, when the verb has already been running
    mistake_status = 2
    #: the message after Ctrl-C
    stopped = "Stopped."
    #: whether SIGTERM and SIGHUP stop the verb as Ctrl-C does, so that it can tidy up
    stops_at_sigterm = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words that the verb takes."""
        raise NotImplementedError

    def make_parser(self, prog: str) -> argparse.ArgumentParser:
        """Return the parser of the verb's words.

        Args:
            prog: the command as the user typed it, such as ``"vireid plot"`` or
                ``"tools/plot.py"``; ``run`` finds it in ``args.command``.
        """
        parser = Parser(
            prog=prog,
            description=self.description or self.help,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(command=prog)
        self.add_arguments(parser)
        return parser

    def parse(self, words: Sequence[str], prog: str) -> argparse.Namespace:
        """Read the words; wrong ones end the process with a message and exit status 2."""
        return self.make_parser(prog).parse_args(words)

    def run(self, args: argparse.Namespace) -> int:
        """Do what the words ask for, through the Python API.

        Returns:
            The exit status: 0 when everything was done.

        Raises:
            UserError: a mistake of the user, which is reported in one line.
        """
        raise NotImplementedError

    def report_stop(self, args: argparse.Namespace, stop: KeyboardInterrupt) -> int:
        """Write that Ctrl-C, SIGTERM or SIGHUP has stopped the verb.

        Returns:
            The exit status.
        """
        say_at_the_end(self.stopped, STOPPED)
        return STOPPED


#: name -> verb; ``vireid.cli.load_verbs`` fills it
VERBS: Dict[str, Verb] = {}


def register(verb: Type[Verb]) -> Type[Verb]:
    """Add a class to ``VERBS``; a decorator."""
    VERBS[verb.name] = verb()
    return verb


def say(line: str) -> None:
    """Write a line to the standard output at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
