"""Measure times and peak memory, show them, and write results to files."""

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import torch
from threadpoolctl import threadpool_limits

from ..files import PACKAGE

OUT = os.path.join("logs", "bench")  # folder of results
MEASURES = "measures"  # where a topic's result, or a case in it, has what measures.py describes


def times_in_turn(
    cases: Mapping[str, Callable[[], Any]],
    repeats: int,
    warm_up: bool = True,
    processor: bool = False,
) -> Dict[str, List[float]]:
    """Return the seconds of ``repeats`` runs of each case, by case.

    The cases take turns, so that other programs on the machine disturb all of them alike. With
    ``warm_up`` the first run of each is dropped. With ``processor`` only the seconds count in which
    a processor works on this process (those of all its threads): other programs hardly change
    them.
    """
    clock = time.process_time if processor else time.perf_counter
    if warm_up:
        for run in cases.values():
            run()
    seconds: Dict[str, List[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            begin = clock()
            run()
            seconds[name].append(clock() - begin)
    return seconds


def ratio(seconds: Mapping[str, List[float]], replaced: str, ours: str) -> float:
    """Return the median of ``replaced`` divided by the median of ``ours``."""
    return statistics.median(seconds[replaced]) / statistics.median(seconds[ours])


def peak_memory(work: Callable[..., Any], *inputs: Any, make: Callable[..., Any]) -> Optional[int]:
    """Return the bytes that ``work(made)`` needs at most, beyond those held before it.

    ``made`` is ``make(*inputs)``. Both run in a new process, because a process that has worked
    before keeps some of the memory that it freed. Linux counts the memory (VmHWM); on other systems
    the result is None.

    Args:
        work: a function that can be imported.
        inputs: values that can be pickled.
        make: a function that can be imported; its memory is not counted.
    """
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak_of, work, make, inputs, threads).result()


def _peak_of(
    work: Callable[..., Any], make: Callable[..., Any], inputs: Tuple[Any, ...], threads: int
) -> Optional[int]:
    torch.set_num_threads(threads)
    made = make(*inputs)
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as handle:
            handle.write("5")
        before = _status("VmRSS")
    except OSError:
        return None
    with threadpool_limits(threads):
        work(made)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as handle:
        for line in handle:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}.")


def seconds_text(values: List[float]) -> str:
    """Return median and spread (smallest to largest)."""
    middle = statistics.median(values)
    return f"{middle:.3f} s ({min(values):.3f} to {max(values):.3f}, n = {len(values)})"


def memory_text(size: Optional[int]) -> str:
    """Return a number of bytes in MiB."""
    return "not measured on this system" if size is None else f"{size / 2**20:.0f} MiB"


def say(case: str, what: str, value: Any) -> None:
    """Write one line of the result."""
    if isinstance(value, list):
        value = seconds_text(value)
    elif isinstance(value, float):
        value = f"{value:.3g}"
    sys.stdout.write(f"{case:28s} {what:44s} {value}\n")
    sys.stdout.flush()


def say_all(case: str, found: Mapping[str, Any]) -> None:
    """Write a line for each number and each list of seconds; memory is shown in MiB."""
    for what, value in found.items():
        if what != MEASURES:
            say(case, what, memory_text(value) if "memory" in what else value)


def in_own_process(
    function: Callable[..., Any], environment: Optional[Mapping[str, str]] = None, **keywords: Any
) -> Any:
    """Return ``function(**keywords)``, computed in a new process.

    Args:
        function: a function that can be imported; its keywords and its result are plain JSON.
        environment: environment variables to set.

    Raises:
        RuntimeError: the process ended with an error; the message is the end of its output.
    """
    path = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", _CALL, function.__module__, function.__name__, json.dumps(keywords)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
    )
    if done.returncode:
        lines = f"{done.stdout}{done.stderr}".strip().splitlines()
        raise RuntimeError("\n".join(lines[-40:]) or f"it ended with status {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


_CALL = """
import importlib, json, sys
found = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])(**json.loads(sys.argv[3]))
sys.stdout.write("\\n" + json.dumps(found) + "\\n")
"""


def markdown_table(lines: List[List[str]]) -> str:
    """Return a table; the first line is its head."""
    head, *rows = lines
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_result(folder: str, topic: str, result: Dict[str, Any]) -> Path:
    """Write ``result`` as JSON; return the path, which names versions, device and threads."""
    device = str(result.get("device", "cpu")).split(":")[0]
    name = f"{topic}_torch{torch.__version__}_{device}_{result['threads']}threads.json"
    path = Path(folder) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2), encoding="utf-8")
    return path
