"""Measure ranking against the per-query loop that it replaces, in one run.

    python tools/bench.py                   # every case
    python tools/bench.py sysu-single --repeats 5 --threads 2 --out logs/bench

Seeds are fixed, the first run of everything is dropped, medians and spreads (smallest to largest)
are printed. The loop is re-implemented here from its definition and used nowhere else. A result
is written as JSON whose file name carries PyTorch's version, the device and the threads.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireid_plugins.evaluation import (  # noqa: E402
    RankRules,
    Trial,
    rank_metrics_from_similarity,
    rank_trials,
)
from vireid_plugins.evaluation.similarity import normalise  # noqa: E402

SYSU = RankRules(skip_camera_pairs=((3, 2),), cmc="identity")
REGDB = RankRules()
MARKET = RankRules(skip_same_camera=True)


@dataclass(frozen=True)
class Case:
    """Random features (N, D) in the shape of a published test set."""

    features: torch.Tensor
    targets: np.ndarray
    camids: np.ndarray
    trials: List[Trial]
    rules: RankRules


def make_case(name: str, size: int, seed: int = 0) -> Case:
    """Features of ``size`` dimensions: an identity's centre plus noise."""
    rng = np.random.default_rng(seed)
    if name.startswith("sysu"):
        targets, camids, trials = _sysu(rng, shots=1 if name == "sysu-single" else 10)
        rules = SYSU
    elif name == "regdb":
        targets = np.tile(np.repeat(np.arange(206), 10), 2)
        camids = np.repeat([1, 2], 2060)
        halves = np.arange(2060), 2060 + np.arange(2060)
        trials, rules = [Trial(*halves), Trial(*halves[::-1])], REGDB
    else:
        targets, camids = rng.integers(0, 750, 3368 + 15913), rng.integers(1, 7, 3368 + 15913)
        trials, rules = [Trial(np.arange(3368), 3368 + np.arange(15913))], MARKET
    centres = rng.standard_normal((int(targets.max()) + 1, size), dtype=np.float32)
    features = centres[targets]
    features += 6.0 * rng.standard_normal(features.shape, dtype=np.float32)
    return Case(torch.from_numpy(features), targets, camids, trials, rules)


def _sysu(rng: np.random.Generator, shots: int) -> Tuple[np.ndarray, np.ndarray, List[Trial]]:
    """3803 infrared queries and 6775 visible images of 96 identities; ten galleries."""
    folders = [(i, c) for i in range(96) for c in (1, 2, 4, 5) if not (c > 2 and i % 4 == 3)]
    folders = folders[: 301 if shots == 1 else len(folders)]
    owner = np.sort(rng.integers(0, len(folders), 6775))
    pairs = np.array(folders)[owner]
    targets = np.concatenate([rng.integers(0, 96, 3803), pairs[:, 0]])
    camids = np.concatenate([np.repeat([3, 6], [1883, 1920]), pairs[:, 1]])
    trials = []
    for _ in range(10):
        rows = [rng.permutation(np.flatnonzero(owner == f))[:shots] for f in range(len(folders))]
        trials.append(Trial(np.arange(3803), 3803 + np.concatenate(rows)))
    return targets, camids, trials


def loop_metrics(similarity: np.ndarray, case: Case, trial: Trial) -> Tuple[float, float, float]:
    """The usual script: sort each row's indices, then one Python step per query."""
    query_targets, gallery_targets = case.targets[trial.query], case.targets[trial.gallery]
    query_cameras, gallery_cameras = case.camids[trial.query], case.camids[trial.gallery]
    order = np.argsort(-similarity, axis=1)
    hits, precisions, penalties = 0, [], []
    for row, (target, camera) in enumerate(zip(query_targets, query_cameras)):
        ranking = order[row]
        labels, cameras = gallery_targets[ranking], gallery_cameras[ranking]
        keep = np.ones(len(ranking), dtype=bool)
        for query_camera, gallery_camera in case.rules.skip_camera_pairs:
            keep &= ~((camera == query_camera) & (cameras == gallery_camera))
        if case.rules.skip_same_camera:
            keep &= ~((labels == target) & (cameras == camera))
        labels = labels[keep]
        if case.rules.cmc == "identity":
            first = np.unique(labels, return_index=True)[1]
            once = [labels[index] for index in sorted(first)]
        else:
            once = labels
        matches = (labels == target).astype(np.int32)
        if not matches.any():
            continue
        hits += once[0] == target
        found = matches.cumsum()
        steps = [value / (index + 1.0) for index, value in enumerate(found)]
        precisions.append((np.asarray(steps) * matches).sum() / matches.sum())
        last = np.flatnonzero(matches)[-1]
        penalties.append(found[last] / (last + 1.0))
    count = len(precisions)
    return 100 * hits / count, 100 * float(np.mean(precisions)), 100 * float(np.mean(penalties))


