"""Evaluate test features: make the trials of a protocol, rank them exactly, print one table.

Nothing here depends on a particular model.

- ``features.py`` extracts features; ``protocols.py``, ``llcm.py`` and ``galleries.py`` make trials.
- ``rehearsal.py`` finds out from labels alone, before training, what an evaluation will compare.
- ``rules.py`` decides who may see whom; ``ranking/`` ranks a trial by scores and counts hits.
- ``reranking/`` and ``neighbors/`` look at more than one pair of images.
- ``evaluator.py`` puts the results into a table (``result.py``); ``build.py`` reads the config.
- ``cameras.py`` searches from each camera to each other.
- ``pair_distances.py`` counts the distances of all pairs, for histograms and thresholds.
"""

from .build import build_evaluator, build_protocols, evaluate, rehearse_tests
from .evaluator import VIReIDEvaluator
from .features import TestFeatures, evaluation_mode, extract_features, flip_options
from .llcm import LLCMProtocol
from .neighbors.search import NearestNeighbors
from .pair_distances import (
    EqualErrorPoint,
    PairHistogram,
    PairSet,
    count_pairs,
    equal_error_threshold,
    pair_sets,
)
from .protocols import (
    DIRECTIONS,
    CrossModalityProtocol,
    Protocol,
    RegDBProtocol,
    SingleModalityProtocol,
    SYSUMM01Protocol,
    Trial,
)
from .ranking.metrics import rank_metrics, rank_metrics_from_similarity, rank_trials
from .ranking.ranker import RankMetrics
from .ranking.rescoring import Rescorer, rank_rescored
from .reranking.expansion import QueryExpansion, expand_features
from .reranking.jaccard import jaccard_distance
from .reranking.rerank import (
    AffinityInference,
    Reranking,
    affinity_inference,
    k_reciprocal_rerank,
)
from .result import ResultRow, ResultTable, TestMetrics
from .rules import RankRules

__all__ = [
    "DIRECTIONS",
    "AffinityInference",
    "CrossModalityProtocol",
    "EqualErrorPoint",
    "LLCMProtocol",
    "NearestNeighbors",
    "PairHistogram",
    "PairSet",
    "Protocol",
    "QueryExpansion",
    "RankMetrics",
    "RankRules",
    "RegDBProtocol",
    "Reranking",
    "Rescorer",
    "ResultRow",
    "ResultTable",
    "SYSUMM01Protocol",
    "SingleModalityProtocol",
    "TestFeatures",
    "TestMetrics",
    "Trial",
    "VIReIDEvaluator",
    "affinity_inference",
    "build_evaluator",
    "build_protocols",
    "count_pairs",
    "equal_error_threshold",
    "evaluate",
    "evaluation_mode",
    "expand_features",
    "extract_features",
    "flip_options",
    "jaccard_distance",
    "k_reciprocal_rerank",
    "pair_sets",
    "rank_metrics",
    "rank_metrics_from_similarity",
    "rank_rescored",
    "rank_trials",
    "rehearse_tests",
]
