"""``vireid train`` and ``vireid evaluate``: the words of FastReID's ``tools/train_net.py``."""

import argparse
import shlex
import sys
from typing import Any, Dict

from ..stopping import name_of, say_at_the_end, signal_of
from ..verb import Verb, register


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the words that name a config and the processes that share the work."""
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="a path, or a file below configs/"
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, help="processes per machine (also with MODEL.DEVICE cpu)"
    )
    parser.add_argument("--num-machines", type=int, default=1, help="machines in all; default 1")
    parser.add_argument(
        "--machine-rank", type=int, default=0, help="number of this machine, from 0"
    )
    parser.add_argument("--dist-url", default="auto", help="tcp://ADDRESS:PORT of rank 0, or auto")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs")


def shared_keywords(args: argparse.Namespace) -> Dict[str, Any]:
    """Return the keyword arguments that ``train`` and ``evaluate`` share."""
    names = ("config_file", "opts", "num_gpus", "num_machines", "machine_rank", "dist_url")
    return {name: getattr(args, name) for name in names}


@register
class Train(Verb):
    """Train; with ``--eval-only``, evaluate."""

    name = "train"
    help = "train what a config describes, and evaluate it"
    description = """Train or evaluate what a config describes.

  vireid train --config-file agw/sysu.yml OUTPUT_DIR logs/agw
  vireid train --config-file agw/sysu.yml --resume OUTPUT_DIR logs/agw

Ctrl-C, SIGTERM and SIGHUP end the training after the step in progress. Its state is saved, and
--resume continues from there as if the training had never been stopped. The same signal again
ends it at once.

Exit status: 0: done; 1: failed; 129, 130, 143: stopped by SIGHUP, Ctrl-C, SIGTERM."""
    mistake_status = 1
    stops_at_sigterm = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare FastReID's words."""
        parser.add_argument("--resume", action="store_true", help="continue the run in OUTPUT_DIR")
        parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS")
        add_config_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Train or evaluate."""
        from vireid_plugins.engine.session import ProcessFailedError, evaluate, train

        try:
            if args.eval_only:
                evaluate(**shared_keywords(args))
            else:
                train(resume=args.resume, **shared_keywords(args))
        except ProcessFailedError as error:
            if not error.is_reported:
                sys.stderr.write(f"error: {error}\n")
            return 1
        return 0

    def report_stop(self, args: argparse.Namespace, stop: KeyboardInterrupt) -> int:
        """Write which signal stopped the training, what was saved and how to continue."""
        status = 128 + signal_of(stop)
        line = f"Stopped by {name_of(stop)}."
        if not args.eval_only:
            line += f" {stop} Continue with: {resume_command(args)}" if str(stop) else _AFTER_A_STOP
        say_at_the_end(line, status)
        return status


def resume_command(args: argparse.Namespace) -> str:
    """Return the command that continues where a training was stopped."""
    words = args.command.split()
    for name in ("config_file", "num_gpus", "num_machines", "machine_rank", "dist_url"):
        value = getattr(args, name)
        if value != _DEFAULTS[name]:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join([*words, "--resume", *args.opts])


_AFTER_A_STOP = (
    " The same command with --resume continues from the last checkpoint, if there is one."
)
_DEFAULTS = {
    "config_file": "",
    "num_gpus": 1,
    "num_machines": 1,
    "machine_rank": 0,
    "dist_url": "auto",
}


@register
class Evaluate(Train):
    """Evaluate a checkpoint."""

    name = "evaluate"
    help = "evaluate a checkpoint by the published protocols"
    description = """Evaluate the checkpoint MODEL.WEIGHTS on the test sets of a config.

  vireid evaluate --config-file agw/sysu.yml MODEL.WEIGHTS logs/agw/model_final.pth"""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words of ``train`` that an evaluation has."""
        parser.set_defaults(eval_only=True)
        add_config_arguments(parser)
