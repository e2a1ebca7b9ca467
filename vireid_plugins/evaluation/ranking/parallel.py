"""Work on parts of many rows in threads, as many as PyTorch uses."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable

import numpy as np
import torch

_PARTS_PER_THREAD = 4  # so that no thread waits long for the last one


def in_parallel(work: Callable[[int, int], Any], length: int) -> None:
    """Call ``work(begin, end)`` for parts of ``length`` rows; it must release the GIL to gain."""
    threads = torch.get_num_threads()
    if threads == 1 or length == 1:
        work(0, length)
        return
    edges = np.linspace(0, length, threads * _PARTS_PER_THREAD + 1).astype(int).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))
