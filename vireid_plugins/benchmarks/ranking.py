"""Compare CMC, mAP and mINP with the usual per-query loop, on test sets of published sizes."""

import dataclasses
from functools import partial
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import torch

from ..engine.devices import check_device
from ..evaluation import (
    RankRules,
    RegDBProtocol,
    SingleModalityProtocol,
    SYSUMM01Protocol,
    Trial,
    rank_metrics_from_similarity,
    rank_trials,
)
from ..evaluation.ranking.counting import form_of
from ..evaluation.similarity import normalize, products
from .measures import Measure
from .measuring import MEASURES, ratio, say_all, times_in_turn
from .rates import MEMORY, PRODUCT


@dataclasses.dataclass(frozen=True)
class Case:
    """Random features (N, D) in the shape of a published test set."""

    features: torch.Tensor
    targets: np.ndarray
    camids: np.ndarray
    trials: List[Trial]
    rules: RankRules


def make_case(name: str, size: int, seed: int = 0) -> Case:
    """Return features of ``size`` dimensions: an identity's center plus noise."""
    rng = np.random.default_rng(seed)
    if name.startswith("sysu"):
        targets, camids, trials = _sysu(rng, shots=1 if name == "sysu-single" else 10)
        rules = SYSUMM01Protocol().rules()
    elif name == "regdb":
        targets = np.tile(np.repeat(np.arange(206), 10), 2)
        camids = np.repeat([1, 2], 2060)
        halves = np.arange(2060), 2060 + np.arange(2060)
        trials = [Trial(*halves), Trial(*halves[::-1])]
        rules = RegDBProtocol("visible_to_infrared").rules()
    else:
        targets, camids = rng.integers(0, 750, 3368 + 15913), rng.integers(1, 7, 3368 + 15913)
        trials = [Trial(np.arange(3368), 3368 + np.arange(15913))]
        rules = SingleModalityProtocol().rules()
    centers = rng.standard_normal((int(targets.max()) + 1, size), dtype=np.float32)
    features = centers[targets]
    features += 6.0 * rng.standard_normal(features.shape, dtype=np.float32)
    return Case(torch.from_numpy(features), targets, camids, trials, rules)


def _sysu(rng: np.random.Generator, shots: int) -> Tuple[np.ndarray, np.ndarray, List[Trial]]:
    """Return 3803 infrared queries and 6775 visible images of 96 identities, and ten galleries."""
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
    """Rank as the usual script does: sort each row's indices, then one Python step per query."""
    query_targets, gallery_targets = case.targets[trial.query], case.targets[trial.gallery]
    query_cameras, gallery_cameras = case.camids[trial.query], case.camids[trial.gallery]
    order = np.argsort(-similarity, axis=1)
    hits, precisions, penalties = 0, [], []
    for row, (target, camera) in enumerate(zip(query_targets, query_cameras)):
        ranking = order[row]
        labels, cameras = gallery_targets[ranking], gallery_cameras[ranking]
        keep = np.ones(len(ranking), dtype=bool)  # the rules again, as scripts write them
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


def products_needed(trials: Sequence[Trial]) -> List[Tuple[np.ndarray, np.ndarray]]:
    """Return the rows of queries and of gallery images of each product that trials need.

    Trials with the same queries share one product, with all images of their galleries.
    """
    galleries: Dict[bytes, List[np.ndarray]] = {}
    for trial in trials:
        galleries.setdefault(trial.query.tobytes(), []).append(trial.gallery)
    return [
        (np.frombuffer(query, np.int64).copy(), np.unique(np.concatenate(rows)))
        for query, rows in galleries.items()
    ]


def products_of(
    normal: torch.Tensor, needed: Sequence[Tuple[np.ndarray, np.ndarray]]
) -> Callable[[], None]:
    """Return a function that computes products alone. The memory for them exists before.

    Args:
        normal: (N, D) features of length 1.
        needed: see :func:`products_needed`.
    """
    jobs = []
    for rows in needed:
        asked, found = (normal[torch.from_numpy(of).to(normal.device)] for of in rows)
        jobs.append((asked, found, normal.new_empty((len(asked), len(found)))))

    def run() -> None:
        for asked, found, out in jobs:
            products(asked, found, out=out)
        if normal.is_cuda:
            torch.cuda.synchronize()

    return run


