"""Times, peak memory and the files that results go to."""

import json
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from threadpoolctl import threadpool_limits


def times_in_turn(
    cases: Dict[str, Callable[[], Any]], repeats: int, warm_up: bool = True
) -> Dict[str, List[float]]:
    """Seconds of each of ``repeats`` runs, by case.

    The cases take turns, so that whatever else the machine does meets all of them alike. The
    first run of each is dropped if ``warm_up``.
    """
    if warm_up:
        for run in cases.values():
            run()
    seconds: Dict[str, List[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, run in cases.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(seconds: Dict[str, List[float]], replaced: str, ours: str) -> float:
    """How many times longer the median of ``replaced`` is than that of ``ours``."""
    return statistics.median(seconds[replaced]) / statistics.median(seconds[ours])


def peak_memory(work: Callable[..., Any], *inputs: Any, make: Callable[..., Any]) -> Optional[int]:
    """Bytes that a process holds at most while ``work(make(*inputs))`` works, beyond those before.

    In a new process, since one that has worked before keeps some of what it freed. The operating
    system counts (Linux: VmHWM, reset before); None elsewhere.

    Args:
        work: importable.
        inputs: can be pickled.
        make: importable; its memory is not counted.
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
        with open("/proc/self/clear_refs", "w") as handle:
            handle.write("5")
        before = _status("VmRSS")
    except OSError:
        return None
    with threadpool_limits(threads):
        work(made)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    with open("/proc/self/status") as handle:
        for line in handle:
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}.")


def seconds_text(values: List[float]) -> str:
    """Median and spread (smallest to largest)."""
    middle = statistics.median(values)
    return f"{middle:.3f} s ({min(values):.3f} to {max(values):.3f}, n = {len(values)})"


def memory_text(size: Optional[int]) -> str:
    """In MiB."""
    return "not measured on this system" if size is None else f"{size / 2**20:.0f} MiB"


def say(case: str, what: str, value: Any) -> None:
    """One line of the printed result."""
    if isinstance(value, list):
        value = seconds_text(value)
    elif isinstance(value, float):
        value = f"{value:.3g}"
    sys.stdout.write(f"{case:28s} {what:44s} {value}\n")
    sys.stdout.flush()


def write_result(folder: str, topic: str, threads: int, result: Dict[str, Any]) -> str:
    """Write ``result`` as JSON; returns the path, which names versions, device and threads."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{topic}_torch{torch.__version__}_cpu_{threads}threads.json")
    with open(path, "w", encoding="utf-8") as handle:
        json.dump(result, handle, indent=2)
    sys.stdout.write(f"Written: {path}\n")
    return path
