"""One way from scores to metrics. Oracle: the ranking of the same scores in another form."""

import dataclasses

import numpy as np
import pytest
import torch
from evaluation_oracles import fake_dataset

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import (
    CrossModalityProtocol,
    LLCMProtocol,
    RankRules,
    RegDBProtocol,
    SYSUMM01Protocol,
    TestFeatures,
    Trial,
    VIReIDEvaluator,
    rank_metrics_from_similarity,
)
from vireid_plugins.evaluation.ranking.rescoring import RescoringScorer
from vireid_plugins.evaluation.ranking.scores import FeatureScorer
from vireid_plugins.evaluation.ranking.trials import rank_with
from vireid_plugins.evaluation.reranking.scorer import RerankingScorer
from vireid_plugins.evaluation.rules import Labels

PROTOCOLS = [
    (SYSUMM01Protocol("all", 1, trials=3), (3, 6)),
    (SYSUMM01Protocol("indoor", 10, trials=2), (3, 6)),
    (LLCMProtocol("infrared_to_visible", trials=2), (1, 2)),
    (RegDBProtocol("visible_to_infrared"), (3,)),
    (CrossModalityProtocol("infrared_to_visible", skip_same_camera=True), (1, 2)),
]


class OwnDistances:
    """A re-ranking that leaves the cosine distances as they are, minus the 1."""

    def distances(self, query, gallery):
        return -(query @ gallery.T).numpy()

    def __str__(self):
        return "own distances"


class NoPart:
    """A rescorer whose local distances change nothing."""

    description, top, weight = "by nothing", 4, 0.0

    def distances(self, query, gallery, candidates):
        return torch.rand(candidates.shape)


def unit_features(dataset, seed=0):
    """Features on the axes: cosines are exact, and many are equal, so that ties count, too."""
    items = dataset.query + dataset.gallery
    rng = np.random.default_rng(seed)
    labels = np.array([item[1:] for item in items])
    rows = np.eye(9)[(labels[:, 0] + (rng.random(len(items)) < 0.5) * rng.integers(0, 9)) % 9]
    return TestFeatures(
        torch.from_numpy(rows), labels[:, 0], labels[:, 1], labels[:, 2], np.arange(len(items))
    )


@pytest.mark.parametrize("protocol,cameras", PROTOCOLS)
def test_plain_reranked_and_rescored_trials_of_equal_scores_agree(protocol, cameras):
    dataset = fake_dataset((1, 2, 4, 5), cameras)
    features = unit_features(dataset)
    plain = VIReIDEvaluator([protocol], dataset, dataset_name="Any")
    reranked = VIReIDEvaluator([protocol], dataset, dataset_name="Any", reranking=OwnDistances())
    local = torch.zeros(len(features.index), 1, 1)
    rescored = dataclasses.replace(features, rescorer=NoPart(), local=local)
    expected = plain.evaluate(features)
    assert 0 < expected.metrics[f"Any/{protocol.key}/mAP"] < 100
    for table, words in (
        (reranked.evaluate(features), "own distances"),
        (plain.evaluate(rescored), "by nothing"),
    ):
        assert table.reranking == words and table.metrics == expected.metrics


class Spy:
    """A scorer that counts how often it is asked."""

    def __init__(self, scorer, pairwise):
        self.scorer, self.pairwise, self.calls = scorer, pairwise, []

    def scores(self, query, gallery):
        self.calls.append((len(query), len(gallery)))
        return self.scorer.scores(query, gallery)


def test_trials_share_scores_only_where_a_score_depends_on_its_pair_alone():
    rng = np.random.default_rng(2)
    features = torch.from_numpy(np.round(2 * rng.standard_normal((60, 3))) + 0.5)
    labels = Labels(rng.integers(0, 6, 60), rng.integers(1, 5, 60))
    rules = RankRules(skip_camera_pairs=((1, 2),), skip_same_camera=True, cmc="identity")
    asked = rng.permutation(60)[:20]
    trials = [Trial(asked, rng.permutation(60)[:n]) for n in (30, 12, 60)]
    trials.append(Trial(asked[:7], np.arange(20)))
    shared, alone = (Spy(FeatureScorer(features, "euclidean"), flag) for flag in (True, False))
    results = [rank_with(spy, labels, trials, rules) for spy in (shared, alone)]
    assert shared.calls == [(20, 60), (7, 20)]
    assert alone.calls == [(20, 30), (20, 12), (20, 60), (7, 20)]
    assert not RerankingScorer.pairwise and not RescoringScorer.pairwise
    for trial, *found in zip(trials, *results):
        query, gallery = features[trial.query], features[trial.gallery]
        sides = labels.take(trial.query), labels.take(trial.gallery)
        expected = rank_metrics_from_similarity(
            -torch.cdist(query, gallery, compute_mode="donot_use_mm_for_euclid_dist").square(),
            *(side.targets for side in sides),
            *(side.camids for side in sides),
            skip_camera_pairs=rules.skip_camera_pairs,
            skip_same_camera=True,
            cmc="identity",
        )
        for one in found:
            np.testing.assert_array_equal(one.average_precision, expected.average_precision)
            np.testing.assert_array_equal(one.cmc, expected.cmc)


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_rows_out_of_range_are_refused(side):
    trial = dataclasses.replace(Trial(np.arange(3), np.arange(3)), **{side: np.array([0, 5])})
    scorer = FeatureScorer(torch.eye(5), "cosine")
    with pytest.raises(UserError, match=f"trial.{side} holds row numbers from 0 to 5; .* 5 rows"):
        rank_with(scorer, Labels(np.arange(5)), [trial], RankRules())
