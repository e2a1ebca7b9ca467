"""Measure and plot how cost grows with gallery, queries, identities, items and batch."""

from functools import partial
from typing import Any, Dict, List, Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..drawing.style import (
    BLACK,
    COLORS,
    MARKERS,
    new_figure,
    styled,
    write_figure,
)
from ..evaluation import NearestNeighbors, jaccard_distance, rank_metrics
from .counting import work_of
from .jaccard import K1, K2, make_features
from .measures import Measure
from .measuring import MEASURES, OUT, say, times_in_turn
from .memory import measure
from .million import make_case
from .rates import PRODUCT

_SMALL = ["MODEL.DEVICE", "cpu", "INPUT.SIZE_TRAIN", "[128, 64]", "DATALOADER.NUM_INSTANCE", "4"]
#: what grows -> the label of its axis
AXES = {
    "gallery": "gallery items ({queries:,} queries)",
    "queries": "queries ({fixed:,} gallery items)",
    "identities": "identities ({queries:,} queries,\n{fixed:,} gallery items)",
    "items": "items, all with all",
    "batch": "images of a training batch\n(AGW, ResNet-50, 128 × 64)",
}

_NOT_FURTHER = ("identities",)  # not extrapolated: there cannot be more than gallery items


def sizes_up_to(most: int) -> List[int]:
    """Return 1000, 3162, 10,000, ... up to ``most``, which is the last."""
    sizes = [int(1000 * 10 ** (step / 2)) for step in range(12)]
    return [size for size in sizes if size < most] + [most]


def run(
    *,
    most: int = 1_000_000,
    queries: int = 1000,
    fixed: int = 10_000,
    batches: Sequence[int] = (16, 32, 64),
    most_items: int = 50_000,
    size: int = 256,
    repeats: int = 3,
    threads: int = 2,
    processor_time: bool = False,
    out: str = OUT,
) -> Dict[str, Any]:
    """Measure each axis and draw the plot into ``out``.

    Args:
        most: size of the largest gallery.
        queries: number of queries while the gallery grows.
        fixed: size of the gallery while the number of queries or of identities grows.
        batches: sizes of training batches.
        most_items: largest number of items of Jaccard distances.
        size: dimensions of a feature.
        processor_time: measure seconds of the processor, see ``times_in_turn``.
    """
    results: Dict[str, Any] = {axis: {} for axis in AXES}
    results[MEASURES] = []
    timed = partial(times_in_turn, repeats=repeats, processor=processor_time)
    for num in sizes_up_to(most):
        _add(results, "gallery", num, timed(_ranking(queries, num, size)), queries * num * size)
    for num in sizes_up_to(most // 10):
        _add(results, "queries", num, timed(_ranking(num, fixed, size)), num * fixed * size)
    for num in (fixed // positives for positives in (1000, 100, 10, 1)):
        if num:
            cases = _ranking(queries, fixed, size, fixed // num)
            del cases["NearestNeighbors, k = 100"]  # it does not depend on identities
            _add(results, "identities", num, timed(cases), queries * fixed * size)
    for num in sizes_up_to(most_items):
        features = make_features(num, size)
        cases = {"Jaccard": partial(jaccard_distance, features, K1, K2)}
        _add(results, "items", num, timed(cases), num**2 / 2 * size)
    for num in batches:
        words = ["SOLVER.IMS_PER_BATCH", str(num), *_SMALL]
        step = measure("agw", words, repeats)
        seconds = step["processor_seconds" if processor_time else "seconds"]
        _add(results, "batch", num, {"training step": seconds}, step["multiply_adds"])
    draw(results, out, queries=queries, fixed=fixed)
    return results


def _ranking(queries: int, gallery: int, size: int, positives: int = 2) -> Dict[str, Any]:
    case = make_case(queries, gallery, size, positives)
    index = NearestNeighbors().fit(case[1])
    return {
        "metrics": lambda: rank_metrics(*case),
        "metrics and top-100": lambda: rank_metrics(*case, top=100),
        "NearestNeighbors, k = 100": lambda: index.search(case[0], 100),
    }


def _add(
    results: Dict[str, Any],
    axis: str,
    num: int,
    seconds: Dict[str, List[float]],
    multiply_adds: float,
) -> None:
    """Add the seconds of each case to the axis, and the work that all of them have to do."""
    case, work = f"{axis} {num}", work_of(PRODUCT, multiply_adds)
    for name, values in seconds.items():
        results[axis].setdefault(name, {})[num] = values
        results[MEASURES].append(Measure(name, values, work, case=case))
        say(case, name, values)


@styled()
def draw(results: Dict[str, Any], folder: str, **numbers: int) -> None:
    """Draw one panel for each axis, on logarithmic scales, and extrapolate by a factor of ten.

    Args:
        numbers: ``queries`` and ``fixed`` of :func:`run`, for the labels of the axes.
    """
    figure = new_figure(10, 6.4)
    axes = [axis for axis in AXES if results[axis]]
    for place, axis in enumerate(axes, start=1):
        panel = figure.add_subplot(2, 3, place)
        _draw_axis(panel, axis, results[axis])
        panel.set(xscale="log", yscale="log", ylabel="seconds")
        panel.set_xlabel(AXES[axis].format(**numbers))
        for scale, span in ((panel.xaxis, panel.get_xlim()), (panel.yaxis, panel.get_ylim())):
            _number(scale, span[1] / span[0])
        panel.grid(True)
        panel.legend()
    write_figure(figure, folder, "growth")


def _number(scale: Any, span: float) -> None:
    """Write plain numbers at powers of ten, and between them on an axis shorter than two powers."""
    scale.set_major_locator(LogLocator(subs=(1.0,) if span > 100 else (1.0, 2.0, 5.0)))
    scale.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    scale.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """Return a number as 0.2, 50, 20k or 10M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _draw_axis(panel: Any, axis: str, cases: Dict[str, Dict[int, List[float]]]) -> None:
    for (name, points), marker, color in zip(cases.items(), MARKERS, COLORS):
        sizes = np.array(sorted(points))
        middle = np.array([np.median(points[size]) for size in sizes])
        panel.plot(sizes, middle, marker=marker, markersize=4, color=color, label=name)
        if len(sizes) == 1 or axis in _NOT_FURTHER:
            continue
        power = np.log(middle[-1] / middle[-2]) / np.log(sizes[-1] / sizes[-2])
        further = np.array([sizes[-1], 10 * sizes[-1]])
        values = middle[-1] * (further / sizes[-1]) ** power
        panel.plot(further, values, "--", color=color)
    if axis not in _NOT_FURTHER:
        panel.plot([], [], "--", color=BLACK, label="extrapolated")
