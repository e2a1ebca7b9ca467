"""Compute CMC, mAP and mINP, in percent, from arrays.

Shapes: Q queries, G gallery items, D features, N rows of one list that holds both. There is no
Python loop over queries or gallery items: scores are computed in blocks of queries, and ranks are
found by counting (``counting.py``). A block bounds the memory, whatever the sizes.

mINP follows Ye et al., *Deep Learning for Person Re-identification: A Survey and Outlook*; the CMC
that counts each identity once is the one of SYSU-MM01's evaluation (Wu et al., ICCV 2017).
"""

from typing import Any, Iterable, List, Optional, Sequence, Tuple

import torch

from ..arguments import MOST_PLACES, real_tensor, whole_number
from ..rules import RankRules, camera_pairs
from ..similarity import Array, check_metric, features_pair
from .arguments import Device, check_rules, device_of, labels_of, rows_of, trials_of
from .ranker import RankMetrics
from .scores import FeatureScorer, scores_of_features, scores_of_matrix
from .trials import Gallery, rank, rank_with


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
    device: Device = None,
) -> RankMetrics:
    """Rank a gallery for every query and return the metrics of the ranking.

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
        top: how many of each query's nearest gallery items to name, in ``nearest``, also for a
            query without a valid match.
        device: where to compute; by default where the features are.

    Raises:
        UserError: a word is unknown, shapes do not fit, or features are not finite.
    """
    rules = RankRules(camera_pairs(skip_camera_pairs), skip_same_camera, cmc, max_rank)
    check_metric(metric)
    top = whole_number(top, "top", 0, MOST_PLACES)
    where = device_of(device, query_features, gallery_features)
    query, gallery = features_pair(query_features, gallery_features, where)
    query_labels = labels_of(
        query_targets, query_camids, len(query), "query_features", rules, "query_"
    )
    gallery_labels = labels_of(
        gallery_targets, gallery_camids, len(gallery), "gallery_features", rules, "gallery_"
    )
    scores = scores_of_features(query, gallery, metric)
    return rank(scores, query_labels, [Gallery(gallery_labels, scores.columns)], rules, top)[0]


def rank_trials(
    features: Array,
    targets: Array,
    camids: Optional[Array],
    trials: Sequence[Any],
    rules: RankRules,
    *,
    metric: str = "cosine",
    device: Device = None,
) -> List[RankMetrics]:
    """Rank several trials over one list of features.

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
        UserError: as ``rank_metrics``.
    """
    check_rules(rules)
    trials = trials_of(trials)
    scorer = FeatureScorer(features, metric, device)
    labels = labels_of(targets, camids, len(features), "features", rules)
    return rank_with(scorer, labels, trials, rules)


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
    """Return what ``rank_metrics`` does, from a similarity matrix that exists already.

    Args:
        similarity: (Q, G) finite, the greater the nearer; for distances give minus the matrix.
        query_targets: (Q,) identities; like all labels, they are those of the whole matrix.
        gallery_targets: (G,) identities.
        query_camids: (Q,) camera numbers.
        gallery_camids: (G,) camera numbers.
        query_rows: which rows to use, in this order; all by default.
        gallery_rows: which columns to use; ties are ordered by place in this list.
        skip_camera_pairs: as in ``rank_metrics``, as are the other rules.
        skip_same_camera: see there.
        cmc: see there.
        max_rank: see there.

    Raises:
        UserError: as ``rank_metrics``.
    """
    rules = RankRules(camera_pairs(skip_camera_pairs), skip_same_camera, cmc, max_rank)
    matrix = real_tensor(similarity, "similarity")
    num_query, num_gallery = matrix.shape
    query = labels_of(query_targets, query_camids, num_query, "similarity", rules, "query_")
    gallery = labels_of(
        gallery_targets, gallery_camids, num_gallery, "similarity.T", rules, "gallery_"
    )
    columns = rows_of(gallery_rows, "gallery_rows", num_gallery)
    rows = None if query_rows is None else rows_of(query_rows, "query_rows", num_query)
    scores = scores_of_matrix(matrix, rows)
    picked = Gallery(gallery.take(columns), torch.from_numpy(columns).to(matrix.device))
    return rank(scores, query if rows is None else query.take(rows), [picked], rules)[0]
