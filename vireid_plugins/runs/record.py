"""What a run writes down about itself, for whoever reads its numbers later.

``run.json``: when, how, from which source and on what machine it was started, each time.
``results.json``: the last evaluation, with all that decides its numbers; ``metrics.json`` holds
the numbers of every one.
"""

import datetime
import json
import shlex
import subprocess
import sys
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Dict, Iterator, Sequence

from ..files import PACKAGE, write_atomically
from .environment import environment
from .names import RESULTS, RUN

_evaluated: "ContextVar[str]" = ContextVar("evaluated", default="")


def record_session(folder: str, config_file: str, task: str) -> None:
    """Add this process to ``run.json``.

    Args:
        folder: ``OUTPUT_DIR``; it is there.
        config_file: as the user named it; empty: none.
        task: ``"train"`` or ``"evaluate"``.
    """
    path = Path(folder) / RUN
    session = {
        "task": task,
        "started": now(),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "config_file": config_file,
        "commit": source_commit(),
        "environment": environment(),
    }
    write_json(path, {"sessions": [*_sessions(path), session]})


def _sessions(path: Path) -> Sequence[Any]:
    """Earlier ones; none where the file is absent or something else's."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return list(found["sessions"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


@contextmanager
def evaluation_of(weights: str) -> Iterator[None]:
    """Inside, results are recorded as those of ``weights``: a file, or words how far training is.

    ``VIReIDTrainer.test`` keeps the host's two arguments, which scripts and subclasses rely on.
    """
    token = _evaluated.set(weights)
    try:
        yield
    finally:
        _evaluated.reset(token)


def record_results(folder: str, tables: Sequence[Any]) -> None:
    """Write ``results.json``, of the weights that ``evaluation_of`` names.

    Args:
        folder: ``OUTPUT_DIR``; it is there.
        tables: ``ResultTable`` of each test set.
    """
    metrics: Dict[str, float] = {}
    for table in tables:
        for key, value in table.metrics.items():
            metrics.setdefault(key, value)
    results = {
        "weights": _evaluated.get(),
        "finished": now(),
        "protocols": [facts for table in tables for facts in table.protocol_facts()],
        "notes": [table.note for table in tables if table.note],
        "metrics": metrics,
    }
    write_json(Path(folder) / RESULTS, results)


def now() -> str:
    """The date and time, to the second, in UTC."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def write_json(path: Path, values: Dict[str, Any]) -> None:
    """Put ``values`` into ``path``, whole or not at all."""
    text = json.dumps(values, indent=2) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def source_commit() -> str:
    """Commit of the checkout that this package is imported from, ``-dirty`` if files differ.

    Empty where the package is installed, or git is absent.
    """
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return ""
    commit = _git(root, "rev-parse", "--short=10", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "vireid_plugins", "configs", "tools")
    return f"{commit}-dirty" if commit and changed else commit


def _git(folder: Path, *words: str) -> str:
    """Output of a git command; empty if it fails."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=str(folder), capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
