"""Compare MRDA's dynamic attention with full attention.

Both get the same map (B, C, H, W) and return the mean attended vector (B, C); the forward and the
backward pass are measured. "as printed" computes Eq. (9), (14), (15) in their order: a value for
every position, an output for every query, then the mean. "k of R" is the module, which takes the
mean of alpha first and computes one value per image. So the table shows the effect of choosing
stripes apart from the effect of the order of the products. Peak memory is that of the tensors that
the case allocates, without its input and weights.
"""

import statistics
from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple

import torch
from torch import Tensor

from ..modeling.layers import DynamicAttention
from .counting import counted, work_of
from .measures import Measure
from .measuring import MEASURES, markdown_table, times_in_turn
from .rates import PRODUCT

MAPS = ((18, 9), (36, 18))
STRIPES = 6
KEPT = (1, 2, 3, 6)
_BASE = "full attention, as printed"


def as_printed(module: DynamicAttention, kept: int, feature_map: Tensor) -> Tensor:
    """Compute Eq. (9)-(15) in their order, and avg of Eq. (16); all stripes is full attention."""
    query, key, value = (conv(feature_map) for conv in (module.query, module.key, module.value))
    batch, width, height, columns = query.shape
    chosen = query
    if kept < STRIPES:  # STRIPES divides the heights of MAPS
        rows = module.choose(query, key)[:, :kept, None] * (height // STRIPES)
        rows = (rows + torch.arange(height // STRIPES, device=rows.device)).flatten(1)
        places = rows[:, None, :, None].expand(-1, width, -1, columns)
        chosen = query.gather(2, places)
    alpha = (module.scale * chosen.flatten(2).transpose(1, 2) @ key.flatten(2)).softmax(dim=-1)
    return (alpha @ value.flatten(2).transpose(1, 2)).mean(dim=1)


class Found(NamedTuple):
    """What was measured of a case."""

    seconds: List[float]
    peak: int  # bytes
    multiply_adds: float


def measure(
    cases: Dict[str, Callable[[], Tensor]], device: torch.device, repeats: int, processor: bool
) -> Dict[str, Found]:
    """Return what was measured, by case: the seconds of each repeat, and more in further runs."""

    def step(run: Callable[[], Tensor]) -> None:
        run().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    steps = {name: partial(step, run) for name, run in cases.items()}
    times = times_in_turn(steps, repeats, processor=processor)
    return {
        name: Found(times[name], _peak_bytes(one, device), counted(one))
        for name, one in steps.items()
    }


def _peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def bench_map(
    height: int,
    width: int,
    batch: int,
    channels: int,
    repeats: int,
    device: torch.device,
    processor: bool = False,
) -> Dict[str, Found]:
    """Return what was measured of each case on a map of ``height`` x ``width``."""
    torch.manual_seed(0)
    feature_map = torch.randn(batch, channels, height, width, device=device).relu()
    feature_map.requires_grad_()
    modules = {k: DynamicAttention(channels, STRIPES, k).to(device) for k in KEPT}
    for module in modules.values():
        module.load_state_dict(modules[STRIPES].state_dict())
    for kept, module in modules.items():
        expected = as_printed(module, kept, feature_map)
        torch.testing.assert_close(module(feature_map), expected, rtol=1e-3, atol=1e-4)
    cases: Dict[str, Callable[[], Tensor]] = {}
    for kept, module in sorted(modules.items(), reverse=True):
        name = "full attention" if kept == STRIPES else f"{kept} of {STRIPES}"
        cases[f"{name}, as printed"] = partial(as_printed, module, kept, feature_map)
    for kept, module in sorted(modules.items(), reverse=True):
        cases[f"{kept} of {STRIPES}"] = partial(module, feature_map)
    return measure(cases, device, repeats, processor)


def rows_of(shape: str, measured: Dict[str, Found]) -> List[List[str]]:
    """Return a row for each case: map, name, milliseconds, ratio of time, MiB, ratio of memory."""
    base_times, base_bytes, _ = measured[_BASE]
    rows = []
    for name, (times, peak, _) in measured.items():
        seconds = statistics.median(times)
        spread = f"{1000 * min(times):.0f} to {1000 * max(times):.0f}"
        rows.append(
            [
                shape,
                name,
                f"{1000 * seconds:.0f} ({spread})",
                f"{statistics.median(base_times) / seconds:.1f}",
                f"{peak / 2**20:.0f}",
                f"{base_bytes / max(1, peak):.1f}",
            ]
        )
    return rows


def measures_of(measured: Dict[str, Found]) -> List[Measure]:
    """Return the times with the multiply-adds that each case makes."""
    base = measured[_BASE].seconds
    return [
        Measure(name, found.seconds, work_of(PRODUCT, found.multiply_adds), base)
        for name, found in measured.items()
    ]


def run(
    *,
    batch: int = 8,
    channels: int = 2048,
    repeats: int = 5,
    threads: int = 1,
    device: str = "cpu",
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure every map; the result has a table.

    Args:
        batch: number of images.
        channels: channels of the map.
        device: ``"cpu"`` or ``"cuda"``.
        processor_time: measure seconds of the processor, see ``times_in_turn``.
    """
    head = ["map", "attention", "ms, forward + backward", "times faster", "peak MiB", "times less"]
    rows: List[List[str]] = []
    maps: Dict[str, Any] = {}
    for height, width in MAPS:
        shape = f"{height} x {width}"
        found = bench_map(
            height, width, batch, channels, repeats, torch.device(device), processor_time
        )
        rows += rows_of(shape, found)
        maps[shape] = {MEASURES: measures_of(found)}
    return {
        **maps,
        "rows": [dict(zip(head, row)) for row in rows],
        "table": f"{markdown_table([head, *rows])}\n{batch} images, {channels} channels, {device}, "
        f"{threads} threads, PyTorch {torch.__version__}; median of {repeats} (smallest to "
        "largest)\n",
    }
