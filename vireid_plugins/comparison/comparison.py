"""Train and evaluate a list of configs with several seeds and trials; one table of all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Union

from ..errors import PlanError
from .carried import folder_of_results
from .config_files import expand_configs, shown_path
from .entries import build_entries
from .jobs import sole_user
from .printed import format_plain
from .queue import Queue
from .runs import DONE, PlannedRun, check_also, plan_runs
from .summary import collect
from .table import Outcome, repeat_command, write_outcome
from .table_owner import TableOwner
from .trials import check_lists, choose_trials, hint, trial_words

PathLike = Union[str, Path]


@dataclass(frozen=True)
class Compared:
    """The state of a comparison: what was written, and which runs are missing."""

    tables: Path  # the folder of ``table.md``, the CSV files and the plot
    written: Sequence[Path]  # empty while no run is complete
    unfinished: Sequence[PlannedRun]  # runs that failed or were not started


def compare(
    configs: Sequence[PathLike], seeds: Optional[Sequence[int]] = None, **options: Any
) -> Compared:
    """Train and evaluate all configs with all seeds; write a table, CSV files and a plot.

    Call it again with the same arguments to continue where it was interrupted. Nothing is deleted.

    Args:
        configs: paths, files below ``configs/``, or patterns such as ``mrda/ablation/*.yml``.
        seeds: different numbers from 0 on; None: 0, 1, 2, or 0 alone if ``trials`` are given.
        options: other keyword arguments of ``Comparison``.

    Raises:
        PlanError: something cannot be run as asked; nothing was started.
    """
    return Comparison(configs, seeds, **options).execute()


class Comparison:
    """One comparison: its plan, its progress and its outcome.

    Args:
        configs: paths, files below ``configs/``, or patterns of either.
        seeds: different numbers from 0 on; None: 0, 1, 2, or 0 alone if ``trials`` are given.
        trials: trials of the dataset that need a model each (RegDB: 1 to 10), a run of its own for
            each; empty: all of them; None: one, as the config says.
        on: a config that replaces the file that each config inherits from; empty: none.
        opts: KEY VALUE pairs for all configs.
        output: folder of the runs; None: ``logs/compare/`` and the configs' folder.
        also: folders of runs of this comparison that were made elsewhere, on another machine, or
            copies of their ``runs.json``; a run that is complete there is not run here.
        jobs: number of runs at once.
        baseline: name or file of the config that the others are compared with; None:
            ``baseline.yml``, or the first.
        protocol: the protocol line whose metrics ``table.md`` shows, such as
            ``SYSUMM01/all/single``; empty: the first.
        title: title of the table and the plot.
        tables: where table and plot go; None: ``output``.
        say: called with lines that say what happens.

    Raises:
        PlanError: something cannot be run as asked; nothing was started.
        UserError: a config is wrong.
    """

    def __init__(
        self,
        configs: Sequence[PathLike],
        seeds: Optional[Sequence[int]] = None,
        *,
        trials: Optional[Sequence[int]] = None,
        on: PathLike = "",
        opts: Sequence[Any] = (),
        output: Optional[PathLike] = None,
        also: Sequence[PathLike] = (),
        jobs: int = 1,
        baseline: Optional[str] = None,
        protocol: str = "",
        title: str = "",
        tables: Optional[PathLike] = None,
        say: Callable[[str], Any] = lambda line: None,
    ) -> None:
        self._seeds = list(default_seeds(trials) if seeds is None else seeds)
        check_seeds_and_jobs(self._seeds, jobs)
        self._jobs, self._opts, self._say = jobs, list(opts), say
        self._title, self._protocol = title, protocol
        paths = expand_configs([str(one) for one in configs])
        self._on = expand_configs([str(on)])[0] if on else None
        name = default_name(paths) + (f"-{self._on.stem}" if self._on else "")
        # The command that repeats this comparison names only what was given.
        self._given_output, self._given_tables = output, tables
        self._also = [Path(one) for one in also]
        self._elsewhere = [folder_of_results(path) for path in self._also]
        self.output = Path(output) if output else Path("logs") / "compare" / name
        self.tables = Path(tables) if tables else self.output
        self.entries = build_entries(paths, self._opts, str(self._on or ""))
        self._baseline = self._baseline_name(baseline)
        self.trials = choose_trials(self.entries, trials, self._opts)
        self.runs = plan_runs(self.entries, self._seeds, self.output, self.trials, self._elsewhere)
        check_also(self._also, self._elsewhere, self.runs)
        self._owner = TableOwner(self.tables, None, self.runs)
        self._owner.check()
        self._check_protocol()
        self._queue = Queue(self.runs, self.output, jobs, say, self.write)

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
        """Raise ``PlanError`` for an unknown protocol now, not after the first run."""
        wanted, known = self._protocol, self.entries[0].protocols
        if wanted and wanted not in known:
            raise PlanError(
                f"--protocol {wanted!r} is not evaluated; there are: {', '.join(known)}."
            )

    def list_runs(self) -> None:
        """Report for each run whether it is done."""
        self._queue.list_runs()

    def execute(self) -> Compared:
        """Run all runs that are not done, and write the table after each.

        Damaged files of a run are renamed, and the work that they recorded is done again.
        """
        trials = "" if self.trials is None else f" x {len(self.trials)} trials"
        self._say(
            f"{len(self.entries)} configs{trials} x {len(self._seeds)} seeds = {len(self.runs)} "
            f"runs, {self._queue.done} done, in {self.output}"
        )
        if hint(self.entries, self.trials):
            self._say(hint(self.entries, self.trials))
        check_lists(self.runs)
        with sole_user(self.output):
            self._queue.rename_damaged()
            self.write()
            self._queue.work()
        compared = self.write()
        self.show_rows()
        self._queue.report_failures()
        return compared

    def show_rows(self) -> None:
        """Report the means of all configs that have a complete run."""
        for line in format_plain(collect(self.runs), self._protocol).splitlines():
            self._say(line)

    def write(self) -> Compared:
        """Write the table of the runs that are complete, without starting a run."""
        command = repeat_command(self._words())
        outcome = Outcome(
            collect(self.runs), self._seeds, command, self._title, self._protocol, self._baseline
        )
        written = write_outcome(outcome, self.tables)
        if written:
            self._owner.write()
        return Compared(self.tables, written, [run for run in self.runs if run.state != DONE])

    def _words(self) -> List[str]:
        """Return the command line that repeats this comparison, with paths as seen from here."""
        words = [entry.shown_path for entry in self.entries]
        words += ["--on", shown_path(self._on)] if self._on else []
        words += trial_words(self.entries, self.trials)
        words += ["--seeds", *map(str, self._seeds)]
        words += ["--set", *map(str, self._opts)] if self._opts else []
        words += ["--output", shown_path(self.output)] if self._given_output else []
        words += ["--also", *map(shown_path, self._also)] if self._also else []
        words += ["--jobs", str(self._jobs)] if self._jobs > 1 else []
        words += ["--baseline", self._baseline] if self._baseline else []
        words += ["--protocol", self._protocol] if self._protocol else []
        words += ["--title", self._title] if self._title else []
        words += ["--tables", shown_path(self.tables)] if self._given_tables else []
        return words


def default_seeds(trials: Optional[Sequence[int]]) -> Sequence[int]:
    """Return the seeds of a comparison that names none: published trials have one model each."""
    return (0, 1, 2) if trials is None else (0,)


def check_seeds_and_jobs(seeds: Sequence[int], jobs: int) -> None:
    if jobs < 1:
        raise PlanError(f"--jobs is {jobs}; expected 1 or more.")
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise PlanError(f"--seeds is {list(seeds)}; expected different numbers from 0 on.")


def default_name(paths: Sequence[Path]) -> str:
    """Return the name of the folder of runs.

    It is ``mrda-sysu`` for ``configs/mrda/sysu.yml``, ``mrda-ablation`` for files of
    ``configs/mrda/ablation``, ``agw-mrda`` for files of several folders of ``configs``,
    ``agw-mrda-sysu`` if all of them are named ``sysu.yml``, and the name of the first file
    otherwise.
    """
    folders = {Path(shown_path(path)).parts[:-1]: None for path in paths}
    if any(parts[:1] != ("configs",) or not parts[1:] for parts in folders):
        return paths[0].stem
    if len(paths) == 1:
        return "-".join([*next(iter(folders))[1:], paths[0].stem])
    if len(folders) == 1:
        return "-".join(next(iter(folders))[1:])
    stems = {path.stem for path in paths}
    names = dict.fromkeys(parts[1] for parts in folders)
    return "-".join([*names, *(stems if len(stems) == 1 else ())])
