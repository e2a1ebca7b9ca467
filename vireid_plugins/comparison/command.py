"""Train and evaluate a list of configs with several seeds, and put them into one table.

    python tools/compare.py CONFIG [CONFIG ...] --seeds 0 1 2 [--set KEY VALUE ...]
    python tools/compare.py configs/mrda/ablation/*.yml --on configs/mrda/sysu.yml

The same command goes on where it was interrupted. Nothing is ever deleted.
"""

import argparse
import signal
import sys
from pathlib import Path
from typing import Any, List, Optional, Sequence

from .jobs import OUTPUT, execute, sole_user
from .runs import (
    DONE,
    PlanError,
    Run,
    build_entries,
    expand_configs,
    plan_runs,
    shown_path,
)
from .summary import collect
from .table import TABLE, Outcome, format_seconds, repeat_command, write_outcome


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="compare.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configs", nargs="+", metavar="CONFIG", help="paths, files below configs/, or patterns"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument(
        "--on", default="", metavar="CONFIG", help="in the place of what each config inherits from"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY VALUE", help="for all configs"
    )
    parser.add_argument(
        "--output", type=Path, help="folder of runs; default: logs/compare/ and the configs' folder"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once; default 1")
    parser.add_argument(
        "--baseline", metavar="CONFIG", help="default: baseline[/*].yml, or the first"
    )
    parser.add_argument("--protocol", default="", help="of table.md: SYSUMM01/all/single, ...")
    parser.add_argument("--title", default="", help="of the table and the plot")
    parser.add_argument(
        "--tables", type=Path, metavar="FOLDER", help="where table and plot go; default: --output"
    )
    parser.add_argument("--table-only", action="store_true", help="of finished runs; start none")
    parser.add_argument("--dry-run", action="store_true", help="list runs and their state")
    return parser


class Comparison:
    """One comparison: its plan, its progress and its outcome.

    Args:
        args: of ``argument_parser``.

    Raises:
        PlanError: something cannot be run as asked; nothing was started.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        _check(args)
        self._args = args
        paths = expand_configs(args.configs)
        self._on = expand_configs([args.on])[0] if args.on else None
        name = default_name(paths) + (f"-{self._on.stem}" if self._on else "")
        self.output = args.output or Path("logs") / "compare" / name
        self.tables = args.tables or self.output
        self.entries = build_entries(paths, args.set, str(self._on or ""))
        self._baseline = self._baseline_name(args.baseline)
        self.runs = plan_runs(self.entries, args.seeds, self.output)
        self._check_protocol()
        self._todo = [run for run in self.runs if run.state != DONE]
        self._started, self._ended = 0, 0
        self._durations = self._known_durations()  # seconds

    def _baseline_name(self, wanted: Optional[str]) -> Optional[str]:
        if wanted is None:
            return None
        for entry in self.entries:
            if wanted == entry.name:
                return wanted
        path = expand_configs([wanted])[0]
        names = [entry.name for entry in self.entries if entry.path == path]
        if not names:
            known = ", ".join(entry.name for entry in self.entries)
            raise PlanError(f"--baseline {wanted} is not compared; there are: {known}.")
        return names[0]

    def _check_protocol(self) -> None:
        """A wrong word must not wait for the first result."""
        wanted, known = self._args.protocol, self.entries[0].protocols
        if wanted and wanted not in known:
            raise PlanError(
                f"--protocol {wanted!r} is not evaluated; there are: {', '.join(known)}."
            )

    def _known_durations(self) -> List[float]:
        done = [run.result() for run in self.runs if run.state == DONE]
        return [(one["train_seconds"] or 0.0) + one["evaluation_seconds"] for one in done]

    def list_runs(self) -> None:
        """Say what is done and what is not."""
        for run in self.runs:
            error = run.error() if run.state != DONE else ""
            say(f"{run.state:10} {run.title}{f'  (failed: {error})' if error else ''}")
        say(f"{len(self.runs)} runs, {len(self.runs) - len(self._todo)} done, in {self.output}")

    def execute(self) -> int:
        """Run what is not done; 0 if every run is complete, 1 if one failed."""
        say(
            f"{len(self.entries)} configs x {len(self._args.seeds)} seeds = {len(self.runs)} runs, "
            f"{len(self.runs) - len(self._todo)} done, in {self.output}"
        )
        with sole_user(self.output):
            self.write()
            execute(self._todo, self._args.jobs, self._on_start, self._on_end)
        failed = [run for run in self.runs if run.result() is None]
        for run in failed:
            say(f"FAILED  {run.title}: {run.error()}  ({run.folder / OUTPUT})")
        return 1 if failed else 0

    def _on_start(self, run: Run) -> None:
        self._started += 1
        number = len(self.runs) - len(self._todo) + self._started
        say(
            f"run {number} of {len(self.runs)}: {run.title}, {run.state}, eta {self._eta()}, "
            f"log {run.folder / 'log.txt'}"
        )

    def _on_end(self, run: Run, seconds: float) -> None:
        self._ended += 1
        self._durations.append(seconds)
        result = run.result()
        if result is None:
            say(f"  {run.title}: failed: {run.error()}")
        else:
            first = result["protocols"][0]["key"]
            scores = ", ".join(
                f"{name} {result['metrics'][f'{first}/{name}']:.1f}" for name in ("Rank-1", "mAP")
            )
            say(f"  {run.title}: {scores}, {format_seconds(seconds)}")
        self.write()

    def _eta(self) -> str:
        """Hours and minutes to the end, from the runs that are done."""
        if not self._durations:
            return "?"
        each = sum(self._durations) / len(self._durations)
        minutes = round((len(self._todo) - self._ended) * each / self._args.jobs / 60)
        return f"{minutes // 60}:{minutes % 60:02d}"

    def write(self) -> List[Path]:
        """The table of what is complete."""
        rows = collect(self.runs)
        command = repeat_command(self._words())
        args = self._args
        outcome = Outcome(rows, args.seeds, command, args.title, args.protocol, self._baseline)
        return write_outcome(outcome, self.tables)

    def _words(self) -> List[str]:
        """The command line, with paths as seen from the checkout."""
        args = self._args
        words = [entry.shown_path for entry in self.entries]
        words += ["--on", shown_path(self._on)] if self._on else []
        words += ["--seeds", *map(str, args.seeds)]
        words += ["--set", *args.set] if args.set else []
        words += ["--output", shown_path(self.output)] if args.output else []
        words += ["--jobs", str(args.jobs)] if args.jobs > 1 else []
        words += ["--baseline", self._baseline] if self._baseline else []
        words += ["--protocol", args.protocol] if args.protocol else []
        words += ["--title", args.title] if args.title else []
        words += ["--tables", shown_path(self.tables)] if args.tables else []
        return words


def _check(args: argparse.Namespace) -> None:
    if args.jobs < 1:
        raise PlanError(f"--jobs is {args.jobs}; expected 1 or more.")
    if min(args.seeds) < 0 or len(set(args.seeds)) < len(args.seeds):
        raise PlanError(f"--seeds is {args.seeds}; expected different numbers from 0 on.")


def default_name(paths: Sequence[Path]) -> str:
    """``mrda-ablation`` for files of ``configs/mrda/ablation``, ``agw-mrda`` for files of several
    folders of ``configs``, else the first file's stem."""
    folders = {Path(shown_path(path)).parts[:-1]: None for path in paths}
    if len(paths) == 1 or any(parts[:1] != ("configs",) or not parts[1:] for parts in folders):
        return paths[0].stem
    if len(folders) == 1:
        return "-".join(next(iter(folders))[1:])
    return "-".join(dict.fromkeys(parts[1] for parts in folders))


def say(text: str) -> None:
    """A line for the user, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _stop_signal(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run the command line.

    Returns:
        0: every run is complete; 1: a run failed, or the table lacks runs; 2: nothing was started,
        the message says why; 130: interrupted.
    """
    args = argument_parser().parse_args(words)
    before = signal.signal(signal.SIGTERM, _stop_signal)
    try:
        comparison = Comparison(args)
        if args.dry_run:
            comparison.list_runs()
            return 0
        if not args.table_only:
            status = comparison.execute()
            say(f"Table: {comparison.tables / TABLE}")
            return status
        return _rewrite_table(comparison)
    except PlanError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Stopped. The same command goes on where it was.\n")
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def _rewrite_table(comparison: Comparison) -> int:
    written = comparison.write()
    say(f"Written: {', '.join(map(str, written))}" if written else "No run is complete.")
    return 0 if all(run.state == DONE for run in comparison.runs) else 1


if __name__ == "__main__":
    sys.exit(main())
