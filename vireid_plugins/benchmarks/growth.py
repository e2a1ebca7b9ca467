"""How cost grows with gallery, queries, identities, items and batch: times, and a plot."""

import argparse
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from vireid_plugins.drawing.style import (
    BLACK,
    COLORS,
    MARKERS,
    new_figure,
    styled,
    write_figure,
)
from vireid_plugins.evaluation import NearestNeighbors, jaccard_distance, rank_metrics

from .jaccard import K1, K2, make_features
from .measuring import say, times_in_turn
from .memory import measure
from .million import make_case

_SMALL = ["MODEL.DEVICE", "cpu", "INPUT.SIZE_TRAIN", "[128, 64]", "DATALOADER.NUM_INSTANCE", "4"]
#: what grows: the words of its axis
AXES = {
    "gallery": "gallery items ({queries:,} queries)",
    "queries": "queries ({fixed:,} gallery items)",
    "identities": "identities ({queries:,} queries,\n{fixed:,} gallery items)",
    "items": "items, all with all",
    "batch": "images of a training batch\n(AGW, ResNet-50, 128 × 64)",
}

_NOT_FURTHER = ("identities",)  # there cannot be more than gallery items


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this topic."""
    parser.add_argument("--most", type=int, default=1_000_000, help="largest gallery")
    parser.add_argument("--queries", type=int, default=1000, help="where the gallery grows")
    parser.add_argument("--fixed", type=int, default=10_000, help="gallery where queries grow")
    parser.add_argument("--batches", type=int, nargs="*", default=[16, 32, 64], help="of training")
    parser.add_argument("--most-items", type=int, default=50_000, help="of Jaccard distances")
    parser.add_argument("--size", type=int, default=256, help="dimensions of a feature")
    parser.set_defaults(repeats=3)


def sizes_up_to(most: int) -> List[int]:
    """1000, 3162, 10,000, ... up to ``most``, which is the last."""
    sizes = [int(1000 * 10 ** (step / 2)) for step in range(12)]
    return [size for size in sizes if size < most] + [most]


def run(args: argparse.Namespace) -> Dict[str, Any]:
    """Measure each axis and draw the plot beside the result."""
    results: Dict[str, Any] = {axis: {} for axis in AXES}
    for num in sizes_up_to(args.most):
        _add(results, "gallery", num, _ranking(args, args.queries, num), args.repeats)
    for num in sizes_up_to(args.most // 10):
        _add(results, "queries", num, _ranking(args, num, args.fixed), args.repeats)
    for num in (args.fixed // positives for positives in (1000, 100, 10, 1)):
        if num:
            cases = _ranking(args, args.queries, args.fixed, args.fixed // num)
            del cases["NearestNeighbors, k = 100"]  # knows of no identities
            _add(results, "identities", num, cases, args.repeats)
    for num in sizes_up_to(args.most_items):
        features = make_features(num, args.size)
        cases = {"Jaccard": lambda f=features: jaccard_distance(f, K1, K2)}
        _add(results, "items", num, cases, args.repeats)
    for num in args.batches:
        words = ["SOLVER.IMS_PER_BATCH", str(num), *_SMALL]
        step = measure("agw", words, args.repeats)
        results["batch"].setdefault("training step", {})[num] = [
            *step["step_seconds_range"],
            step["step_seconds"],
        ]
        say(f"batch {num}", "training step", results["batch"]["training step"][num])
    draw(results, args, args.out)
    return results


def _ranking(
    args: argparse.Namespace, queries: int, gallery: int, positives: int = 2
) -> Dict[str, Any]:
    case = make_case(SimpleNamespace(queries=queries, gallery=gallery, size=args.size), positives)
    index = NearestNeighbors().fit(case[1])
    return {
        "metrics": lambda: rank_metrics(*case),
        "metrics and top-100": lambda: rank_metrics(*case, top=100),
        "NearestNeighbors, k = 100": lambda: index.search(case[0], 100),
    }


def _add(results: Dict[str, Any], axis: str, num: int, cases: Dict[str, Any], repeats: int) -> None:
    for name, values in times_in_turn(cases, repeats).items():
        results[axis].setdefault(name, {})[num] = values
        say(f"{axis} {num}", name, values)


@styled()
def draw(results: Dict[str, Any], args: argparse.Namespace, folder: str) -> None:
    """One panel for each axis, both logarithmic; ten times further, dashed, as extrapolated."""
    figure = new_figure(10, 6.4)
    axes = [axis for axis in AXES if results[axis]]
    for place, axis in enumerate(axes, start=1):
        panel = figure.add_subplot(2, 3, place)
        _draw_axis(panel, axis, results[axis])
        panel.set(xscale="log", yscale="log", ylabel="seconds")
        panel.set_xlabel(AXES[axis].format(**vars(args)))
        for scale, span in ((panel.xaxis, panel.get_xlim()), (panel.yaxis, panel.get_ylim())):
            _number(scale, span[1] / span[0])
        panel.grid(True)
        panel.legend()
    write_figure(figure, folder, "growth")


def _number(scale: Any, span: float) -> None:
    """Plain numbers at powers of ten; where the axis is shorter than two, also between them."""
    scale.set_major_locator(LogLocator(subs=(1.0,) if span > 100 else (1.0, 2.0, 5.0)))
    scale.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    scale.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    """0.2, 50, 20k, 10M."""
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
