"""``vireid convert``: make a checkpoint of this package from one that others published."""

import argparse
from pathlib import Path
from typing import Any, Sequence

from ..verb import Verb, register, say

#: the words of --from; those of vireid_plugins.published, which would load PyTorch for the help
SOURCES = ("agw", "caj", "caj+", "llcm-agw", "hct")


@register
class Convert(Verb):
    """Convert a checkpoint."""

    name = "convert"
    help = "make a checkpoint of this package from one that others published"
    description = """Make a checkpoint of this package from one that others published.

  vireid convert sysu_agw_p4_n8_lr_0.1_seed_0_best.t --out agw_sysu.pth
  vireid convert regdb_agw_p4_n8_lr_0.1_seed_0_trial_3_best.t --out agw_regdb_3.pth
  vireid convert market_bot_R50.pth --config-file bagtricks_R50.yml --out bot.pth

AGW, CAJ, CAJ+ (mangye16/Cross-Modal-Re-ID-baseline), AGW of ZYK100/LLCM, and HCT
(hijune6/Hetero-center-triplet-loss-for-VT-Re-ID) are recognized by the names of their tensors. The
new file gives the features of the public network and carries its config and what it was trained
on, so that evaluate, search, export, plot and report open it. With --config-file, a checkpoint of
FastReID gets its config.

Exit status: 0: the file is written; 2: it is not, and the message says why."""
    stopped = "Stopped; nothing was written."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument("file", metavar="FILE", help="the published checkpoint")
        parser.add_argument(
            "--from",
            dest="source",
            default="",
            choices=SOURCES,
            help="the program that trained it; default: recognized by its tensors",
        )
        parser.add_argument(
            "--out", required=True, type=Path, metavar="FILE.pth", help="the file to write"
        )
        parser.add_argument(
            "--dataset",
            default="",
            metavar="NAME",
            help="sysu, regdb, llcm or a registered dataset; default: by the name of the file, or "
            "by the number of identities",
        )
        parser.add_argument(
            "--trial",
            type=int,
            metavar="N",
            help="the split of RegDB; default: by the file's name",
        )
        parser.add_argument(
            "--config-file",
            default="",
            metavar="FILE",
            help="the config of a checkpoint of FastReID, a path or a file below configs/",
        )
        parser.add_argument(
            "opts",
            nargs="*",
            default=[],  # without it, argparse would call the pairs missing where the file is
            metavar="KEY VALUE",
            help="pairs that override the config",
        )

    def parse(self, words: Sequence[str], prog: str) -> argparse.Namespace:
        """Read the words; the file and the pairs may stand before and after the options."""
        return self.make_parser(prog).parse_intermixed_args(words)

    def run(self, args: argparse.Namespace) -> int:
        """Convert the file."""
        from vireid_plugins.errors import UserError

        if not args.config_file:
            say(_converted(args))
            return 0
        if args.source or args.dataset or args.trial is not None:
            raise UserError(
                "--config-file describes a checkpoint of FastReID, whose training is not known: "
                "leave --from, --dataset and --trial out. The published programs of --from need no "
                "config."
            )
        from vireid_plugins import carry_config
        from vireid_plugins.readers.text import shown

        carry_config(args.file, args.config_file, args.out, args.opts)
        say(f"{shown(args.out)}: written, with the config {args.config_file}.")
        return 0


def _converted(args: argparse.Namespace) -> str:
    from vireid_plugins import convert
    from vireid_plugins.readers.text import shown

    made: Any = convert(
        args.file,
        args.out,
        args.source,
        dataset=args.dataset,
        trial=args.trial,
        opts=args.opts,
    )
    trial = "" if made.trial is None else f" trial {made.trial}"
    lines = [
        f"{shown(made.out)}: {made.title}, trained on {made.dataset}{trial}, {made.num_classes} "
        f"identities. {made.used} tensors were converted; {made.dropped}, which that network does "
        "not use, were left out.",
        f"The config is configs/{made.config} with the dataset and the network of the file. "
        "What the file does not say is taken from the defaults of the public code: "
        f"{made.assumed}.",
    ]
    if made.results:
        lines.append(f"The test results in the file: {made.results}.")
    return "\n".join(lines)
