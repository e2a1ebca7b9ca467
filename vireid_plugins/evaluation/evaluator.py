"""From the features of a test set to one table: every protocol line, mean ± std over its trials."""

import logging
from typing import Any, List, Optional, Sequence, Union

import numpy as np

from fastreid.data.datasets import DATASET_REGISTRY

from ..data.item import test_items
from ..errors import UserError
from ..keys import SWITCH, Key, check_values, declare, one_of, text
from ..registry import PROTOCOL_REGISTRY, lookup
from .features import TestFeatures
from .protocols import Protocol, SingleModalityProtocol, Trial
from .ranking.arguments import labels_of
from .ranking.ranker import RankMetrics
from .ranking.rescoring import Rescorer, RescoringScorer
from .ranking.scores import FeatureScorer, TrialScorer
from .ranking.trials import rank_with
from .reranking.jaccard import DEFINITIONS
from .reranking.rerank import AffinityInference, QueryExpansion, Reranking
from .reranking.scorer import RerankingScorer
from .result import METRIC_NAMES, RANKS, ResultRow, ResultTable
from .rules import RankRules
from .similarity import check_metric

logger = logging.getLogger(__name__)

RERANKING_METHODS = ("k_reciprocal", "aim")

declare(
    "TEST",
    Key("DEVICE", "", text("a device"), "where similarities are computed; empty: MODEL.DEVICE"),
)
declare(
    "TEST.RERANK",
    Key("METHOD", "k_reciprocal", one_of(*RERANKING_METHODS), "Zhong et al.; aim: SAAI, no LAMBDA"),
    Key("DEFINITION", "original", one_of(*DEFINITIONS), "of k_reciprocal; softmax: as FastReID"),
    Key("CROSS_MODALITY", False, SWITCH, "neighbors come from queries and gallery in turn"),
)


