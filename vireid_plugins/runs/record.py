"""Write the records of a run, for those who read its numbers later.

``run.json``: when, how, from which source and on what machine it was started, each time.
``results.json``: the last evaluation, with all that decides its numbers; ``metrics.json`` holds
the numbers of every one.
"""

import datetime
import itertools
import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple

from ..errors import UserError
from ..evaluation.result import TestMetrics
from ..files import PACKAGE, write_json, writing
from .environment import environment
from .names import RESULTS, RUN
from .records import read_sessions

logger = logging.getLogger(__name__)


def record_session(
    folder: str, config_file: str, task: str, changed: Iterable[Tuple[str, Any, Any]] = ()
) -> None:
    """Add this process to ``run.json``.

    Args:
        folder: ``OUTPUT_DIR``, which exists.
        config_file: the config file as the user named it; empty: none.
        task: ``"train"`` or ``"evaluate"``.
        changed: key, value before and value now of each key that differs from the last session.

    Raises:
        UnwritableError: the system refused to write.
    """
    path = Path(folder) / RUN
    session: Dict[str, Any] = {
        "task": task,
        "started": utc_now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "config_file": config_file,
        "commit": source_commit(),
        "environment": environment(),
    }
    if changed:
        session["changed"] = {key: [before, now] for key, before, now in changed}
    write_json(path, {"sessions": [*_sessions(path), session]})


def _sessions(path: Path) -> List[Any]:
    """Return the sessions recorded so far; a damaged record is kept under another name."""
    if not path.is_file():
        return []
    try:
        return read_sessions(path)
    except UserError as error:
        kept = _free_name(path)
        with writing(kept):
            os.replace(path, kept)
        logger.warning("%s It is %s now, and %s is started again.", error, kept.name, path.name)
        return []


def _free_name(path: Path) -> Path:
    """Return ``run.damaged-1.json``, or the next number that is free."""
    names = (path.with_name(f"{path.stem}.damaged-{n}{path.suffix}") for n in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def record_results(folder: str, found: TestMetrics, weights: str) -> None:
    """Write ``results.json``.

    Args:
        folder: ``OUTPUT_DIR``, which exists.
        found: the metrics that the evaluation computed.
        weights: which weights were evaluated: a file, or words that say how far the training is.

    Raises:
        UnwritableError: the system refused to write.
    """
    results = {
        "weights": weights,
        "finished": utc_now(),
        "protocols": [facts for table in found.tables for facts in table.protocol_facts()],
        "notes": [table.note for table in found.tables if table.note],
        "test_sets": found.test_sets(),
        "metrics": found,
    }
    write_json(Path(folder) / RESULTS, results)


def utc_now() -> str:
    """Return the date and time, to the second, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def source_commit() -> str:
    """Return the commit of the checkout that this package is imported from.

    ``-dirty`` follows if files differ. The result is empty if the package is not imported from a
    checkout, or git is absent.
    """
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return ""
    commit = _git(root, "rev-parse", "--short=10", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "vireid_plugins", "configs", "tools")
    return f"{commit}-dirty" if commit and changed else commit


def _git(folder: Path, *words: str) -> str:
    """Return the output of a git command; empty if it fails."""
    try:
        done = subprocess.run(["git", *words], cwd=str(folder), capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""
