"""Move the files of an earlier run before another run starts in the same folder.

A run uses fixed file names, so two runs in one folder would be read as one: the report of the
second would begin with the numbers of the first.
"""

import os
import re
from pathlib import Path
from typing import List, Optional

from ..files import writing
from .names import BEST, COMPARED, CONFIG, FINAL, LAST, LOG, METRICS, RESULTS, RUN

EARLIER = "earlier-"  # a number follows
EVALUATION = "evaluation"  # evaluations alone that are not the run's own
RETRIEVAL = "retrieval"  # pictures that the evaluation draws
_PAGE, _FIGURES = "report.html", "figures"

# What only a run that has begun leaves behind. A log and a config are also left by a start that
# failed at once; the next start continues with that log.
_NUMBERS = (RESULTS, COMPARED, METRICS, LAST, FINAL, f"{BEST}.pth")
_OTHERS = (CONFIG, RUN, LOG, RETRIEVAL, EVALUATION)
_PATTERNS = ("model_*.pth", "events.out.tfevents.*", f"{LOG}.rank*")


def move_earlier_files(folder: Path) -> Optional[Path]:
    """Move the files of an earlier run into ``folder/earlier-1``, or the next free number.

    The files are moved into a hidden folder, which is renamed when it is complete. If the process
    is killed before that, the next call continues: no run starts before all files have moved.

    Args:
        folder: ``OUTPUT_DIR``; it need not exist.

    Returns:
        The folder that holds the files now; None if there was no earlier run.

    Raises:
        UnwritableError: a file cannot be moved. The next call continues.
    """
    begun = unfinished_move(folder)
    if begun is None and not has_earlier_run(folder):
        return None
    moving = begun or _moving_folder(folder, _next_number(folder))
    target = folder / moving.name[1:].rsplit(".", 1)[0]
    with writing(target, "Or choose another OUTPUT_DIR."):
        moving.mkdir(exist_ok=True)
        for path in _files_of_run(folder):
            os.replace(path, moving / path.name)
        os.replace(moving, target)
    return target


def has_earlier_run(folder: Path) -> bool:
    """Return whether a run has left numbers or weights in ``folder``."""
    events = any(folder.glob("events.out.tfevents.*"))
    return events or any((folder / name).exists() for name in _NUMBERS)


def unfinished_move(folder: Path) -> Optional[Path]:
    """Return the hidden folder of a move that was killed; None if there is none."""
    return next(iter(sorted(folder.glob(f".{EARLIER}*.moving"))), None)


def moved_path(path: str, folder: Path, target: Path) -> str:
    """Return where ``path`` is after its run was moved; other paths come back as they are.

    Args:
        path: the path of a file, such as ``MODEL.WEIGHTS``.
        folder: ``OUTPUT_DIR``.
        target: what ``move_earlier_files`` returned.
    """
    if not path or os.path.exists(path):
        return path
    try:
        inside = Path(os.path.abspath(path)).relative_to(os.path.abspath(folder))
    except ValueError:
        return path
    moved = target / inside
    return str(moved) if moved.exists() else path


def _files_of_run(folder: Path) -> List[Path]:
    """Return what is moved: everything that a run, its evaluations or its report has written."""
    found = [folder / name for name in (*_NUMBERS, *_OTHERS)]
    found += [path for pattern in _PATTERNS for path in sorted(folder.glob(pattern))]
    if (folder / _PAGE).exists():
        found += [folder / _FIGURES, folder / _PAGE]  # the page, which tells of them, moves last
    return [path for path in dict.fromkeys(found) if os.path.lexists(path)]


def _moving_folder(folder: Path, number: int) -> Path:
    return folder / f".{EARLIER}{number}.moving"


def _next_number(folder: Path) -> int:
    names = (re.fullmatch(rf"{EARLIER}(\d{{1,9}})", path.name) for path in folder.glob("*"))
    return max((int(name.group(1)) for name in names if name), default=0) + 1
