"""``vireid keys``: list config keys with their meaning."""

import argparse

from ..verb import Verb, register, say


@register
class Keys(Verb):
    """List config keys with their meaning."""

    name = "keys"
    help = "list config keys with default, allowed values and meaning"
    description = """List config keys with their default, their allowed values and their meaning.

  vireid keys                  all of them
  vireid keys MODEL.MAUM       those of one method
  vireid keys dataloader

Exit status: 0: done; 2: no key begins with this word."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "prefix",
            nargs="?",
            default="",
            metavar="PREFIX",
            help="how the keys begin, in any case",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Write the keys, two lines for each."""
        import vireid_plugins  # noqa: F401  its parts declare the keys
        from vireid_plugins.config import describe_keys

        say(describe_keys(args.prefix))
        return 0