def bench_case(name: str, size: int, repeats: int, loop_trials: int) -> Dict[str, Any]:
    """Times in seconds of one case, with and without the matrix product."""
    case = make_case(name, size)
    normal = normalise(case.features)
    galleries = np.unique(np.concatenate([trial.gallery for trial in case.trials]))
    queries = np.unique(np.concatenate([trial.query for trial in case.trials]))
    scores = normal[torch.from_numpy(queries)] @ normal[torch.from_numpy(galleries)].T
    rows = [np.searchsorted(queries, trial.query) for trial in case.trials]
    columns = [np.searchsorted(galleries, trial.gallery) for trial in case.trials]

    def counted() -> List[Any]:
        return [
            rank_metrics_from_similarity(
                scores,
                case.targets[queries],
                case.targets[galleries],
                case.camids[queries],
                case.camids[galleries],
                query_rows=None if len(row) == len(queries) else row,
                gallery_rows=column,
                skip_camera_pairs=case.rules.skip_camera_pairs,
                skip_same_camera=case.rules.skip_same_camera,
                cmc=case.rules.cmc,
            )
            for row, column in zip(rows, columns)
        ]

    def whole() -> List[Any]:
        return rank_trials(case.features, case.targets, case.camids, case.trials, case.rules)

    def loop() -> List[Any]:
        picked = list(zip(rows, columns, case.trials))[:loop_trials]
        return [loop_metrics(scores.numpy()[np.ix_(r, c)], case, t) for r, c, t in picked]

    results = counted()
    for expected, got in zip(loop(), results):
        np.testing.assert_allclose((got.cmc[0], got.mAP, got.mINP), expected, atol=1e-6)
    timed_loop = _times(loop, max(1, repeats // 3))
    share = len(case.trials) / min(loop_trials, len(case.trials))
    out: Dict[str, Any] = {"trials": len(case.trials), "loop_trials_timed": loop_trials}
    out["loop"] = [seconds * share for seconds in timed_loop]
    out["ranks from scores"] = _times(counted, repeats)
    out["product and ranks"] = _times(whole, repeats)
    for key in ("ranks from scores", "product and ranks"):
        out[f"ratio of loop to {key}"] = float(np.median(out["loop"]) / np.median(out[key]))
    return out


def _times(run: Callable[[], Any], repeats: int) -> List[float]:
    """Seconds of each of ``repeats`` runs after one that is dropped."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


CASES = ("sysu-single", "sysu-multi", "regdb", "market")


def main() -> None:
    """Parse the command line, measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs after the warm-up")
    parser.add_argument("--loop-trials", type=int, default=1, help="trials that the loop ranks")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--size", type=int, default=2048, help="dimensions of a feature")
    parser.add_argument("--out", default=os.path.join("logs", "bench"), help="folder of results")
    args = parser.parse_args()
    unknown = sorted(set(args.cases) - set(CASES))
    if unknown:
        parser.error(f"unknown case {', '.join(unknown)}; valid: {', '.join(CASES)}")
    torch.set_num_threads(args.threads)
    results: Dict[str, Any] = {"torch": torch.__version__, "numpy": np.__version__}
    results.update(device="cpu", threads=args.threads, size=args.size)
    for name in args.cases:
        results[name] = bench_case(name, args.size, args.repeats, args.loop_trials)
        for key, value in results[name].items():
            text = f"{value:.1f}" if isinstance(value, float) else str(value)
            if isinstance(value, list):
                text = f"{np.median(value):.3f} s ({min(value):.3f} to {max(value):.3f})"
            sys.stdout.write(f"{name:12s} {key:36s} {text}\n")
    os.makedirs(args.out, exist_ok=True)
    file = f"ranking_torch{torch.__version__}_cpu_{args.threads}threads.json"
    with open(os.path.join(args.out, file), "w", encoding="utf-8") as handle:
        json.dump(results, handle, indent=2)
    sys.stdout.write(f"Written: {os.path.join(args.out, file)}\n")


if __name__ == "__main__":
    main()
