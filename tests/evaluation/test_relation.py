"""Transductive rows. Oracles: brute-force ranking of features related by hand, trial by trial."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_oracles import fake_dataset, loop_metrics, loop_scores
from test_evaluator import features_of

from vireid_plugins.evaluation import Reranking, SYSUMM01Protocol, VIReIDEvaluator
from vireid_plugins.evaluation.relation import Relation


class Mixed:
    """Adds to each image of a trial half of the mean of its modality there; notes each pass."""

    def __init__(self):
        self.passes = []

    def __call__(self, features, modalities):
        self.passes.append(len(features))
        assert modalities.shape == features.shape[:1]
        related = features.clone()
        for modality in modalities.unique():
            related[modalities == modality] += 0.5 * features[modalities == modality].mean(0)
        return related


@pytest.fixture(scope="module")
def dataset():
    return fake_dataset((1, 2, 4, 5), (3, 6))


def evaluated(dataset, relate, **steps):
    protocol = SYSUMM01Protocol(mode="all", shots=1, trials=3)
    evaluator = VIReIDEvaluator([protocol], dataset, dataset_name="Fake", **steps)
    features = replace(features_of(dataset), relation=Relation("halves", relate))
    return protocol, features, evaluator.evaluate(features)


def test_a_transductive_row_stands_below_the_row_image_by_image(dataset):
    relate = Mixed()
    protocol, features, table = evaluated(dataset, relate)
    plain, related = table.rows
    trials = list(protocol.trials(dataset))
    assert relate.passes == [len(trial.query) + len(trial.gallery) for trial in trials]
    assert (plain.key, related.key) == ("Fake/all/single", "Fake/all/single/transductive")
    rows = features.features.numpy()
    for row, mixed in ((plain, False), (related, True)):
        found = []
        for trial in trials:
            query, gallery = rows[trial.query], rows[trial.gallery]
            if mixed:
                query, gallery = (x + 0.5 * x.mean(0) for x in (query, gallery))
            case = {
                f"{name}_{kind}": getattr(features, kind)[places]
                for name, places in (("query", trial.query), ("gallery", trial.gallery))
                for kind in ("targets", "camids")
            }
            scores = loop_scores(query, gallery, "cosine")
            found.append(loop_metrics(scores, case, {(3, 2)}, False, "identity", 20)[1])
        assert row.mean["mAP"] == pytest.approx(np.mean(found))
    assert plain.mean["mAP"] != pytest.approx(related.mean["mAP"])


def test_every_record_names_what_saw_all_images(dataset):
    table = evaluated(dataset, Mixed())[2]
    words = "halves: all queries and the gallery of a trial in one pass"
    assert [facts.get("transductive") for facts in table.protocol_facts()] == [None, words]
    assert set(table.metrics) >= {"Fake/all/single/mAP", "Fake/all/single/transductive/mAP_std"}
    head, _, plain, related = table.format_table().splitlines()[:4]
    assert head.rstrip(" |").endswith("transductive")
    assert plain.rstrip(" |").endswith("no") and related.rstrip(" |").endswith(words)


def test_the_best_model_is_chosen_by_the_transductive_row(dataset):
    table = evaluated(dataset, Mixed())[2]
    mean = table.rows[1].mean
    assert table.metrics["metric"] == pytest.approx((mean["Rank-1"] + mean["mAP"]) / 2)


def test_without_a_relation_nothing_changes(dataset):
    protocol = SYSUMM01Protocol(mode="all", shots=1, trials=3)
    evaluator = VIReIDEvaluator([protocol], dataset, dataset_name="Fake")
    table = evaluator.evaluate(features_of(dataset))
    assert [row.key for row in table.rows] == ["Fake/all/single"]
    assert "transductive" not in table.format_table()
    assert "transductive" not in table.protocol_facts()[0]


def test_related_features_can_be_re_ranked(dataset):
    """With a relation that changes nothing, both rows are re-ranked alike."""
    table = evaluated(dataset, lambda features, _: features, reranking=Reranking(k1=4, k2=2))[2]
    assert table.rows[0].mean == table.rows[1].mean
    assert torch.is_tensor(features_of(dataset).features)
