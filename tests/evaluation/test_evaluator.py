"""Oracle: brute-force ranking of planted features, trial by trial, and hand arithmetic."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation_oracles import fake_dataset, loop_metrics, loop_scores
from torch import nn

from vireid_plugins.evaluation import (
    AffinityInference,
    CrossModalityProtocol,
    LLCMProtocol,
    QueryExpansion,
    Reranking,
    SingleModalityProtocol,
    SYSUMM01Protocol,
    TestFeatures,
    VIReIDEvaluator,
    affinity_inference,
    expand_features,
    extract_features,
    k_reciprocal_rerank,
)


def features_of(dataset, seed=0, size=6):
    items = dataset.query + dataset.gallery
    rng = np.random.default_rng(seed)
    labels = np.array([item[1:] for item in items])
    centers = rng.standard_normal((labels[:, 0].max() + 1, size))
    features = centers[labels[:, 0]] + rng.standard_normal((len(items), size))
    return TestFeatures(
        torch.from_numpy(features), labels[:, 0], labels[:, 1], labels[:, 2], np.arange(len(items))
    )


STEPS = [
    {},
    {"reranking": Reranking(k1=4, k2=2)},
    {"reranking": Reranking(k1=4, k2=2, definition="softmax")},
    {"reranking": AffinityInference(k1=4, k2=2)},
    {"expansion": QueryExpansion(k=3)},
    {"expansion": QueryExpansion(k=3), "reranking": Reranking(k1=4, k2=2)},
]


def scores_by_steps(query, gallery, reranking=None, expansion=None):
    query, gallery = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    if expansion:
        query, gallery = (x.numpy() for x in expand_features(query, gallery, 3))
    if isinstance(reranking, AffinityInference):
        return -affinity_inference(query, gallery, k1=4, k2=2)
    if reranking:
        words = {"definition": reranking.definition}
        return -k_reciprocal_rerank(query, gallery, k1=4, k2=2, **words)
    return loop_scores(query, gallery, "cosine")


@pytest.mark.parametrize("steps", STEPS, ids=lambda steps: "-".join(map(str, steps.values())))
@pytest.mark.parametrize(
    "protocol,cameras,name",
    [
        (SYSUMM01Protocol("all", 1), (3, 6), "SYSUMM01"),
        (SYSUMM01Protocol("indoor", 10, trials=3), (3, 6), "SYSUMM01"),
        (LLCMProtocol("infrared_to_visible", trials=2), (1, 2), "LLCM"),
        (CrossModalityProtocol("visible_to_infrared"), (3,), "Mine"),
    ],
)
def test_every_number_equals_the_loop(protocol, cameras, name, steps):
    dataset = fake_dataset((1, 2, 4, 5), cameras)
    dataset.query = dataset.query[::3]
    features = features_of(dataset)
    evaluator = VIReIDEvaluator([protocol], dataset, dataset_name=name, **steps)
    table = evaluator.evaluate(features)
    assert table.reranking == ", ".join(map(str, steps.values()))
    found = {metric: [] for metric in ("Rank-1", "Rank-5", "Rank-20", "mAP", "mINP")}
    for trial in protocol.trials(dataset):
        sides = {"query": trial.query, "gallery": trial.gallery}
        case = {f"{side}_targets": features.targets[rows] for side, rows in sides.items()}
        case.update({f"{side}_camids": features.camids[rows] for side, rows in sides.items()})
        query, gallery = (features.features[rows].numpy() for rows in sides.values())
        scores = scores_by_steps(query, gallery, **steps)
        cmc, mean_ap, mean_inp, _, _ = loop_metrics(
            scores, case, protocol.skip_camera_pairs, protocol.skip_same_camera, protocol.cmc, 20
        )
        for metric, value in zip(found, (cmc[0], cmc[4], cmc[19], mean_ap, mean_inp)):
            found[metric].append(value)
    for metric, values in found.items():
        key = f"{name}/{protocol.key}/{metric}"
        np.testing.assert_allclose(table.metrics[key], np.mean(values), atol=1e-6)
        np.testing.assert_allclose(table.metrics[key + "_std"], np.std(values), atol=1e-6)
    expected = (np.mean(found["Rank-1"]) + np.mean(found["mAP"])) / 2
    np.testing.assert_allclose(table.metrics["metric"], expected, atol=1e-6)


def test_keys_and_lines_say_what_was_done():
    dataset = fake_dataset((1, 2, 4, 5), (3, 6))
    protocols = [SYSUMM01Protocol("all"), SYSUMM01Protocol("indoor", 10)]
    evaluator = VIReIDEvaluator(protocols, dataset, dataset_name="SYSUMM01", feature="neck after")
    table = evaluator.evaluate(features_of(dataset))
    assert "SYSUMM01/all/single/Rank-1" in table.metrics
    assert "SYSUMM01/indoor/multi/mINP_std" in table.metrics
    assert len(table.metrics) == 2 * 6 * 2 + 1
    lines = [line for line in table.format_table().splitlines() if "SYSUMM01/" in line]
    assert len(lines) == 2
    for line, shots in zip(lines, (1, 10)):
        for word in ("infrared_to_visible", f"random, {shots} per id", "neck after", "cosine"):
            assert word in line
        assert f"{len(dataset.query)} (0)" in line and " 10 " in line and "±" in line


def test_what_the_model_says_of_its_features_stands_in_the_table():
    class Stripes(Model):
        test_feature = "six stripes"

    assert extract_features(Model(), batches([range(8)])).feature == ""
    assert extract_features(Stripes(), batches([range(8)])).feature == "six stripes"
    dataset = fake_dataset((1, 2, 4, 5), (3, 6))
    evaluator = VIReIDEvaluator(
        [SYSUMM01Protocol("all")], dataset, dataset_name="SYSUMM01", feature="pooled"
    )
    features = features_of(dataset)
    assert "pooled, cosine" in evaluator.evaluate(features).format_table()
    features = dataclasses.replace(features, feature="six stripes")
    assert "six stripes, cosine" in evaluator.evaluate(features).format_table()


def test_single_modality_planted():
    """One query, gallery by score: same camera (skipped), wrong, right, wrong, right.

    Ranks of the hits are 2 and 4: AP = (1/2 + 2/4)/2 = 50 %, INP = 2/4 = 50 %, rank-1 = 0.
    """
    gallery = [(7, 1, 0.99), (8, 2, 0.9), (7, 2, 0.8), (9, 2, 0.7), (7, 3, 0.6)]
    dataset = SimpleNamespace(query=[("q", 7, 1)], gallery=[("g", p, c) for p, c, _ in gallery])
    angles = np.arccos([1.0] + [score for _, _, score in gallery])
    features = TestFeatures(
        torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1)),
        np.array([7] + [pid for pid, _, _ in gallery]),
        np.array([1] + [camera for _, camera, _ in gallery]),
        np.full(6, -1),
        np.arange(6),
    )
    evaluator = VIReIDEvaluator([SingleModalityProtocol()], dataset, dataset_name="Market1501")
    metrics = evaluator.evaluate(features).metrics
    got = [metrics[f"Market1501/all/multi/{n}"] for n in ("Rank-1", "Rank-5", "mAP", "mINP")]
    np.testing.assert_allclose(got, [0, 100, 50, 50])
    assert metrics["metric"] == pytest.approx(25)


def test_no_valid_match_raises_with_the_reason():
    dataset = fake_dataset((1,), (3,))
    features = features_of(dataset)
    evaluator = VIReIDEvaluator(
        [CrossModalityProtocol("infrared_to_visible")], dataset, dataset_name="Mine"
    )
    strangers = np.where(features.modalities == 1, features.targets + 100, features.targets)
    apart = TestFeatures(
        features.features, strangers, features.camids, features.modalities, features.index
    )
    reason = "All query identities do not appear in gallery.*106.*gallery 6"
    with pytest.raises(ValueError, match=reason):
        evaluator.evaluate(apart)
    hidden = VIReIDEvaluator(
        [CrossModalityProtocol("infrared_to_visible", skip_same_camera=True)],
        dataset,
        dataset_name="Mine",
    )
    one_camera = TestFeatures(
        features.features,
        features.targets,
        np.ones_like(features.camids),
        features.modalities,
        features.index,
    )
    with pytest.raises(ValueError, match="never compared: query cameras 1, gallery cameras 1"):
        hidden.evaluate(one_camera)


class Model(nn.Module):
    """Features: the mean of the left and of the right half, so a mirror image swaps them."""

    def __init__(self, fail=False):
        super().__init__()
        self.frozen, self.fail = nn.BatchNorm1d(2).eval(), fail

    def forward(self, batch):
        assert not self.training and not torch.is_grad_enabled()
        if self.fail:
            raise RuntimeError("broken image")
        return batch["images"].unflatten(3, (2, -1)).mean((1, 2, 4))


def batches(index):
    images = torch.arange(8 * 3 * 2 * 4, dtype=torch.float32).view(8, 3, 2, 4)
    for part in index:
        part = torch.tensor(part)
        labels = {name: part for name in ("targets", "camids", "modalities", "index")}
        yield {"images": images[part].clone(), **labels}


def test_extraction_orders_by_index_and_keeps_repeated_images_once():
    model = Model().train()
    model.frozen.eval()
    got = extract_features(model, batches([[5, 1, 0], [3, 2, 4], [6, 7, 0]]))
    assert got.index.tolist() == got.targets.tolist() == list(range(8))
    # Image n counts up from 24 n; its left half holds i + 4 r + 8 c for i, r in 0, 1, c in 0, 1, 2.
    left = [24.0 * n + 0.5 + 4 * 0.5 + 8 * 1 for n in range(8)]
    np.testing.assert_allclose(got.features[:, 0], left)
    assert model.training and not model.frozen.training


def test_flip_averages_and_leaves_the_batch_alone():
    kept = list(batches([[0, 1], [2, 3]]))
    before = [batch["images"].clone() for batch in kept]
    plain = extract_features(Model(), kept).features
    flipped = extract_features(Model(), kept, flip=True)
    np.testing.assert_allclose(flipped.features, plain.mean(1, keepdim=True).expand(-1, 2))
    assert flipped.flip
    assert all(torch.equal(a, batch["images"]) for a, batch in zip(before, kept))


def test_flip_of_features_of_length_1():
    """As ``testa.py`` of CAJ's code: (a/|a| + b/|b|) / 2."""
    kept = list(batches([[0, 1], [2, 3]]))
    plain = extract_features(Model(), kept).features.double()
    found = extract_features(Model(), kept, flip=True, flip_normalized=True)
    mirrored = plain.flip(1)  # Model returns the means of the left and of the right half
    expected = (plain / plain.norm(dim=1, keepdim=True)) / 2
    expected = expected + mirrored / mirrored.norm(dim=1, keepdim=True) / 2
    torch.testing.assert_close(found.features.double(), expected, rtol=1e-6, atol=0)
    assert found.flip and found.flip_normalized
    unmirrored = extract_features(Model(), kept, flip_normalized=True)
    assert not unmirrored.flip_normalized and torch.equal(unmirrored.features.double(), plain)


