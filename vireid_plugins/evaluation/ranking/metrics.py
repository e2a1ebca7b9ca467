"""CMC, mAP and mINP: arrays in, numbers out, in percent.

Shapes: Q queries, G gallery items, D features, N rows of one list that holds both. There is no
Python loop over queries or gallery items: scores are computed once for a block of queries and the
union of all gallery rows, every trial takes its columns, and ranks come from counting
(``counting.py``). Memory is bounded by the block, whatever the sizes.

mINP follows Ye et al., *Deep Learning for Person Re-identification: A Survey and Outlook*; the CMC
that counts each identity once is the one of SYSU-MM01's evaluation (Wu et al., ICCV 2017).
"""

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from ..rules import RankRules
from ..similarity import Array, Scorer, all_finite, as_features, check_metric
from .trial import RankMetrics, TrialRanker

_BLOCK_BYTES = 1 << 30


def _labels(values: Union[Array, Sequence[int]], name: str, length: int, of: str) -> np.ndarray:
    """``values`` as int64 (length,), or a ``ValueError`` that names both sides."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.ndim != 1 or len(array) != length:
        raise ValueError(
            f"{name} has shape {array.shape}, but {of} has {length} rows; expected ({length},)."
        )
    if array.size and not np.can_cast(array.dtype, np.int64, casting="same_kind"):
        raise ValueError(f"{name} must hold integers; got {array.dtype}.")
    return array.astype(np.int64)


def _cameras(
    values: Optional[Array], name: str, length: int, of: str, rules: RankRules
) -> Optional[np.ndarray]:
    if values is not None:
        return _labels(values, name, length, of)
    if rules.needs_cameras:
        raise ValueError(
            f"{name} is missing, but skip_camera_pairs={rules.skip_camera_pairs} and "
            f"skip_same_camera={rules.skip_same_camera} need camera numbers."
        )
    return None


def _device(device: Optional[Union[str, torch.device]], *features: Array) -> torch.device:
    if device is not None and str(device):
        return torch.device(device)
    tensors = [item for item in features if isinstance(item, Tensor)]
    return tensors[0].device if tensors else torch.device("cpu")


def rank_metrics(
    query_features: Array,
    gallery_features: Array,
    query_targets: Array,
    gallery_targets: Array,
    query_camids: Optional[Array] = None,
    gallery_camids: Optional[Array] = None,
    *,
    metric: str = "cosine",
    skip_camera_pairs: Iterable[Tuple[int, int]] = (),
    skip_same_camera: bool = False,
    cmc: str = "image",
    max_rank: int = 20,
    top: int = 0,
    device: Optional[Union[str, torch.device]] = None,
) -> RankMetrics:
    """Rank a gallery for every query and score the ranking.

    Equal computed scores are ordered by gallery index; nothing is rounded to create ties, and
    identical gallery features always tie. A query without a valid match is left out of every
    metric.

    Args:
        query_features: (Q, D); float32, or float64 for float64 ranks.
        gallery_features: (G, D); G may be 0.
        query_targets: (Q,) identities.
        gallery_targets: (G,) identities.
        query_camids: (Q,) camera numbers, needed by the two skip rules.
        gallery_camids: (G,) camera numbers.
        metric: ``"cosine"`` or ``"euclidean"``.
        skip_camera_pairs: pairs (query camera, gallery camera) never compared; SYSU-MM01 has
            ``{(3, 2)}``.
        skip_same_camera: never compare a query with gallery items of its identity *and* camera.
        cmc: ``"image"``, or ``"identity"``: each gallery identity counts once, at its best rank.
        max_rank: length of the CMC curve, whatever the gallery's size.
        top: how many of each query's nearest gallery items to name, in ``nearest``; every query's,
            also one's without a valid match.
        device: where to compute; by default where the features are.

    Raises:
        ValueError: an unknown word, shapes that do not fit, or features that are not finite.
    """
    rules = RankRules(tuple(skip_camera_pairs), skip_same_camera, cmc, max_rank)
    check_metric(metric)
    where = _device(device, query_features, gallery_features)
    query = as_features(query_features, "query_features", where)
    gallery = as_features(gallery_features, "gallery_features", where)
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query_features {tuple(query.shape)} and gallery_features {tuple(gallery.shape)} "
            "differ in their second size (D)."
        )
    num_query, num_gallery = len(query), len(gallery)
    query_targets = _labels(query_targets, "query_targets", num_query, "query_features")
    gallery_targets = _labels(gallery_targets, "gallery_targets", num_gallery, "gallery_features")
    query_camids = _cameras(query_camids, "query_camids", num_query, "query_features", rules)
    gallery_camids = _cameras(
        gallery_camids, "gallery_camids", num_gallery, "gallery_features", rules
    )
    if top < 0:
        raise ValueError(f"top must be 0 or more; got {top}.")
    # in the ranker's order, so that the scores need not be brought into it
    order = torch.from_numpy(np.argsort(gallery_targets, kind="stable")).to(where)
    scorer = Scorer(gallery[order], metric)
    columns = torch.empty_like(order)
    columns[order] = scorer.columns
    ranker = TrialRanker(
        gallery_targets, gallery_camids, columns, scorer.num_columns, num_query, rules, top
    )
    rows = np.arange(num_query)
    for part in _blocks(num_query, scorer):
        cameras = None if query_camids is None else query_camids[part]
        ranker.add(scorer.scores(query[part]), rows[part], query_targets[part], cameras)
    return ranker.metrics()


def _blocks(num_query: int, scorer: Scorer) -> Iterable[slice]:
    step = max(1, _BLOCK_BYTES // (scorer.itemsize * max(1, scorer.num_columns)))
    return (slice(begin, begin + step) for begin in range(0, num_query, step))


def rank_trials(
    features: Array,
    targets: Array,
    camids: Optional[Array],
    trials: Sequence[Any],
    rules: RankRules,
    *,
    metric: str = "cosine",
    device: Optional[Union[str, torch.device]] = None,
) -> List[RankMetrics]:
    """Score several trials over one list of features.

    For trials with the same queries each score is computed once, over the union of their galleries.

    Args:
        features: (N, D) of every test image.
        targets: (N,) identities.
        camids: (N,) camera numbers; None only if ``rules`` need none.
        trials: objects with ``query`` and ``gallery``, row numbers into ``features``.
        rules: who is compared with whom, and how hits are counted.
        metric: ``"cosine"`` or ``"euclidean"``.
        device: where to compute; by default where the features are.

    Returns:
        One ``RankMetrics`` per trial, in order.

    Raises:
        ValueError: as ``rank_metrics``.
    """
    check_metric(metric)
    where = _device(device, features)
    features = as_features(features, "features", where)
    targets = _labels(targets, "targets", len(features), "features")
    camids = _cameras(camids, "camids", len(features), "features", rules)
    queries = [_rows(trial.query, "trial.query", len(features)) for trial in trials]
    galleries = [_rows(trial.gallery, "trial.gallery", len(features)) for trial in trials]
    groups: Dict[bytes, List[int]] = {}  # of trials with the same queries
    for number, query in enumerate(queries):
        groups.setdefault(query.tobytes(), []).append(number)
    results: Dict[int, RankMetrics] = {}
    for numbers in groups.values():
        picked = [galleries[number] for number in numbers]
        found = _rank_galleries(
            features, targets, camids, queries[numbers[0]], picked, rules, metric
        )
        results.update(zip(numbers, found))
    return [results[number] for number in range(len(trials))]


def _rank_galleries(
    features: Tensor,
    targets: np.ndarray,
    camids: Optional[np.ndarray],
    query: np.ndarray,
    galleries: Sequence[np.ndarray],
    rules: RankRules,
    metric: str,
) -> List[RankMetrics]:
    """Score several galleries for the same queries, all by row numbers into ``features``."""
    rows = np.unique(np.concatenate(galleries))
    scorer = Scorer(features[torch.from_numpy(rows).to(features.device)], metric)
    rankers = []
    for gallery in galleries:
        columns = torch.from_numpy(np.searchsorted(rows, gallery)).to(features.device)
        cameras = None if camids is None else camids[gallery]
        rankers.append(
            TrialRanker(
                targets[gallery],
                cameras,
                scorer.columns[columns],
                scorer.num_columns,
                len(query),
                rules,
            )
        )
    numbers = np.arange(len(query))
    for part in _blocks(len(query), scorer):
        asked = query[part]
        scores = scorer.scores(features[torch.from_numpy(asked).to(features.device)])
        cameras = None if camids is None else camids[asked]
        for ranker in rankers:
            ranker.add(scores, numbers[part], targets[asked], cameras)
    return [ranker.metrics() for ranker in rankers]


def rank_metrics_from_similarity(
    similarity: Array,
    query_targets: Array,
    gallery_targets: Array,
    query_camids: Optional[Array] = None,
    gallery_camids: Optional[Array] = None,
    *,
    query_rows: Optional[Array] = None,
    gallery_rows: Optional[Array] = None,
    skip_camera_pairs: Iterable[Tuple[int, int]] = (),
    skip_same_camera: bool = False,
    cmc: str = "image",
    max_rank: int = 20,
) -> RankMetrics:
    """``rank_metrics`` from a similarity matrix that exists already (the greater, the nearer).

    Args:
        similarity: (Q, G) finite; give minus a distance matrix for distances.
        query_targets: (Q,), as all labels for the whole matrix.
        gallery_targets: (G,).
        query_camids: (Q,).
        gallery_camids: (G,).
        query_rows: which rows to use, in this order; all by default.
        gallery_rows: which columns to use; ties are ordered by place in this list.
        skip_camera_pairs: as in ``rank_metrics``, as are the other rules.
        skip_same_camera: see there.
        cmc: see there.
        max_rank: see there.

    Raises:
        ValueError: as ``rank_metrics``.
    """
    rules = RankRules(tuple(skip_camera_pairs), skip_same_camera, cmc, max_rank)
    scores = torch.as_tensor(similarity).detach()
    if scores.dim() != 2:
        raise ValueError(f"similarity must be (Q, G); got shape {tuple(scores.shape)}.")
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.float() if scores.is_floating_point() else scores.double()
    num_query, num_gallery = scores.shape
    if not all_finite(scores):
        raise ValueError("similarity holds NaN or infinity; ranks would mean nothing.")
    query_targets = _labels(query_targets, "query_targets", num_query, "similarity")
    gallery_targets = _labels(gallery_targets, "gallery_targets", num_gallery, "similarity.T")
    query_camids = _cameras(query_camids, "query_camids", num_query, "similarity", rules)
    gallery_camids = _cameras(gallery_camids, "gallery_camids", num_gallery, "similarity.T", rules)
    columns = _rows(gallery_rows, "gallery_rows", num_gallery)
    cameras = None if gallery_camids is None else gallery_camids[columns]
    rows = _rows(query_rows, "query_rows", num_query)
    if query_rows is not None:
        scores = scores[torch.from_numpy(rows).to(scores.device)]
        query_targets = query_targets[rows]
        query_camids = None if query_camids is None else query_camids[rows]
    where = torch.from_numpy(columns).to(scores.device)
    ranker = TrialRanker(gallery_targets[columns], cameras, where, num_gallery, len(rows), rules)
    ranker.add(scores, np.arange(len(rows)), query_targets, query_camids)
    return ranker.metrics()


def _rows(values: Optional[Array], name: str, length: int) -> np.ndarray:
    """Row numbers as int64; all rows for None; out of range raises ``ValueError``."""
    if values is None:
        return np.arange(length)
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    rows = np.asarray(values, dtype=np.int64).reshape(-1)
    if len(rows) and not (0 <= rows.min() and rows.max() < length):
        raise ValueError(
            f"{name} holds row numbers from {rows.min()} to {rows.max()}; there are {length} rows."
        )
    return rows