class VIReIDEvaluator:
    """Scores the features of one test set by several protocols.

    Args:
        protocols: lines of the table, in order; the first decides ``metric``.
        dataset: the dataset whose ``query + gallery`` the features belong to.
        dataset_name: first part of every metric's name.
        metric: ``"cosine"`` or ``"euclidean"``.
        reranking: re-rank every trial's gallery; None: do not.
        expansion: expand every trial's features before they are ranked or re-ranked, which needs
            the cosine metric; None: do not.
        device: where to compute; empty: on the CPU.
        feature: what the features are, for the table, where they do not say it themselves.
        note: a sentence below the table.

    Raises:
        UserError: no protocol, or an unknown metric.
    """

    def __init__(
        self,
        protocols: Sequence[Protocol],
        dataset: Any,
        *,
        dataset_name: str,
        metric: str = "cosine",
        reranking: Union[Reranking, AffinityInference, None] = None,
        expansion: Optional[QueryExpansion] = None,
        device: str = "",
        feature: str = "model output",
        note: str = "",
    ) -> None:
        check_metric(metric)
        if not protocols:
            raise UserError(
                f"{dataset_name}: no protocol to evaluate; TEST.PROTOCOL names no mode, shots or "
                "direction."
            )
        self.protocols, self.dataset, self.dataset_name = list(protocols), dataset, dataset_name
        self.metric, self.device = metric, device or "cpu"
        self.reranking, self.expansion = reranking, expansion
        if metric != "cosine" and (expansion or isinstance(reranking, AffinityInference)):
            words = " and ".join(filter(None, map(str, (expansion or "", reranking or ""))))
            raise UserError(f"{words}: that needs TEST.METRIC cosine; got {metric}.")
        self.feature, self.note = feature, note

    def evaluate(self, features: TestFeatures) -> ResultTable:
        """Score ``features``, one row per test image.

        Where the features come with a rescorer, it re-orders the nearest images of each query.

        Raises:
            UserError: features that are not those of the dataset's test images, a protocol
                none of whose queries has a valid match, with the reason, or a rescorer beside
                re-ranking or another metric than cosine.
        """
        expected = len(test_items(self.dataset))
        if not np.array_equal(features.index, np.arange(expected)):
            raise UserError(
                f"{self.dataset_name} has {expected} test images, but features came for "
                f"{len(features.index)} (index {features.index[:1]} to {features.index[-1:]}); "
                "each must come once."
            )
        reranking = ", ".join(str(step) for step in (self.expansion, self.reranking) if step)
        if features.rescorer is not None:
            self._check_rescoring(features.rescorer)
            reranking = features.rescorer.description
        rows = [self._row(protocol, features) for protocol in self.protocols]
        feature = features.feature or self.feature
        return ResultTable(rows, feature, self.metric, features.flip, reranking, self.note)

    def _check_rescoring(self, rescorer: Rescorer) -> None:
        if self.reranking or self.expansion or self.metric != "cosine":
            raise UserError(
                f"The model re-orders its nearest images ({rescorer.description}), which works "
                "on cosine distances that nothing else re-ranks: set TEST.RERANK.ENABLED False "
                f"(now {self.reranking is not None}), TEST.AQE.ENABLED False (now "
                f"{self.expansion is not None}) and TEST.METRIC cosine (now {self.metric}), or "
                "switch the model's re-scoring off."
            )

    def _row(self, protocol: Protocol, features: TestFeatures) -> ResultRow:
        trials = list(protocol.trials(self.dataset))
        results = self._rank(features, trials, protocol.rules(max(RANKS)))
        for number, (trial, result) in enumerate(zip(trials, results)):
            if result.num_valid_queries == 0:
                raise UserError(self._why_no_match(protocol, trial, number, features))
        values = {name: [_value(result, name) for result in results] for name in METRIC_NAMES}
        queries = [len(trial.query) for trial in trials]
        return ResultRow(
            key=f"{self.dataset_name}/{protocol.key}",
            direction=protocol.direction,
            gallery_rule=protocol.gallery_rule,
            num_trials=len(trials),
            num_queries=max(queries),
            num_invalid_queries=float(
                np.mean([n - r.num_valid_queries for n, r in zip(queries, results)])
            ),
            num_gallery=float(np.mean([len(trial.gallery) for trial in trials])),
            mean={name: float(np.mean(value)) for name, value in values.items()},
            std={name: float(np.std(value)) for name, value in values.items()},
        )

    def _rank(
        self, features: TestFeatures, trials: Sequence[Trial], rules: RankRules
    ) -> List[RankMetrics]:
        """Rank all trials by the scores that re-scoring, re-ranking or the features give."""
        targets, camids, rows = features.targets, features.camids, features.features
        labels = labels_of(targets, camids, len(rows), "features", rules)
        scorer: TrialScorer
        if features.rescorer is not None:
            assert features.local is not None, "a rescorer comes with local features"
            scorer = RescoringScorer(
                rows, features.local, features.rescorer, labels, rules, self.device
            )
        elif self.reranking or self.expansion:
            scorer = RerankingScorer(rows, self.metric, self.reranking, self.expansion)
        else:
            scorer = FeatureScorer(rows, self.metric, self.device)
        return rank_with(scorer, labels, trials, rules)

    def _why_no_match(
        self, protocol: Protocol, trial: Trial, number: int, features: TestFeatures
    ) -> str:
        query, gallery = features.targets[trial.query], features.targets[trial.gallery]
        shared = np.intersect1d(query, gallery)
        head = (
            f"{self.dataset_name}/{protocol.key}, trial {number}: none of {len(query)} queries has "
            f"a valid match among {len(gallery)} gallery images. "
        )
        if len(shared) == 0:
            return head + (
                f"All query identities do not appear in gallery: queries show {_few(query)}, the "
                f"gallery {_few(gallery)}. Check identities and splits of the test lists."
            )
        return head + (
            f"Identities {_few(shared)} are in both, but every such pair is never compared: query "
            f"cameras {_few(features.camids[trial.query])}, gallery cameras "
            f"{_few(features.camids[trial.gallery])}; left out: {protocol.rules().words()}. Check "
            "the camera numbers."
        )


