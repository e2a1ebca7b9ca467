"""How cost grows with gallery, queries, identities, items and batch: times, and a plot."""

import argparse
import os
from types import SimpleNamespace
from typing import Any, Dict, List

import numpy as np

from vireid_plugins.evaluation import NearestNeighbors, jaccard_distance, rank_metrics

from tools.bench_memory import measure

from .jaccard import K1, K2, make_features
from .measuring import say, times_in_turn
from .million import make_case

_SMALL = ["MODEL.DEVICE", "cpu", "INPUT.SIZE_TRAIN", "[128, 64]", "DATALOADER.NUM_INSTANCE", "4"]
#: what grows: the words of its axis
AXES = {
    "gallery": "gallery items, {queries} queries",
    "queries": "queries, {fixed} gallery items",
    "identities": "identities, {queries} queries, {fixed} gallery items",
    "items": "items, all with all",
    "batch": "images of a training batch, AGW, 128 x 64",
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
            *step["step_seconds_range"], step["step_seconds"]
        ]
        say(f"batch {num}", "training step", results["batch"]["training step"][num])
    os.makedirs(args.out, exist_ok=True)
    draw(results, args, os.path.join(args.out, "growth"))
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


def _add(
    results: Dict[str, Any], axis: str, num: int, cases: Dict[str, Any], repeats: int
) -> None:
    for name, values in times_in_turn(cases, repeats).items():
        results[axis].setdefault(name, {})[num] = values
        say(f"{axis} {num}", name, values)


def draw(results: Dict[str, Any], args: argparse.Namespace, path: str) -> None:
    """One panel for each axis, both logarithmic; ten times further, dashed, as extrapolated."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, 3, figsize=(11, 7), constrained_layout=True)
    axes = [axis for axis in AXES if results[axis]]
    for panel in panels.flat[len(axes) :]:
        panel.remove()
    for panel, axis in zip(panels.flat, axes):
        _draw_axis(panel, axis, results[axis])
        panel.set(xscale="log", yscale="log", ylabel="seconds")
        panel.set_xlabel(AXES[axis].format(**vars(args)))
        panel.grid(True, which="major", alpha=0.3)
        panel.legend(fontsize=8, frameon=False)
    for kind in ("png", "pdf"):
        figure.savefig(f"{path}.{kind}", dpi=150)
    plt.close(figure)


def _draw_axis(panel: Any, axis: str, cases: Dict[str, Dict[int, List[float]]]) -> None:
    for marker, (name, points) in zip("osD", cases.items()):
        sizes = np.array(sorted(points))
        middle = np.array([np.median(points[size]) for size in sizes])
        (line,) = panel.plot(sizes, middle, marker=marker, markersize=4, label=name)
        if len(sizes) == 1 or axis in _NOT_FURTHER:
            continue
        power = np.log(middle[-1] / middle[-2]) / np.log(sizes[-1] / sizes[-2])
        further = np.array([sizes[-1], 10 * sizes[-1]])
        values = middle[-1] * (further / sizes[-1]) ** power
        panel.plot(further, values, "--", color=line.get_color())
    if axis not in _NOT_FURTHER:
        panel.plot([], [], "k--", label="extrapolated")
