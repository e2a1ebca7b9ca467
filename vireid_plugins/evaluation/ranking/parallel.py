"""Work on parts of many rows in threads, at most as many as PyTorch uses."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np
import torch


def in_parallel(work: Callable[[int, int], Any], length: int, least: int) -> None:
    """Call ``work(begin, end)`` for parts of ``length`` rows; it must release the GIL to gain.

    Args:
        least: rows of a part, at least; fewer than twice as many rows are one part. After an
            operation of PyTorch, its own threads go on turning for some milliseconds in case there
            is more to do, and take the cores from these. So short parts lose time.
    """
    parts = min(torch.get_num_threads(), length // max(1, least))
    if parts <= 1:
        work(0, length)
        return
    edges = np.linspace(0, length, parts + 1).astype(int).tolist()
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))