class Counting:
    """The scores of all queries with all gallery images of a case, and ways to rank them.

    Args:
        case: its features stand on the device that computes.
        normal: its features (N, D), of length 1.
    """

    def __init__(self, case: Case, normal: torch.Tensor) -> None:
        self.case = case
        self.queries = np.unique(np.concatenate([trial.query for trial in case.trials]))
        self.galleries = np.unique(np.concatenate([trial.gallery for trial in case.trials]))
        picked = [
            normal[torch.from_numpy(rows).to(normal.device)]
            for rows in (self.queries, self.galleries)
        ]
        self.scores = picked[0] @ picked[1].T
        self._of_loop = self.scores.cpu().numpy()  # copied outside its time
        self._rows = [np.searchsorted(self.queries, trial.query) for trial in case.trials]
        self._columns = [np.searchsorted(self.galleries, trial.gallery) for trial in case.trials]

    def counted(self) -> List[Any]:
        """Return the metrics of each trial by this package."""
        case, queries, galleries = self.case, self.queries, self.galleries
        return [
            rank_metrics_from_similarity(
                self.scores,
                case.targets[queries],
                case.targets[galleries],
                case.camids[queries],
                case.camids[galleries],
                query_rows=None if len(rows) == len(queries) else rows,
                gallery_rows=columns,
                skip_camera_pairs=case.rules.skip_camera_pairs,
                skip_same_camera=case.rules.skip_same_camera,
                cmc=case.rules.cmc,
            )
            for rows, columns in zip(self._rows, self._columns)
        ]

    def loop(self, num_trials: int) -> List[Any]:
        """Return the metrics of the first trials by the usual loop."""
        picked = list(zip(self._rows, self._columns, self.case.trials))[:num_trials]
        return [loop_metrics(self._of_loop[np.ix_(r, c)], self.case, t) for r, c, t in picked]


def bench_case(
    name: str,
    size: int,
    repeats: int,
    loop_trials: int,
    device: str = "cpu",
    processor: bool = False,
) -> Dict[str, Any]:
    """Return the seconds of one case: of the matrix product, of the ranks, and of both.

    On a GPU a run ends with the metrics on the CPU, so that its time is that of finished work.
    """
    case = make_case(name, size)
    case = dataclasses.replace(case, features=case.features.to(device))
    normal = normalize(case.features)
    counting = Counting(case, normal)
    for expected, got in zip(counting.loop(loop_trials), counting.counted()):
        np.testing.assert_allclose((got.cmc[0], got.mAP, got.mINP), expected, atol=1e-6)
    timed = partial(times_in_turn, processor=processor)
    loop = {"loop": partial(counting.loop, loop_trials)}
    seconds = timed(loop, max(1, repeats // 3), warm_up=False)
    share = len(case.trials) / min(loop_trials, len(case.trials))
    seconds["loop"] = [value * share for value in seconds["loop"]]
    needed = products_needed(case.trials)
    labels = case.targets, case.camids, case.trials, case.rules
    ways: Dict[str, Callable[[], Any]] = {
        "product": products_of(normal, needed),
        "ranks from scores": counting.counted,
        "product and ranks": partial(rank_trials, case.features, *labels),
    }
    seconds.update(timed(ways, repeats))
    out: Dict[str, Any] = {"trials": len(case.trials), "loop_trials_timed": loop_trials, **seconds}
    for key in ("ranks from scores", "product and ranks"):
        out[f"ratio of loop to {key}"] = ratio(seconds, "loop", key)
        out[f"ratio of {key} to product"] = ratio(seconds, key, "product")
    out["form"] = form_of(counting.scores)
    read = {MEMORY: 4 * sum(len(trial.query) * len(trial.gallery) for trial in case.trials)}
    product = {PRODUCT: size * sum(len(query) * len(gallery) for query, gallery in needed)}
    work = {"ranks from scores": read, "product and ranks": {**read, **product}}
    out[MEASURES] = [Measure(way, seconds[way], of, seconds["loop"]) for way, of in work.items()]
    return out


CASES = ("sysu-single", "sysu-multi", "regdb", "market")


def run(
    *,
    cases: Sequence[str] = CASES,
    loop_trials: int = 1,
    size: int = 2048,
    repeats: int = 5,
    threads: int = 2,
    device: str = "cpu",
    processor_time: bool = False,
) -> Dict[str, Any]:
    """Measure every case that was asked for.

    Args:
        cases: test sets.
        loop_trials: trials that the loop ranks.
        size: dimensions of a feature.
        device: where this package ranks, such as ``"cuda"``; the loop always runs on the CPU.
        processor_time: measure seconds of the processor, see ``times_in_turn``.

    Raises:
        UserError: the device is unknown or absent.
    """
    check_device(device, "--device")
    results = {}
    for name in cases:
        results[name] = bench_case(name, size, repeats, loop_trials, device, processor_time)
        say_all(name, results[name])
    return results
