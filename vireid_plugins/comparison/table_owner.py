"""Keep the tables of one comparison from replacing those of another in the same folder."""

from pathlib import Path
from typing import Optional, Sequence

from ..errors import PlanError
from ..files import write_json
from ..readers.json_file import read_json
from ..readers.shape import expect, field
from .config_files import shown_path
from .runs import PlannedRun

OWNER = "rows.json"
_REMEDY = "Delete it if the tables beside it may be written anew."
_SHOWN = 3  # names of rows in a message


class TableOwner:
    """Whose tables a folder holds: the plan, and the rows.

    The tables of a plan, or of configs without one, may be written anew by the same plan after its
    rows were edited, and by any comparison that has all of their rows.

    Args:
        tables: the folder of the tables.
        plan: the plan's file; None: configs without a plan.
        runs: of this comparison.
    """

    def __init__(self, tables: Path, plan: Optional[Path], runs: Sequence[PlannedRun]) -> None:
        self._tables, self._plan = tables, "" if plan is None else _identity(plan)
        self._rows = list(dict.fromkeys(_row_name(run) for run in runs))

    def check(self) -> None:
        """Raise ``PlanError`` if the folder holds the tables of another comparison."""
        path = self._tables / OWNER
        if not path.is_file():
            return
        known = read_json(path, dict, _REMEDY)
        plan = field(known, "plan", str, str(path), _REMEDY)
        rows = [
            expect(row, str, f"{path}: rows", _REMEDY)
            for row in field(known, "rows", list, str(path), _REMEDY)
        ]
        lost = [row for row in rows if row not in self._rows]
        if not lost or plan == self._plan:
            return
        more = f" and {len(lost) - _SHOWN} more" if lost[_SHOWN:] else ""
        raise PlanError(
            f"{self._tables} holds the tables of {plan or 'configs without a plan'}, with rows "
            f"that are not compared here ({'; '.join(lost[:_SHOWN])}{more}), and they would be "
            "overwritten. Give another --output, or another --tables for the tables alone."
        )

    def write(self) -> None:
        """Record that the tables in the folder are of this comparison."""
        write_json(self._tables / OWNER, {"plan": self._plan, "rows": self._rows})


def _identity(plan: Path) -> str:
    """Return the plan's path, below the checkout if it is there: checkouts may be copied."""
    shown = shown_path(plan)
    return shown if shown.startswith("configs/") else plan.resolve().as_posix()


def _row_name(run: PlannedRun) -> str:
    return run.entry.name if run.point is None else f"{run.point.name}/{run.entry.name}"
