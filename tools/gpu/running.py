"""Run the commands of a part until its time is over, and keep what each part has written.

A part is stopped by Ctrl-C's signal, at which trainings save a checkpoint and pytest writes its
report; then by force. The state of a part is one JSON file, so that a second call skips what is
finished.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

ROOT = Path(__file__).resolve().parents[2]
FINISHED, STOPPED, FAILED, LEFT_OUT = "finished", "stopped", "failed", "left out"
PATIENCE = 25.0  # seconds that a command has to end after the signal


class PartError(Exception):
    """A part cannot do its work; the message says why, and what to do."""


class OutOfTime(Exception):
    """The time of a part is over."""


@dataclass(frozen=True)
class Settings:
    """What the user asks for. Parts that were finished with other settings are run again."""

    device: str
    tiny: bool
    jobs: int
    rows: Sequence[str]
    seeds: Sequence[int]
    epochs: int  # of the table; 0: as many as fit
    start: str = ""  # of the table: a name of STARTS; empty: the best that is here

    def fingerprint(self, about_rows: bool) -> str:
        """Return a word that changes with the settings, this checkout's code and PyTorch."""
        words = [self.device, self.tiny, *sorted(code_checksums())]
        if about_rows:
            words += [self.rows, self.seeds, self.epochs, self.start]
        return hashlib.sha256(json.dumps(words, default=list).encode()).hexdigest()[:16]


def code_checksums() -> List[str]:
    """Return a checksum of each Python file and config that a part depends on."""
    files = [
        path
        for folder in ("vireid_plugins", "vireid", "tests/gpu", "tools/gpu", "configs")
        for pattern in ("*.py", "*.yml")
        for path in (ROOT / folder).rglob(pattern)
    ]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


class Runner:
    """Runs the commands of one part.

    Args:
        folder: where the part writes; ``log.txt`` has its commands and what they said.
        settings: the user's.
        deadline: when the part has to end, in seconds of ``time.monotonic``.
    """

    def __init__(self, folder: Path, settings: Settings, deadline: float) -> None:
        self.folder, self.settings, self.deadline = folder, settings, deadline
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log.txt").write_text("", encoding="utf-8")

    @property
    def seconds_left(self) -> float:
        """Return the seconds until the deadline."""
        return self.deadline - time.monotonic()

    def vireid(self, *words: Any, **options: Any) -> int:
        """Run ``vireid`` with these words; see :meth:`python`."""
        return self.python("-m", "vireid", *words, **options)

    def python(
        self,
        *words: Any,
        environment: Optional[Mapping[str, str]] = None,
        most: float = float("inf"),
        allowed: Sequence[int] = (0,),
    ) -> int:
        """Run this Python with these words in the checkout's root; return its exit status.

        Args:
            words: of the command.
            environment: environment variables to set.
            most: seconds that the command may take, at most.
            allowed: exit statuses that are no failure.

        Raises:
            OutOfTime: the deadline came first; the command has been stopped.
            PartError: the exit status is another one; the message carries the last line.
        """
        command = [sys.executable, *map(str, words)]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        values = {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg", **(environment or {})}
        log = self.folder / "log.txt"
        with log.open("ab") as output:
            output.write(f"$ python {' '.join(command[1:])}\n".encode())
            output.flush()
            process = subprocess.Popen(
                command,
                cwd=str(ROOT),
                env=values,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which stops the command
            )
            try:
                status = process.wait(max(0.0, min(self.seconds_left, most)))
            except subprocess.TimeoutExpired:
                stop(process)
                raise OutOfTime from None
            except BaseException:
                stop(process)
                raise
        if status not in allowed:
            raise PartError(f"{last_line(log)} (status {status}; all of it: {log})")
        return status


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a command and the processes that it has started: first by Ctrl-C's signal."""
    for number in (signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGTERM)):
        try:
            if number == signal.SIGINT:
                process.send_signal(number)
            elif hasattr(os, "killpg"):
                os.killpg(process.pid, number)
            else:
                process.kill()
        except ProcessLookupError:
            return
        try:
            process.wait(PATIENCE)
            return
        except subprocess.TimeoutExpired:
            continue


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "no output")[:300]


def read_state(path: Path) -> Dict[str, Any]:
    """Return what a part has left; empty if it has not been run, or its file is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file at once, so that a stopped call leaves no half of one."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(partial, path)
