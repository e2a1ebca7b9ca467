"""Turn the features of a test set into one table: a row for each protocol, over all its trials."""

from typing import Any, List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.item import Item, fingerprint_of, test_items
from ..data.labels import first_few
from ..errors import UserError
from .arguments import device_named, shown
from .features import TestFeatures
from .protocols import Protocol, Trial
from .ranking.arguments import labels_of
from .ranking.ranker import RankMetrics
from .ranking.rescoring import RescoringScorer, check_alone
from .ranking.scores import FeatureScorer, TrialScorer
from .ranking.trials import rank_with
from .rehearsal import rehearse, why_no_match
from .relation import TRANSDUCTIVE, RelatedScorer, Relation
from .reranking.expansion import QueryExpansion
from .reranking.rerank import AffinityInference
from .reranking.scorer import RerankingScorer, TrialReranking
from .result import METRIC_NAMES, RANKS, ImageSet, ResultRow, ResultTable
from .rules import Labels, RankRules
from .similarity import all_finite, check_metric


class VIReIDEvaluator:
    """Evaluates the features of one test set by several protocols.

    Args:
        protocols: the rows of the table, in order; the first row gives the result ``metric``.
        dataset: the dataset whose ``query + gallery`` the features belong to.
        dataset_name: the first part of every metric's name.
        metric: ``"cosine"`` or ``"euclidean"``.
        reranking: re-ranks the gallery of every trial; None: no re-ranking.
        expansion: expands the features of every trial before they are ranked or re-ranked, which
            needs the cosine metric; None: no expansion.
        device: where to compute; empty: on the CPU.
        feature: what the table calls the features, if ``TestFeatures.feature`` is empty.
        note: a sentence below the table.

    Raises:
        UserError: there is no protocol, the metric is unknown, or a step needs the cosine metric.
    """

    def __init__(
        self,
        protocols: Sequence[Protocol],
        dataset: Any,
        *,
        dataset_name: str,
        metric: str = "cosine",
        reranking: Optional[TrialReranking] = None,
        expansion: Optional[QueryExpansion] = None,
        device: str = "",
        feature: str = "model output",
        note: str = "",
    ) -> None:
        check_metric(metric)
        if not isinstance(protocols, (list, tuple)):
            raise UserError(f"protocols must be a list of protocols; got {shown(protocols)}.")
        for protocol in protocols:
            if not hasattr(protocol, "trials"):
                raise UserError(f"protocols must hold protocols; got {shown(protocol)}.")
        if not protocols:
            raise UserError(
                f"{dataset_name}: no protocol to evaluate; TEST.PROTOCOL names no mode, shots or "
                "direction."
            )
        keys = [protocol.key for protocol in protocols]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise UserError(
                f"{dataset_name}: two protocols are called {twice!r}, so their metrics would have "
                "the same names; TEST.PROTOCOL must name each mode, number of shots and direction "
                "once."
            )
        self.protocols, self.dataset, self.dataset_name = list(protocols), dataset, dataset_name
        is_default = device is None or (isinstance(device, str) and not device)
        self.metric, self.device = metric, "cpu" if is_default else str(device_named(device))
        self.reranking, self.expansion = reranking, expansion
        if metric != "cosine" and (expansion or isinstance(reranking, AffinityInference)):
            words = " and ".join(filter(None, map(str, (expansion or "", reranking or ""))))
            raise UserError(f"{words} needs TEST.METRIC cosine; got {metric}.")
        self.feature, self.note = feature, note

    def rehearse(self) -> List[str]:
        """Draw every gallery and apply the rules about cameras, on the labels alone.

        The galleries are those of :meth:`evaluate`, and no random state changes.

        Returns:
            Sentences about what is odd but possible: queries that will be left out, and parameters
            that the test set is too small for.

        Raises:
            UserError: the evaluation would fail; the message says why, and what to change.
        """
        rehearsals = [
            rehearse(protocol, self.dataset, f"{self.dataset_name}/{protocol.key}")
            for protocol in self.protocols
        ]
        found = [remark for rehearsal in rehearsals for remark in rehearsal.remarks]
        smallest = min(rehearsal.smallest_gallery for rehearsal in rehearsals)
        fewest = min(rehearsal.fewest_queries for rehearsal in rehearsals)
        for step in (self.expansion, self.reranking):
            if step is not None and hasattr(step, "remarks"):
                found += step.remarks(smallest, fewest)
        return found

    def evaluate(self, features: TestFeatures) -> ResultTable:
        """Return the table of ``features``, which have one row per test image.

        If the features come with a rescorer, it re-orders the nearest images of each query. If they
        come with a relation, each protocol has a second, transductive row.

        Raises:
            UserError: the features are not those of the dataset's test images, or not finite; no
                query of a protocol has a valid match (the message says why); or a rescorer comes
                together with re-ranking or with another metric than cosine.
        """
        if not isinstance(features, TestFeatures):
            raise UserError(f"features must be TestFeatures; got {shown(features)}.")
        items = test_items(self.dataset)
        expected = len(items)
        if not np.array_equal(features.index, np.arange(expected)):
            raise UserError(
                f"{self.dataset_name} has {expected} test images, but there are features of "
                f"{len(features.index)} (index {features.index[:1]} to {features.index[-1:]}); "
                "each image must have its features once."
            )
        self._check_finite(features, items)
        reranking = ", ".join(str(step) for step in (self.expansion, self.reranking) if step)
        if features.rescorer is not None:
            others = self.reranking is not None, self.expansion is not None
            check_alone(features.rescorer.description, *others, self.metric)
            reranking = features.rescorer.description
        passes = [None] if features.relation is None else [None, features.relation]
        rows = [self._row(one, features, each) for one in self.protocols for each in passes]
        feature = features.feature or self.feature
        if features.flip_normalized:
            feature += ", normalized before the mean with the mirror image"
        images = ImageSet(self.dataset_name, expected, fingerprint_of(items))
        return ResultTable(rows, feature, self.metric, features.flip, reranking, self.note, images)

    def _check_finite(self, features: TestFeatures, items: Sequence[Item]) -> None:
        """Raise ``UserError``, which names images, if features hold NaN or infinity."""
        for name, values in (("features", features.features), ("local features", features.local)):
            if values is None or all_finite(torch.as_tensor(values)):
                continue
            rows = (~torch.isfinite(values).flatten(1).all(1)).nonzero().flatten().tolist()
            paths = first_few([items[row].path for row in rows], most=3)
            raise UserError(
                f"{self.dataset_name}: the {name} of {len(rows)} of {len(items)} test images hold "
                f"NaN or infinity, so ranks would mean nothing: {paths}. If these are all images, "
                "the weights are damaged or have diverged: evaluate an earlier checkpoint. If they "
                "are few, look at these files."
            )

    def _row(
        self, protocol: Protocol, features: TestFeatures, relation: Optional[Relation]
    ) -> ResultRow:
        trials = list(protocol.trials(self.dataset))
        rules = protocol.rules(max(RANKS))
        results = self._rank(features, trials, rules, relation)
        for number, (trial, result) in enumerate(zip(trials, results)):
            if result.num_valid_queries == 0:
                labels = Labels(features.targets, features.camids)
                name = f"{self.dataset_name}/{protocol.key}, trial {number}"
                query, gallery = labels.take(trial.query), labels.take(trial.gallery)
                raise UserError(why_no_match(protocol, self.dataset, name, query, gallery))
        values = {name: [_value(result, name) for result in results] for name in METRIC_NAMES}
        queries = [len(trial.query) for trial in trials]
        return ResultRow(
            key=f"{self.dataset_name}/{protocol.key}" + (f"/{TRANSDUCTIVE}" if relation else ""),
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
            cmc=rules.cmc,
            never_compared=rules.words(),
            transductive=relation.description if relation else "",
        )

    def _rank(
        self,
        features: TestFeatures,
        trials: Sequence[Trial],
        rules: RankRules,
        relation: Optional[Relation],
    ) -> List[RankMetrics]:
        """Rank all trials by the scores of the features, the re-ranking or the rescorer."""
        targets, camids, rows = features.targets, features.camids, features.features
        labels = labels_of(targets, camids, len(rows), "features", rules)
        scorer: TrialScorer
        if features.rescorer is not None:
            assert features.local is not None, "a rescorer comes with local features"
            scorer = RescoringScorer(
                rows, features.local, features.rescorer, labels, rules, self.device
            )
        elif relation is not None:
            scorer = RelatedScorer(rows, features.modalities, relation, self._scorer)
        else:
            scorer = self._scorer(rows)
        return rank_with(scorer, labels, trials, rules)

    def _scorer(self, rows: Tensor) -> TrialScorer:
        """Return the scorer of features (N, D), which re-ranks or expands them if that is asked."""
        if self.reranking or self.expansion:
            return RerankingScorer(rows, self.metric, self.reranking, self.expansion)
        return FeatureScorer(rows, self.metric, self.device)


def _value(result: RankMetrics, name: str) -> float:
    if name.startswith("Rank-"):
        return float(result.cmc[int(name[len("Rank-") :]) - 1])
    return getattr(result, name)
