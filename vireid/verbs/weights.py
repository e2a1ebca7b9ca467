"""``vireid weights``: list, fetch and check pretrained weights."""

import argparse
import logging
import shlex
import sys
from typing import Any, List

from ..verb import Verb, register, say

ACTIONS = {
    "list": "show a table or, with NAME, all that is known of a file",
    "fetch": "bring files into the cache and check their SHA-256",
    "check": "check the SHA-256 of the named files, or of all files, in the cache",
    "path": "write the path of a file that is in the cache",
    "make": "make weights that are not published: render people and train on them, for hours",
}


@register
class Weights(Verb):
    """List, fetch and check pretrained weights."""

    name = "weights"
    help = "list, fetch and check pretrained weights"
    description = """List, fetch and check pretrained weights.

  vireid weights                        a table
  vireid weights list mobilenetv2       license, source, SHA-256, and the keys that use it
  vireid weights fetch mobilenetv2
  vireid weights check                  every file in the cache
  vireid weights path mobilenetv2
  vireid weights make vit_synthvi       hours; the same command continues after a stop

A training names them in its config: MODEL.BACKBONE.PRETRAIN_PATH weights:mobilenetv2. The cache is
$VIREID_CACHE/weights, or weights/ in this package's folder of your cache.

Exit status: 0: done; 1: check found a wrong file; 2: not done, and the message says why."""
    stopped = "Stopped. Nothing incomplete was kept."
    stops_at_sigterm = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        summary = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
        parser.add_argument(
            "action", nargs="?", default="list", choices=list(ACTIONS), help=summary
        )
        parser.add_argument(
            "names", nargs="*", metavar="NAME", help="such as mobilenetv2, or weights:mobilenetv2"
        )

    def parse(self, words: Any, prog: str) -> argparse.Namespace:
        """Read the words; ``fetch`` and ``path`` need a name."""
        parser = self.make_parser(prog)
        args = parser.parse_args(words)
        if args.action in ("fetch", "path", "make") and not args.names:
            parser.error(f"{args.action} needs a NAME; `{prog}` lists them")
        return args

    def run(self, args: argparse.Namespace) -> int:
        """Do what the action says."""
        import vireid_plugins  # noqa: F401  it repairs FastReID
        from vireid_plugins import pretrained

        actions = {"list": _list, "fetch": _fetch, "check": _check, "path": _path, "make": _make}
        return actions[args.action](pretrained, args.names)


def _list(pretrained: Any, names: List[str]) -> int:
    found = pretrained.examine(names)
    if names:
        say("\n\n".join(_facts(held) for held in found))
        return 0
    width = max(len(held.entry.name) for held in found)
    for held in found:
        entry = held.entry
        state = "absent" if held.path is None else "WRONG" if held.wrong else "in the cache"
        say(f"{entry.name:{width}}  {entry.megabytes:6.1f} MB  {state:12}  {entry.title}")
    say("timm/NAME: timm fetches its own weights; see docs/weights.md")
    say(f"\nCache: {pretrained.weights_folder()}\nDetails: vireid weights list NAME")
    return 0


def _facts(held: Any) -> str:
    entry = held.entry
    mean, std = (", ".join(f"{value:g}" for value in values) for values in entry.input)
    where = held.wrong or str(held.path or "absent")
    recorded = getattr(entry.source, "recorded", "")
    digest = f"{_hash(entry.sha256)}{f'; that of the tables: {recorded}' if recorded else ''}"
    return "\n".join(
        [
            f"weights:{entry.name}: {entry.title}",
            f"  source   {entry.source.described()}",
            f"  license  {entry.license}",
            f"  origin   {entry.origin}",
            f"  file     {entry.file}, {entry.megabytes:.1f} MB, SHA-256 {digest}",
            f"  input    RGB, values 0..255, mean {mean}, deviation {std}",
            f"  tried    {entry.tried}",
            f"  cache    {where}",
            f"  use      {shlex.join(entry.keys)}",
        ]
    )


def _hash(sha256: str) -> str:
    if not sha256:
        return "not fixed: it is made here"
    return sha256 if len(sha256) == 64 else f"{sha256}... (the beginning)"


def _fetch(pretrained: Any, names: List[str]) -> int:
    for entry in [pretrained.lookup(name) for name in names]:
        say(f"weights:{entry.name}: {entry.title}, {entry.megabytes:.1f} MB")
        say(f"  source   {entry.source.described()}\n  license  {entry.license}")
        say(f"  origin   {entry.origin}")
        path = pretrained.fetch(entry.name)
        say(f"  checked  {path} (SHA-256 {_hash(entry.sha256)})")
    return 0


def _check(pretrained: Any, names: List[str]) -> int:
    wrong = 0
    for held in pretrained.examine(names):
        if held.path is None:
            say(f"absent  weights:{held.entry.name}")
        elif held.wrong:
            wrong += 1
            say(f"WRONG   weights:{held.entry.name}: {held.wrong}. Move it away and fetch it again")
        elif not held.entry.sha256:
            say(f"made    weights:{held.entry.name}: {held.path}; its SHA-256 is not fixed")
        else:
            say(f"right   weights:{held.entry.name}: {held.path}")
    return 1 if wrong else 0


def _path(pretrained: Any, names: List[str]) -> int:
    for name in names:
        say(str(pretrained.held_path(name)))
    return 0


def _make(pretrained: Any, names: List[str]) -> int:
    from vireid_plugins.making import make

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for name in names:
        made = make(name)
        say(f"made    {made.path} (SHA-256 {made.sha256})")
        if made.recorded and not made.is_recorded:
            say(f"        another machine or version made the tables' file: {made.recorded}")
    return 0