@pytest.mark.parametrize("words", ["", "pooled"])
def test_lines_say_that_flip_averages_features_of_length_1(words):
    dataset = fake_dataset((1, 2, 4, 5), (3,))
    protocols = [CrossModalityProtocol("visible_to_infrared")]
    evaluator = VIReIDEvaluator(protocols, dataset, dataset_name="Mine", feature="neck after")
    mirrored = {"flip": True, "flip_normalized": True, "feature": words}
    table = evaluator.evaluate(dataclasses.replace(features_of(dataset), **mirrored))
    expected = f"{words or 'neck after'}, normalized before the mean with the mirror image, cosine"
    assert expected in table.format_table()


def test_an_error_restores_the_mode_and_empty_loaders_say_so():
    model = Model(fail=True).train()
    with pytest.raises(RuntimeError, match="broken image"):
        extract_features(model, batches([[0]]))
    assert model.training
    with pytest.raises(ValueError, match="empty"):
        extract_features(Model(), [])


def test_protocols_whose_metrics_have_the_same_names_are_refused():
    """Otherwise the second row replaces the first in the metrics, without a word."""
    protocols = [SYSUMM01Protocol("all", gallery=rule) for rule in ("random", "official")]
    with pytest.raises(ValueError, match="two protocols are called 'all/single'"):
        VIReIDEvaluator(protocols, fake_dataset((1,), (3,)), dataset_name="SYSUMM01")
