"""Measure how much of each kind of work this machine does in a second, at most.

A *resource* is a kind of work, such as the multiply-adds of a float32 product. Its *rate* is what
the fastest of some short runs reached. The limit of a benchmark is the time that its work takes at
these rates (``measures.py``).
"""

import io
import mmap
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
import torch
from PIL import Image
from threadpoolctl import threadpool_limits

from .machine import machine
from .measuring import times_in_turn

RUNS = 5  # timed runs of each way, after one that is dropped
JPEG_SIZE = (288, 144)  # height, width

_PRODUCT_SIZE, _EMULATED_SIZE, _GPU_SIZE = 1024, 256, 8192
_COPIED = 128 << 20  # bytes, more than a processor's caches hold
_FRESH = 64 << 20  # bytes
_JPEGS = 32  # images of a run
_ROWS, _ROW = 128, 4096  # rows that are sorted, and numbers of a row


class Rate(NamedTuple):
    """How much of a resource this machine does in a second."""

    per_second: float  # of the fastest run
    unit: str
    amount: float  # work of a run
    seconds: List[float]  # of each run of the fastest way


class Probe(NamedTuple):
    """Work whose time gives a rate."""

    amount: float
    ways: Sequence[Callable[[], Any]]  # each does all of it; the fastest counts


class Resource(NamedTuple):
    """A kind of work."""

    unit: str
    make: Callable[[int, torch.device], Probe]  # (threads, device)


@cache
def measured_rate(name: str, threads: int, processor: bool = False, device: str = "cpu") -> Rate:
    """Return the rate of a resource; it is measured once in a process.

    Args:
        name: of ``RESOURCES``.
        threads: CPU threads.
        processor: count seconds of the processor, those of all threads together.
        device: where products and copies are made.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            unit, make = RESOURCES[name]
            amount, ways = make(threads, torch.device(device))
            cases = {str(number): way for number, way in enumerate(ways)}
            found = times_in_turn(cases, RUNS, processor=processor)
    finally:
        torch.set_num_threads(before)
    seconds = min(found.values(), key=min)
    return Rate(amount / max(min(seconds), 1e-9), unit, amount, seconds)


def _product(dtype: torch.dtype, threads: int, device: torch.device) -> Probe:
    """Multiply two square matrices."""
    size = _PRODUCT_SIZE
    if device.type == "cuda":
        size = _GPU_SIZE
    elif dtype is torch.bfloat16 and not machine()["bfloat16 instructions"]:
        size = _EMULATED_SIZE  # a larger one would take seconds
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return Probe(size**3, [_finished(lambda: left @ right, device)])


def _memory(threads: int, device: torch.device) -> Probe:
    """Copy an array that does not fit into a cache."""
    source, target = (torch.zeros(_COPIED // 4, device=device) for _ in range(2))
    return Probe(2 * _COPIED, [_finished(lambda: target.copy_(source), device)])


def _fresh_pages(threads: int, device: torch.device) -> Probe:
    """Write one byte of each page that the system has just given."""

    def touch() -> None:
        with mmap.mmap(-1, _FRESH) as pages:
            array = np.frombuffer(pages, np.uint8)
            array[:: mmap.PAGESIZE] = 1
            del array  # or the pages could not be given back

    return Probe(threads * _FRESH, [_in_threads(threads, touch)])


def _jpeg(threads: int, device: torch.device) -> Probe:
    """Decode images of ``JPEG_SIZE``, quality 90, with Pillow."""
    file = example_jpeg()

    def decode() -> None:
        for _ in range(_JPEGS):
            with Image.open(io.BytesIO(file)) as image:
                image.load()

    return Probe(threads * _JPEGS * JPEG_SIZE[0] * JPEG_SIZE[1], [_in_threads(threads, decode)])


def _sort(threads: int, device: torch.device) -> Probe:
    """Sort rows of random numbers by NumPy and by PyTorch."""
    rows = np.random.default_rng(0).standard_normal((threads * _ROWS, _ROW), dtype=np.float32)
    tensor, part = torch.from_numpy(rows), rows[:_ROWS]
    ways = [
        _in_threads(threads, lambda: np.sort(part, axis=1)),
        lambda: torch.sort(tensor, dim=1),
    ]
    return Probe(rows.size * float(np.log2(_ROW)), ways)


def example_jpeg() -> bytes:
    """Return a JPEG file of smooth areas with a little noise, as photographs have them."""
    random = np.random.default_rng(0)
    areas = random.integers(0, 255, (18, 9, 3), dtype=np.uint8)
    smooth = Image.fromarray(areas).resize(JPEG_SIZE[::-1], Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth) + random.normal(0, 8, (*JPEG_SIZE, 3))
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _finished(work: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Return ``work``; on a GPU, with a wait for its end."""
    if device.type != "cuda":
        return work

    def run() -> None:
        work()
        torch.cuda.synchronize(device)

    return run


def _in_threads(threads: int, part: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function in which each thread does ``part``."""
    if threads == 1:
        return part

    def run() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(part) for _ in range(threads)]:
                done.result()

    return run


PRODUCT, HALF_PRODUCT = "product, float32", "product, bfloat16"
MEMORY, FRESH_PAGES = "memory", "fresh pages"
JPEG, SORT = "JPEG", "sort, float32"

RESOURCES: Dict[str, Resource] = {
    PRODUCT: Resource("multiply-adds", partial(_product, torch.float32)),
    HALF_PRODUCT: Resource("multiply-adds", partial(_product, torch.bfloat16)),
    MEMORY: Resource("bytes read or written", _memory),
    FRESH_PAGES: Resource("bytes", _fresh_pages),
    JPEG: Resource("pixels", _jpeg),
    SORT: Resource("numbers x log2 of a row's length", _sort),
}
