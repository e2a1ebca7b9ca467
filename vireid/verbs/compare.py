"""``vireid compare``: train and evaluate configs with several seeds, one table of all."""

import argparse
from typing import Any

from ..verb import Verb, register, say


@register
class Compare(Verb):
    """Compare configs."""

    name = "compare"
    help = "train configs with several seeds, and put them into one table"
    description = """Train and evaluate configs with several seeds, and put them into one table.

  vireid compare CONFIG [CONFIG ...] --seeds 0 1 2 [--set KEY VALUE ...]
  vireid compare configs/mrda/ablation/*.yml --on configs/mrda/sysu.yml
  vireid compare configs/agw/regdb.yml --trials        (RegDB's ten trials, a model for each)
  vireid compare --plan configs/evidence/plan.yml      (rows, baselines, seeds: all in one file)

The same command continues where it was interrupted. Nothing is ever deleted.

Exit status: 0: every run is complete; 1: a run failed, or the table lacks runs; 2: nothing was
started, the message says why."""
    stopped = "Stopped. The same command continues where it was."
    stops_at_sigterm = True  # every process of a run is stopped

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the words."""
        parser.add_argument(
            "configs", nargs="*", metavar="CONFIG", help="paths, files below configs/, or patterns"
        )
        _add_plan_arguments(parser)
        parser.add_argument(
            "--seeds",
            nargs="+",
            type=int,
            metavar="N",
            help="values of SEED; each config is run with each of them; default 0 1 2, with "
            "--trials 0, with --plan those of the plan",
        )
        parser.add_argument(
            "--trials",
            nargs="*",
            type=trial_number,
            metavar="N",
            help="train a model for each of these trials of the dataset (RegDB has 1 to 10); "
            "without numbers: for all",
        )
        parser.add_argument(
            "--on",
            default="",
            metavar="CONFIG",
            help="a config that replaces what each config inherits from",
        )
        parser.add_argument(
            "--set",
            dest="opts",
            nargs="+",
            action="extend",
            default=[],
            metavar="KEY VALUE",
            help="config keys of all configs",
        )
        parser.add_argument(
            "--output", help="folder of runs; default: logs/compare/ and the configs' folder"
        )
        parser.add_argument(
            "--also",
            nargs="+",
            action="extend",
            default=[],
            metavar="FOLDER",
            help="other folders of this comparison, such as from another machine, or copies of "
            "their runs.json; runs that are complete there are not run here",
        )
        parser.add_argument(
            "--jobs", type=int, default=1, metavar="N", help="runs at once; default 1"
        )
        _add_table_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Run what is not done."""
        from vireid_plugins.comparison import Comparison, PlanComparison
        from vireid_plugins.errors import PlanError

        chosen = {key: value for key, value in vars(args).items() if key not in _OF_THE_COMMAND}
        of_a_plan = {name: chosen.pop(name) for name in ("plan", *_WITH_A_PLAN)}
        unfit = _WITHOUT_A_PLAN if args.plan else _WITH_A_PLAN
        for name, word in unfit.items():
            if getattr(args, name) not in _NOT_GIVEN[name == "trials"]:
                raise PlanError(f"{word} is not possible {_WHY[bool(args.plan)]}")
        if args.plan:
            chosen = {key: one for key, one in chosen.items() if key not in _WITHOUT_A_PLAN}
            comparison: Any = PlanComparison(**chosen, **of_a_plan, say=say)
        elif args.configs:
            comparison = Comparison(**chosen, say=say)
        else:
            raise PlanError("Name the configs that are compared, or --plan FILE.")
        return _work(comparison, args)


def _work(comparison: Any, args: argparse.Namespace) -> int:
    """Do what was asked: list the runs, write the table, or run."""
    if args.dry_run:
        comparison.list_runs()
        return 0
    if args.table_only:
        compared = comparison.write()
        written = ", ".join(map(str, compared.written))
        comparison.show_rows()
        say(f"Written: {written}" if written else "No run is complete.")
    else:
        compared = comparison.execute()
        say(f"Table: {compared.tables / 'table.md'}")
    return 1 if compared.unfinished else 0


def trial_number(text: str) -> int:
    """Return a word after ``--trials`` as a number."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not the number of a trial. --trials alone runs all trials of the "
            "dataset; put it after the configs"
        )
    return int(text)


_OF_THE_COMMAND = ("command", "dry_run", "table_only")
_WITH_A_PLAN = {"only": "--only", "setting": "--setting"}
_WITHOUT_A_PLAN = {
    "configs": "CONFIG",
    "trials": "--trials",
    "on": "--on",
    "baseline": "--baseline",
}
_NOT_GIVEN: Any = ((None, "", []), (None,))  # --trials without numbers stands for all trials
_WHY = {
    True: "with --plan: the plan says which rows there are, and what each is compared with.",
    False: "without --plan FILE.",
}


def _add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words about a plan."""
    parser.add_argument(
        "--plan",
        default="",
        metavar="FILE",
        help="a file with the rows, what each is compared with, their setting and the seeds; see "
        "docs/compare.md",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="ROW",
        help="run these rows of the plan alone: names, or patterns such as 'CAJ*'",
    )
    parser.add_argument(
        "--setting",
        default="",
        metavar="CONFIG",
        help="a config that takes the place of the plan's setting, for another machine or size",
    )


def _add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words about the table, and those that only look."""
    parser.add_argument(
        "--baseline",
        metavar="CONFIG",
        help="what the others are compared with; default: baseline[/*].yml, or the first",
    )
    parser.add_argument(
        "--protocol", default="", help="shown in table.md: SYSUMM01/all/single, ..."
    )
    parser.add_argument("--title", default="", help="title of the table and the plot")
    parser.add_argument(
        "--tables", metavar="FOLDER", help="where table and plot go; default: --output"
    )
    parser.add_argument("--table-only", action="store_true", help="write the table; start no run")
    parser.add_argument("--dry-run", action="store_true", help="list runs and their state")
