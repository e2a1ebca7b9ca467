"""Start the processes of runs, one at a time or several at once, and stop them together."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, List, Optional, Sequence

import torch

from ..errors import PlanError, UserError
from ..files import PACKAGE, write_atomically, writing
from ..locks import sole_use
from ..runs.names import SETTINGS
from .datasets_there import check_datasets
from .progress import Progress
from .runs import DONE, GIVEN, PlannedRun

OUTPUT = "output.txt"  # what a run's process writes to its standard streams
_POLL, _PATIENCE = 0.2, 10.0  # seconds


@dataclass
class Job:
    """A run in progress."""

    run: PlannedRun
    slot: int
    process: Any
    began: float


def execute(
    runs: Sequence[PlannedRun],
    jobs: int,
    on_start: Callable[[PlannedRun], None],
    on_end: Callable[[PlannedRun, float], None],
) -> None:
    """Run all ``runs``, at most ``jobs`` at once. A run that fails does not stop the others.

    A run that begins with the checkpoint of another one waits until that one has ended.

    Args:
        runs: the runs in the order in which they start.
        jobs: number of processes at once.
        on_start: called when a run's process has started.
        on_end: called with the run and its seconds when the process has ended or failed.

    Raises:
        UserError: no run finds its datasets; none was started.
        KeyboardInterrupt: the user stopped the comparison; every process has been stopped first.
    """
    check_datasets(runs)
    waiting, earlier = list(runs), _earlier(runs)
    running: List[Job] = []
    try:
        while waiting or running:
            while len(running) < jobs:
                ready = _first_ready(waiting, running, earlier)
                if ready is None:
                    break
                slot = min(set(range(jobs)) - {job.slot for job in running})
                waiting.remove(ready)
                running.append(_start(ready, slot, jobs))
                on_start(running[-1].run)
            time.sleep(_POLL)
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                _close(job)
                on_end(job.run, time.monotonic() - job.began)
    finally:
        _stop(running)


def _earlier(runs: Sequence[PlannedRun]) -> Dict[Path, List[Path]]:
    """Return, for the folder of each run, those of the runs whose checkpoints it begins with."""
    parents = {run.folder: [os.path.dirname(path) for path in run.starts()] for run in runs}
    own = {os.path.abspath(folder): folder for folder in parents}
    return {run: [own[one] for one in named if one in own] for run, named in parents.items()}


def _first_ready(
    waiting: Sequence[PlannedRun], running: Sequence[Job], earlier: Dict[Path, List[Path]]
) -> Optional[PlannedRun]:
    """Return the first run that need not wait for another one; None: there is none."""
    to_end = {run.folder for run in (*waiting, *(job.run for job in running))}
    for run in waiting:
        if not to_end.intersection(earlier[run.folder]):
            return run
    return waiting[0] if waiting and not running else None  # they wait for each other


def _start(run: PlannedRun, slot: int, jobs: int) -> Job:
    with writing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
    text = run.cfg.dump().encode()
    write_atomically(run.folder / SETTINGS, lambda file: file.write(text))
    Progress(run.folder).fail("")  # forget the error of an earlier attempt
    facts = {
        "name": run.entry.name,
        "config_file": run.entry.shown_path,
        "runs_at_once": jobs,
        GIVEN: run.given,
    }
    environment = child_environment(slot, jobs)
    if run.point is not None:
        facts["point"] = run.point.value
        environment["FASTREID_DATASETS"] = str(run.point.folder.resolve())
    words = [sys.executable, "-m", "vireid_plugins.comparison.worker"]
    words += [str(run.folder), json.dumps(facts), "--end-with-stdin"]
    with open(run.folder / OUTPUT, "ab") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which stops the others in order
        )
    return Job(run, slot, process, time.monotonic())


def child_environment(slot: int, jobs: int) -> Dict[str, str]:
    """Return the environment of a run's process: its share of the cores, its GPU, the package.

    ``OMP_NUM_THREADS`` keeps the value that the user has set. GPUs are divided only if several runs
    share the machine.

    Args:
        slot: 0 .. jobs - 1, the place among the runs at once.
        jobs: number of runs at once.
    """
    values = dict(os.environ)
    values.setdefault("OMP_NUM_THREADS", str(max(1, cpu_count() // jobs)))
    values.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    values["PYTHONIOENCODING"] = "utf-8:backslashreplace"  # its output is a file
    values["PYTHONPATH"] = os.pathsep.join(
        [str(PACKAGE.parent), *filter(None, [values.get("PYTHONPATH")])]
    )
    gpus = _visible_gpus() if jobs > 1 else []
    if len(gpus) > 1:
        values["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return values


def cpu_count() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _visible_gpus() -> List[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]


def _close(job: Job) -> None:
    """Record why a process ended, if it left neither a result nor a reason."""
    job.process.stdin.close()
    status = job.process.returncode
    if job.run.state == DONE or job.run.error():
        return
    reason = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    with contextlib.suppress(UserError):  # a full disk: the run still counts as not done
        Progress(job.run.folder).fail(f"the process ended early: {reason}")


def _stop(running: Sequence[Job]) -> None:
    for job in running:
        _signal(job, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    for job in running:
        try:
            job.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal(job, getattr(signal, "SIGKILL", signal.SIGTERM))
            job.process.wait()
        job.process.stdin.close()


def _signal(job: Job, number: int) -> None:
    """Send a signal to the run's process and to the processes that load its images."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(job.process.pid, number)
        else:
            job.process.terminate()
    except ProcessLookupError:
        return


def sole_user(folder: Path) -> ContextManager[None]:
    """Make ``folder``, and keep a second comparison out of it inside the block.

    Raises:
        PlanError: another comparison is running there.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return sole_use(
        folder,
        PlanError(
            f"Another comparison is running in {folder}. Wait for it, or give another --output."
        ),
    )
