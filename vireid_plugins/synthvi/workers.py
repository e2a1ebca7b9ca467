"""Render in several processes, none of which loads PyTorch.

A new process imports the module of the function that it runs, and with it the package's root,
``vireid_plugins``, which loads PyTorch and FastReID. Rendering needs neither, so each process first
puts an empty module in the place of the root.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Callable, Iterator, Sequence, TypeVar

import cv2

Work = TypeVar("Work")
Result = TypeVar("Result")

_ROOT = Path(__file__).resolve().parents[1]
_BEFORE_ANY_IMPORT = f"""
import sys, types
root = types.ModuleType({_ROOT.name!r})
root.__path__ = [{str(_ROOT)!r}]
sys.modules.setdefault(root.__name__, root)

import cv2
cv2.setNumThreads(1)
"""


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_processes(
    function: Callable[[Work], Result], works: Sequence[Work], jobs: int
) -> Iterator[Result]:
    """Yield ``function(work)`` for each of ``works``, in their order.

    Args:
        function: a function of this package, or a ``functools.partial`` of one.
        works: the arguments.
        jobs: number of processes; with 1 job or 1 work, the calling process does everything.
    """
    if jobs == 1 or len(works) < 2:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield from map(function, works)
        finally:
            cv2.setNumThreads(threads)
        return
    # never a plain fork: a child may inherit locks that threads of OpenCV or PyTorch hold
    context = multiprocessing.get_context("spawn")
    # `exec` is not in this package, so a process can run it before it imports the package
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=exec, initargs=(_BEFORE_ANY_IMPORT,)
    ) as pool:
        chunk = max(1, min(16, len(works) // (4 * jobs)))
        yield from pool.map(function, works, chunksize=chunk)
