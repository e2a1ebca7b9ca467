"""Run a plan: every row with every seed, then more seeds where the plan's rule asks for them."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from ..errors import PlanError
from ..files import find_config
from ..merge import check_pairs
from ..registry import suggest
from .carried import folder_of_results
from .comparison import Compared, check_seeds_and_jobs
from .config_files import shown_path
from .contrasts import Contrasts
from .entries import Entry, build_entry, check_own_keys, check_same_tests
from .jobs import sole_user
from .plan_file import Plan, PlanRow, read_plan, row_folder
from .plan_settings import fresh_config
from .plan_table import PlanOutcome, Section, write_plan
from .printed import format_plain
from .queue import Queue
from .runs import DONE, PlannedRun, check_also, plan_runs
from .stop_rule import rows_that_need_more
from .summary import choose_protocols, collect, with_second_rows
from .table import repeat_command
from .table_owner import TableOwner

PathLike = Union[str, Path]


class PlanComparison:
    """The runs of a plan, its progress and its table.

    Args:
        plan: a plan file; see ``plan_file``.
        seeds: these alone, in the place of the plan's; None: the plan's, and more by its rule.
        only: names of rows, or patterns: only they are run. The table still has all rows.
        setting: a config file that takes the place of the plan's setting; empty: none.
        opts: KEY VALUE pairs for all rows, on top of the setting and of the rows' own keys.
        output: folder of the runs; None: ``logs/compare/`` and the plan's folder and name.
        also: folders of runs of this plan that were made elsewhere, or copies of their
            ``runs.json``; a run that is complete there is not run here.
        jobs: number of runs at once.
        protocol: the protocol line whose metrics are shown; empty: the plan's, or the first.
        title: title of the table; empty: the plan's.
        tables: where tables and plots go; None: ``output``.
        say: called with lines that say what happens.

    Raises:
        PlanError: something cannot be run as asked; nothing was started.
        UserError: a file is missing or damaged.
    """

    def __init__(
        self,
        plan: PathLike,
        seeds: Optional[Sequence[int]] = None,
        *,
        only: Sequence[str] = (),
        setting: PathLike = "",
        opts: Sequence[Any] = (),
        output: Optional[PathLike] = None,
        also: Sequence[PathLike] = (),
        jobs: int = 1,
        protocol: str = "",
        title: str = "",
        tables: Optional[PathLike] = None,
        say: Callable[[str], Any] = lambda line: None,
    ) -> None:
        self.plan: Plan = read_plan(str(plan), str(setting))
        self._seeds = list(self.plan.seeds if seeds is None else seeds)
        self._more = list(self.plan.more_seeds if seeds is None else ())
        check_seeds_and_jobs(self._seeds, jobs)
        self._jobs, self._say, self._also = jobs, say, [Path(one) for one in also]
        self._elsewhere = [folder_of_results(path) for path in self._also]
        self._only = _chosen(only, self.plan.rows)
        self.output = (
            Path(output) if output else Path("logs") / "compare" / default_folder(self.plan)
        )
        self.tables = Path(tables) if tables else self.output
        self._title = title or self.plan.title
        self._words = _command_words(
            plan=self.plan,
            setting=setting,
            seeds=seeds,
            only=only,
            opts=opts,
            output=output,
            also=self._also,
            jobs=jobs,
            protocol=protocol,
            title=title,
            tables=tables,
        )
        self.entries = _entries(self.plan, opts)
        self._protocol = self._checked_protocol(protocol or self.plan.protocol)
        self._first = self._planned(self._seeds)
        self._owner = TableOwner(self.tables, self.plan.path, self._first)
        self._owner.check()
        check_also(self._also, self._elsewhere, [*self._first, *self._planned(self._more)])

    def _checked_protocol(self, wanted: str) -> str:
        known = self.entries[0].protocols
        if wanted and wanted not in known:
            raise PlanError(f"protocol {wanted!r} is not evaluated; there are: {', '.join(known)}.")
        return wanted

    def _planned(self, seeds: Sequence[int]) -> List[PlannedRun]:
        points = self.plan.points
        return plan_runs(self.entries, seeds, self.output, also=self._elsewhere, points=points)

    # ------------------------------------------------------------------ more seeds

    def _more_runs(self) -> Optional[List[PlannedRun]]:
        """Return the runs with more seeds that the rule asks for, and those that are complete.

        None while the rule cannot be applied: a run with the plan's seeds is neither complete nor
        has it failed.
        """
        if not self._more:
            return []
        if any(run.state != DONE and not run.error() for run in self._first):
            return None
        needed = {
            (section.point, name)
            for section in self._sections(self._first)
            for name in rows_that_need_more(section.contrasts, self._claims(), section.protocols)
        }
        runs = self._planned(self._more)
        return [run for run in runs if (run.point, run.entry.name) in needed or run.state == DONE]

    def _claims(self) -> Dict[str, Any]:
        return {row.name: row.claim for row in self.plan.rows if row.claim}

    def _sections(self, runs: Sequence[PlannedRun]) -> List[Section]:
        """Return a table of rows for each folder of datasets, or one if the plan names none."""
        against = {row.name: row.against for row in self.plan.rows if row.against}
        sections = []
        for point in self.plan.points or (None,):
            rows = collect([run for run in runs if run.point == point])
            has_results = any(row.results for row in rows)
            protocols = choose_protocols(rows, self._protocol) if has_results else []
            contrasts = Contrasts(rows, with_second_rows(against, rows))
            sections.append(Section(point, contrasts, protocols))
        return sections

    # ------------------------------------------------------------------ what a caller does

    def list_runs(self) -> None:
        """Report for each run whether it is done, and what the rule says of more seeds."""
        more = self._more_runs()
        runs = [*self._first, *(more or [])]
        self._queue([run for run in runs if run.entry.name in self._only]).list_runs()
        self._say(self._state(more))

    def execute(self) -> Compared:
        """Run what is not done, and write the tables after each run."""
        names = {run.entry.name for run in self._first}
        at = f" x {len(self.plan.points)} datasets" if self.plan.points else ""
        seeds = ", ".join(map(str, self._seeds))
        self._say(f"{len(names)} rows{at} x seeds {seeds}, in {self.output}")
        with sole_user(self.output):
            self._work(self._first)
            more = self._more_runs()
            self._say(self._state(more))
            self._work(more or [])
        compared = self.write()
        self.show_rows()
        for run in compared.unfinished:
            if run.error():
                self._say(f"FAILED  {run.title}: {run.error()}  ({run.folder})")
        return compared

    def _work(self, runs: Sequence[PlannedRun]) -> None:
        queue = self._queue([run for run in runs if run.entry.name in self._only])
        queue.rename_damaged()
        self.write()
        queue.work()

    def _queue(self, runs: Sequence[PlannedRun]) -> Queue:
        return Queue(runs, self.output, self._jobs, self._say, self.write)

    def _state(self, more: Optional[Sequence[PlannedRun]]) -> str:
        """Return in a sentence what the rule says of more seeds."""
        if not self._more:
            return "More seeds: none are planned."
        seeds = ", ".join(map(str, self._more))
        if more is None:
            return f"More seeds ({seeds}): not decided before all runs with the first seeds ended."
        names = list(dict.fromkeys(run.entry.name for run in more))
        if not names:
            return f"More seeds ({seeds}): for no row; no claim is within the noise."
        return f"More seeds ({seeds}): for {', '.join(names)}."

    def write(self) -> Compared:
        """Write the tables of the runs that are complete, without starting a run."""
        more = self._more_runs()
        runs = [*self._first, *(more or [])]
        outcome = PlanOutcome(
            plan=self.plan,
            sections=self._sections(runs),
            entries=self.entries,
            seeds=sorted({run.seed for run in runs}),
            command=repeat_command(self._words),
            title=self._title or f"{len(self.plan.rows)} rows of {self.plan.path.stem}",
            more_seeds=self._state(more) if self._more else "",
        )
        written = write_plan(outcome, self.tables)
        if written:
            self._owner.write()
        unfinished = [run for run in runs if run.state != DONE and run.entry.name in self._only]
        return Compared(self.tables, written, unfinished)

    def show_rows(self) -> None:
        """Report the means of all rows that have a complete run."""
        for section in self._sections([*self._first, *(self._more_runs() or [])]):
            for line in format_plain(section.contrasts.rows, self._protocol).splitlines():
                self._say(line)


def _chosen(only: Sequence[str], rows: Sequence[PlanRow]) -> List[str]:
    """Return the names of the rows that are run."""
    names = [row.name for row in rows]
    found: Dict[str, None] = {}
    for word in only:
        fitting = [name for name in names if name == word or fnmatchcase(name, word)]
        if not fitting:
            raise PlanError(f"--only {word}: there is no such row. {suggest(word, names)}")
        found.update(dict.fromkeys(fitting))
    return list(found) if only else names


def _entries(plan: Plan, opts: Sequence[Any]) -> List[Entry]:
    """Read and check the config of every row."""
    check_pairs(opts, fresh_config())  # here, where no words of the plan stand before them
    check_own_keys(opts[0::2], "--set")
    check_own_keys([key for key, _ in plan.setting_pairs], f"{shown_path(plan.path)}: setting:")
    entries = []
    for row in plan.rows:
        check_own_keys([key for key, _ in row.pairs], f"{shown_path(plan.path)}: {row.name}:")
        pairs = [word for pair in (*plan.setting_pairs, *row.pairs) for word in pair]
        try:
            entry = build_entry(
                row.name,
                row.config,
                [*pairs, *opts],
                folder=row_folder(row.name),
                add_to_seed=row.add_to_seed,
            )
        except PlanError as error:
            raise PlanError(f"{shown_path(plan.path)}: {row.name}: {error}") from error
        entries.append(entry)
    check_same_tests(entries)
    return entries


def default_folder(plan: Plan) -> str:
    """Return the name of the folder of runs: ``evidence`` for ``configs/evidence/plan.yml``."""
    parts = Path(shown_path(plan.path)).with_suffix("").parts
    own = [part for part in parts[-2:] if part not in ("configs", "plan")]
    return "-".join(part.replace("_plan", "") for part in own) or "plan"


def _command_words(*, plan: Plan, **given: Any) -> List[str]:
    """Return the command line that repeats this comparison; it names only what was given."""
    words = ["--plan", shown_path(plan.path)]
    words += (
        ["--setting", shown_path(Path(find_config(str(given["setting"]))))]
        if given["setting"]
        else []
    )
    words += ["--seeds", *map(str, given["seeds"])] if given["seeds"] is not None else []
    words += ["--only", *given["only"]] if given["only"] else []
    words += ["--set", *map(str, given["opts"])] if given["opts"] else []
    words += ["--output", shown_path(Path(given["output"]))] if given["output"] else []
    words += ["--also", *map(shown_path, given["also"])] if given["also"] else []
    words += ["--jobs", str(given["jobs"])] if given["jobs"] > 1 else []
    words += ["--protocol", given["protocol"]] if given["protocol"] else []
    words += ["--title", given["title"]] if given["title"] else []
    words += ["--tables", shown_path(Path(given["tables"]))] if given["tables"] else []
    return words