def _value(result: RankMetrics, name: str) -> float:
    if name.startswith("Rank-"):
        return float(result.cmc[int(name[len("Rank-") :]) - 1])
    return getattr(result, name)


def _few(values: np.ndarray, most: int = 5) -> str:
    unique = np.unique(values).tolist()
    return ", ".join(map(str, unique[:most])) + (f", ... ({len(unique)})" if unique[most:] else "")


def build_protocols(cfg: Any, dataset_name: str) -> List[Protocol]:
    """The protocol lines for a registered dataset, from ``cfg.TEST.PROTOCOL``.

    A dataset class names its protocol in the attribute ``protocol``, and decides arguments of it
    in ``protocol_arguments``; one without them (FastReID's own datasets) is evaluated by
    ``SingleModalityProtocol``.

    Raises:
        KeyError: an unknown dataset or protocol name.
        UserError: a value that the protocol does not know, with the right word.
    """
    dataset_class = lookup(DATASET_REGISTRY, dataset_name, "DATASETS.TESTS")
    name = getattr(dataset_class, "protocol", "SingleModalityProtocol")
    protocol = lookup(PROTOCOL_REGISTRY, name, f"{dataset_name}.protocol")
    decided = getattr(dataset_class, "protocol_arguments", lambda cfg: {})(cfg)
    return protocol.from_config(cfg, **decided)


def build_reranking(cfg: Any) -> Union[Reranking, AffinityInference, None]:
    """What ``TEST.RERANK`` asks for; None where it is off.

    Raises:
        UserError: an unknown word.
    """
    node = cfg.TEST.RERANK
    check_values("TEST.RERANK", METHOD=node.METHOD, DEFINITION=node.DEFINITION)
    if not node.ENABLED:
        return None
    if node.METHOD == "aim":
        return AffinityInference(node.K1, node.K2)
    return Reranking(node.K1, node.K2, node.LAMBDA, node.DEFINITION, node.CROSS_MODALITY)


def build_evaluator(cfg: Any, dataset_name: str, dataset: Any) -> VIReIDEvaluator:
    """An evaluator from ``cfg.TEST``; reads METRIC, RERANK, AQE, DEVICE and PROTOCOL.

    Raises:
        UserError: an unknown word, or ROC, which is FastReID's own evaluator's, is switched on.
    """
    if cfg.TEST.ROC.ENABLED:
        raise UserError("TEST.ROC.ENABLED is not supported here; set it False.")
    aqe, protocols = cfg.TEST.AQE, build_protocols(cfg, dataset_name)
    across = cfg.TEST.RERANK.ENABLED and cfg.TEST.RERANK.CROSS_MODALITY
    if across and any(isinstance(protocol, SingleModalityProtocol) for protocol in protocols):
        raise UserError(
            f"TEST.RERANK.CROSS_MODALITY is True, and {dataset_name} has one modality; set it "
            "False."
        )
    return VIReIDEvaluator(
        protocols,
        dataset,
        dataset_name=dataset_name,
        metric=cfg.TEST.METRIC,
        reranking=build_reranking(cfg),
        expansion=QueryExpansion(aqe.QE_K, aqe.ALPHA, aqe.QE_TIME) if aqe.ENABLED else None,
        device=cfg.TEST.DEVICE or cfg.MODEL.DEVICE,
        feature="after BNNeck" if cfg.MODEL.HEADS.WITH_BNNECK else "pooled",
        note=getattr(dataset, "note", ""),
    )


def evaluate(cfg: Any, dataset_name: str, dataset: Any, features: TestFeatures) -> ResultTable:
    """Score ``features`` of ``dataset`` by the protocols that ``cfg`` names; see the classes."""
    return build_evaluator(cfg, dataset_name, dataset).evaluate(features)
