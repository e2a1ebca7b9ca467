"""Work through the runs of a comparison: list them, start them, and say what happens."""

from pathlib import Path
from typing import Any, Callable, List, Sequence

from ..files import writing
from .columns import format_seconds
from .jobs import OUTPUT, execute
from .kept import rename_damaged
from .runs import DONE, PlannedRun
from .transductive import both_ways


class Queue:
    """Runs in the order in which they start.

    Args:
        runs: all runs, those that are done included.
        output: folder of the runs.
        jobs: number of runs at once.
        say: called with lines that say what happens.
        write: called after each run; it writes the table.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        output: Path,
        jobs: int,
        say: Callable[[str], Any],
        write: Callable[[], Any],
    ) -> None:
        self.runs, self._output, self._jobs = list(runs), output, jobs
        self._say, self._write = say, write
        self._todo = [run for run in self.runs if run.state != DONE]
        self._started, self._ended = 0, 0
        self._durations = self._known_durations()  # seconds

    @property
    def done(self) -> int:
        """Return the number of runs that were complete before this queue began."""
        return len(self.runs) - len(self._todo)

    def list_runs(self) -> None:
        """Report for each run whether it is done."""
        for run in self.runs:
            error = run.error() if run.state != DONE else ""
            self._say(f"{run.state:10} {run.title}{f'  (failed: {error})' if error else ''}")
            for path, reason in run.kept().damaged:
                self._say(f"{'':10} {path} is damaged: {reason}. It will be renamed.")
        self._say(f"{len(self.runs)} runs, {self.done} done, in {self._output}")

    def rename_damaged(self) -> None:
        """Rename the damaged files of all runs, so that their work is done again."""
        for run in self.runs:
            for path, reason in run.kept().damaged:
                with writing(path):
                    kept = rename_damaged(path)
                self._say(f"{run.title}: {reason}. It is kept as {kept}; the run is {run.state}.")

    def work(self) -> None:
        """Run all runs that are not done, and write the table after each."""
        execute(self._todo, self._jobs, self._on_start, self._on_end)

    def report_failures(self) -> None:
        """Report why runs failed."""
        for run in self.runs:
            if run.state != DONE:
                self._say(f"FAILED  {run.title}: {run.error()}  ({run.folder / OUTPUT})")

    def _known_durations(self) -> List[float]:
        results = [run.result() for run in self.runs]
        done = [result for result in results if result is not None]
        return [(one["train_seconds"] or 0.0) + one["evaluation_seconds"] for one in done]

    def _on_start(self, run: PlannedRun) -> None:
        self._started += 1
        self._say(
            f"run {self.done + self._started} of {len(self.runs)}: {run.title}, {run.state}, "
            f"eta {self._eta()}, log {run.folder / 'log.txt'}"
        )

    def _on_end(self, run: PlannedRun, seconds: float) -> None:
        self._ended += 1
        self._durations.append(seconds)
        result, _ = both_ways(run.result())  # as in the run's own row of the table
        if result is None:
            why = run.error() or f"the cause is unknown; see {run.folder / OUTPUT}"
            self._say(f"  {run.title}: failed: {why}")
        else:
            first = result["protocols"][0]["key"]
            scores = ", ".join(
                f"{name} {result['metrics'][f'{first}/{name}']:.1f}" for name in ("Rank-1", "mAP")
            )
            self._say(f"  {run.title}: {scores}, {format_seconds(seconds)}")
        self._write()

    def _eta(self) -> str:
        """Return the remaining hours and minutes, estimated from the runs that are done."""
        if not self._durations:
            return "?"
        each = sum(self._durations) / len(self._durations)
        minutes = round((len(self._todo) - self._ended) * each / self._jobs / 60)
        return f"{minutes // 60}:{minutes % 60:02d}"
