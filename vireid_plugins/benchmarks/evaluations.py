"""Memory of one process over many re-ranked evaluations: does it grow, or does it level off?

Random features of a test set in the form of SYSU-MM01 are evaluated again and again, as a training
does it: every test set, every protocol, ten galleries each. Three counts distinguish a leak from
memory that the allocator keeps: the memory that Python holds (tracemalloc), the number of Python
objects, and the memory of the process (RSS, Linux only), at the end also after ``malloc_trim``,
which returns free memory to the system.
"""

import ctypes
import gc
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Optional

import numpy as np
import torch

from ..data.item import Item
from ..evaluation import Reranking, SYSUMM01Protocol, TestFeatures, VIReIDEvaluator
from ..evaluation.arguments import whole_number
from ..modality import Modality
from .measuring import markdown_table


def run(
    *, times: int = 120, identities: int = 48, images: int = 6, size: int = 256, threads: int = 1
) -> Dict[str, Any]:
    """Evaluate ``times`` times, and count memory after 1, 2, 5, 10, 20, 50, 100, ... of them.

    Args:
        times: number of evaluations, each with features of its own.
        identities: persons in the test set.
        images: images of each person and camera.
        size: dimensions of a feature.

    Raises:
        UserError: a number is below 1.
    """
    for name, value in dict(times=times, identities=identities, images=images, size=size).items():
        whole_number(value, name)
    dataset = _test_set(identities, images)
    protocols = [SYSUMM01Protocol(mode) for mode in ("all", "indoor")]
    evaluator = VIReIDEvaluator(protocols, dataset, dataset_name="SYSUMM01", reranking=Reranking())
    shown = {number * 10**power for number in (1, 2, 5) for power in range(7)} | {times}
    rows: Dict[str, Any] = {}
    tracemalloc.start()
    try:
        for number in range(1, times + 1):
            evaluator.evaluate(_features(dataset, size, number))
            if number in shown:
                rows[str(number)] = _counts()
    finally:
        tracemalloc.stop()
    trimmed = _trim()
    head = ["evaluations", "Python (MiB)", "objects", "process (MiB)"]
    table = markdown_table([head, *([n, *map(str, row.values())] for n, row in rows.items())])
    table += f"\nAfter malloc_trim: {trimmed} MiB.\n"
    return {"counts": rows, "process after malloc_trim (MiB)": trimmed, "table": table}


def _test_set(identities: int, images: int) -> Any:
    def items(cameras: Any, modality: Modality) -> Any:
        return [
            Item(f"cam{camera}/{pid:04d}/{n:04d}.jpg", pid, camera, int(modality))
            for pid in range(1, identities + 1)
            for camera in cameras
            for n in range(images)
        ]

    query, gallery = items((3, 6), Modality.INFRARED), items((1, 2, 4, 5), Modality.VISIBLE)
    return SimpleNamespace(query=query, gallery=gallery)


def _features(dataset: Any, size: int, seed: int) -> TestFeatures:
    items = dataset.query + dataset.gallery
    targets, camids, modalities = (np.array([item[place] for item in items]) for place in (1, 2, 3))
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((targets.max() + 1, size), dtype=np.float32)
    rows = centers[targets] + 3 * rng.standard_normal((len(items), size), dtype=np.float32)
    return TestFeatures(torch.from_numpy(rows), targets, camids, modalities, np.arange(len(items)))


def _counts() -> Dict[str, Any]:
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] / 2**20
    return {"Python": round(held, 2), "objects": len(gc.get_objects()), "process": _resident()}


def _resident() -> Optional[float]:
    """Return the memory of this process in MiB; None if the system does not report it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    line = next(line for line in lines if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def _trim() -> Optional[float]:
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return None
    return _resident()
