"""Re-scoring of the nearest candidates. Oracle: loops over queries and gallery items, written
from the rule; hand arithmetic; the ordinary numbers."""

import dataclasses
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluation_oracles import fake_dataset, loop_metrics, loop_scores
from torch import nn

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import (
    CrossModalityProtocol,
    LLCMProtocol,
    RankRules,
    RegDBProtocol,
    Reranking,
    SYSUMM01Protocol,
    TestFeatures,
    VIReIDEvaluator,
    extract_features,
    rank_rescored,
)
from vireid_plugins.evaluation import features as test_features
from vireid_plugins.evaluation.ranking import rescoring

R, S = 2, 3


class Rescorer:
    """Local distance: the sum of absolute differences."""

    def __init__(self, top, weight=1.0):
        self.top, self.weight = top, weight
        self.description = f"by parts, top {top}"
        self.widths = []

    @contextmanager
    def recording(self, model):
        yield lambda: model.local

    def distances(self, query, gallery, candidates):
        self.widths.append(candidates.shape[1])
        return (query[:, None] - gallery[candidates]).abs().sum((2, 3))


def features_of(dataset, rescorer, seed=0, size=4):
    items = dataset.query + dataset.gallery
    rng = np.random.default_rng(seed)
    labels = np.array([item[1:] for item in items])
    centers = rng.standard_normal((labels[:, 0].max() + 1, size))
    features = centers[labels[:, 0]] + rng.standard_normal((len(items), size))
    local = rng.random((len(items), R, S)) / 4
    return TestFeatures(
        torch.from_numpy(features),
        labels[:, 0],
        labels[:, 1],
        labels[:, 2],
        np.arange(len(items)),
        local=torch.from_numpy(local),
        rescorer=rescorer,
    )


def loop_rescored(scores, locals_, case, protocol, top, weight):
    """Scores (Q, G) under which a plain ranking is the re-scored one.

    For each query: the visible items by falling cosine, of equal ones the earlier first; the
    first ``top`` again by 1 - cosine + weight * local distance, equal ones by gallery index; the
    rest behind them as they were.
    """
    result = np.zeros_like(scores)
    for q, row in enumerate(scores):
        visible = []
        for g in range(len(row)):
            cameras = case["query_camids"][q], case["gallery_camids"][g]
            same = case["query_targets"][q] == case["gallery_targets"][g]
            skipped = cameras in protocol.skip_camera_pairs
            if not skipped and not (protocol.skip_same_camera and same and len(set(cameras)) == 1):
                visible.append(g)
        ranking = sorted(visible, key=lambda g: (-row[g], g))

        def total(g, q=q, row=row):
            query, gallery = locals_[0][q], locals_[1][g]
            return 1 - row[g] + weight * np.abs(query - gallery).sum()

        ranking[:top] = sorted(ranking[:top], key=lambda g: (total(g), g))
        for place, g in enumerate(ranking):
            result[q, g] = -place
    return result


CASES = [
    (SYSUMM01Protocol("all", 1, trials=3), (3, 6)),
    (SYSUMM01Protocol("indoor", 10, trials=2), (3, 6)),
    (LLCMProtocol("infrared_to_visible", trials=2), (1, 2)),
    (RegDBProtocol("visible_to_infrared"), (3,)),
    (CrossModalityProtocol("infrared_to_visible", skip_same_camera=True), (1, 2)),
]


@pytest.mark.parametrize("top", [1, 3, 10, 10000])
@pytest.mark.parametrize("protocol,cameras", CASES)
def test_every_number_equals_the_loop(protocol, cameras, top):
    """Also with more candidates than gallery items, and camera pairs that must take no place."""
    dataset = fake_dataset((1, 2, 4, 5), cameras)
    dataset.query = dataset.query[::4]
    features = features_of(dataset, Rescorer(top, weight=0.7))
    table = VIReIDEvaluator([protocol], dataset, dataset_name="Any").evaluate(features)
    found = {metric: [] for metric in ("Rank-1", "Rank-5", "mAP", "mINP")}
    for trial in protocol.trials(dataset):
        sides = {"query": trial.query, "gallery": trial.gallery}
        case = {f"{side}_targets": features.targets[rows] for side, rows in sides.items()}
        case.update({f"{side}_camids": features.camids[rows] for side, rows in sides.items()})
        scores = loop_scores(*(features.features[rows] for rows in sides.values()), "cosine")
        locals_ = [features.local[rows].numpy() for rows in sides.values()]
        scores = loop_rescored(scores, locals_, case, protocol, top, 0.7)
        cmc, mean_ap, mean_inp, _, _ = loop_metrics(
            scores, case, protocol.skip_camera_pairs, protocol.skip_same_camera, protocol.cmc, 20
        )
        for metric, value in zip(found, (cmc[0], cmc[4], mean_ap, mean_inp)):
            found[metric].append(value)
    for metric, values in found.items():
        key = f"Any/{protocol.key}/{metric}"
        np.testing.assert_allclose(table.metrics[key], np.mean(values), atol=1e-9)


def test_it_changes_the_order_at_all():
    dataset = fake_dataset((1, 2, 4, 5), (3, 6))
    evaluator = VIReIDEvaluator([SYSUMM01Protocol("all")], dataset, dataset_name="Any")
    plain = evaluator.evaluate(features_of(dataset, None)).metrics
    rescored = evaluator.evaluate(features_of(dataset, Rescorer(10))).metrics
    assert plain["Any/all/single/mAP"] != rescored["Any/all/single/mAP"]


@pytest.mark.parametrize("protocol,cameras", CASES)
def test_a_weight_of_zero_gives_the_ordinary_numbers(protocol, cameras):
    """Bitwise: the place of a candidate is as exact as its cosine."""
    dataset = fake_dataset((1, 2, 4, 5), cameras)
    evaluator = VIReIDEvaluator([protocol], dataset, dataset_name="Any")
    plain = evaluator.evaluate(features_of(dataset, None))
    same = evaluator.evaluate(features_of(dataset, Rescorer(7, weight=0.0)))
    assert same.metrics == plain.metrics and "by parts, top 7" in same.format_table()
    assert "by parts" not in plain.format_table()


def trial_of(gallery_angles, gallery_parts, targets, camids, *, top, rules=None, weight=1.0):
    """Average precision (percent) of one query at angle 0 with parts 0, identity 7, camera 3."""
    angles = np.array([0.0, *gallery_angles])
    features = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1))
    local = torch.tensor([0.0, *gallery_parts], dtype=torch.float64)[:, None, None]
    trial = SimpleNamespace(query=np.array([0]), gallery=np.arange(1, len(angles)))
    rescorer = Rescorer(top, weight)
    found = rank_rescored(
        features,
        local,
        rescorer,
        np.array([7, *targets]),
        np.array([3, *camids]),
        trial,
        rules or RankRules(),
    )
    return found.average_precision[0], rescorer


def test_by_hand():
    """Cosines fall 1, 2, 3, 4; only the third is right. Among the first three it has the least
    total and comes first; among the first two it does not take part and stays third."""
    case = ([0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.0, 0.0], [8, 9, 7, 9], [1] * 4)
    assert trial_of(*case, top=0 + 3)[0] == 100
    assert trial_of(*case, top=2)[0] == pytest.approx(100 / 3)
    # The fourth, least in parts, must not pass: it is not a candidate.
    assert (
        trial_of([0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.4, 0.0], [8, 7, 9, 9], [1] * 4, top=3)[0] == 100
    )
    # 1 - cos 0.3 = 0.045: a weight of 0.05 on 0.5 is not enough to turn 1 and 3, 0.2 is.
    assert trial_of(*case, top=3, weight=0.05)[0] == pytest.approx(100 / 3)
    assert trial_of(*case, top=3, weight=0.2)[0] == 100


def test_hidden_images_take_no_place_among_the_candidates():
    """Camera 2 is never compared with camera 3: the right image is the second visible one."""
    case = ([0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.9, 0.0], [8, 8, 9, 7], [2, 2, 1, 1])
    rules = RankRules(skip_camera_pairs=((3, 2),))
    assert trial_of(*case, top=2, rules=rules)[0] == 100
    assert trial_of(*case, top=1, rules=rules)[0] == 50
    case = ([0.1, 0.2, 0.3], [0.0, 0.9, 0.0], [7, 9, 7], [3, 1, 1])  # own identity and camera
    assert trial_of(*case, top=2, rules=RankRules(skip_same_camera=True))[0] == 100


def test_equal_totals_go_by_gallery_index():
    """Three images alike in everything: the right one is third or first, whatever the sort."""
    for targets, expected in (([8, 9, 7], 100 / 3), ([7, 8, 9], 100)):
        found, _ = trial_of([0.2] * 3, [0.5] * 3, targets, [1] * 3, top=3)
        assert found == pytest.approx(expected)
    # At the edge of the candidates, too: of two equal cosines the earlier one is taken.
    found, _ = trial_of([0.2, 0.2], [0.5, 0.0], [7, 8], [1, 1], top=1)
    assert found == 100


def test_equal_totals_of_different_cosines_tie_exactly():
    """Scores 3/4 and 1/2, weights 1/4 and 0: both totals are -1/2, so the index decides."""
    scores = torch.tensor([[0.5, 0.75, 0.25]])
    hidden = torch.zeros(1, 3, dtype=torch.bool)
    added = torch.tensor([[0.0, 0.25, 0.0]])
    new = rescoring.promoted(scores, hidden, 2, lambda found: added.gather(1, found))
    assert new.tolist() == [[4.0, 4.0, 0.25]]


def test_blocks_of_queries_do_not_matter(monkeypatch):
    dataset = fake_dataset((1, 2, 4, 5), (3, 6))
    evaluator = VIReIDEvaluator([SYSUMM01Protocol("all", 1, 2)], dataset, dataset_name="Any")
    whole = evaluator.evaluate(features_of(dataset, Rescorer(5))).metrics
    monkeypatch.setattr(rescoring, "_BLOCK_BYTES", 1)
    assert evaluator.evaluate(features_of(dataset, Rescorer(5))).metrics == whole


def test_only_candidates_are_compared():
    """K distances a query, and no more than there are gallery items."""
    case = ([0.1, 0.2, 0.3, 0.4], [0.5, 0.4, 0.0, 0.0], [8, 9, 7, 9], [1] * 4)
    assert trial_of(*case, top=2)[1].widths == [2]
    assert trial_of(*case, top=50)[1].widths == [4]


def test_distances_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="Local distances hold NaN"):
        trial_of([0.1, 0.2], [0.5, np.nan], [7, 8], [1, 1], top=2)


@pytest.mark.parametrize(
    "options,said",
    [({"reranking": Reranking()}, "ENABLED False .now True"), ({"metric": "euclidean"}, "cosine")],
)
def test_it_does_not_go_with_reranking_or_another_metric(options, said):
    dataset = fake_dataset((1, 2, 4, 5), (3, 6))
    evaluator = VIReIDEvaluator([SYSUMM01Protocol("all")], dataset, dataset_name="Any", **options)
    with pytest.raises(ValueError, match=f"by parts, top 5.*{said}"):
        evaluator.evaluate(features_of(dataset, Rescorer(5)))
    evaluator.evaluate(features_of(dataset, None))


class Model(nn.Module):
    """Features: the mean of the left and of the right half; local ones: left columns' values."""

    def __init__(self, rescorer=None):
        super().__init__()
        self.rescorer = rescorer

    def forward(self, batch):
        self.local = batch["images"][:, 0, :, :S].half()
        return batch["images"].unflatten(3, (2, -1)).mean((1, 2, 4))


def batches(index):
    images = torch.arange(8 * 3 * R * 4, dtype=torch.float32).view(8, 3, R, 4)
    for part in index:
        part = torch.tensor(part)
        labels = {name: part for name in ("targets", "camids", "modalities", "index")}
        yield {"images": images[part].clone(), **labels}


def test_local_features_come_ordered_once_each_and_averaged_over_the_flip():
    parts = [[5, 1, 0], [3, 2, 4], [6, 7, 0]]
    rescorer = Rescorer(5)
    got = extract_features(Model(rescorer), batches(parts))
    images = torch.arange(8 * 3 * R * 4, dtype=torch.float32).view(8, 3, R, 4)
    assert got.rescorer is rescorer and got.local.dtype == torch.float32
    assert torch.equal(got.local, images[:, 0, :, :S])
    flipped = extract_features(Model(rescorer), batches(parts), flip=True)
    mirror = images.flip(3)[:, 0, :, :S]
    assert torch.equal(flipped.local, (images[:, 0, :, :S] + mirror) / 2)
    plain = extract_features(Model(), batches(parts))
    assert plain.local is None and plain.rescorer is None
    assert torch.equal(plain.features, got.features)


@pytest.mark.parametrize("own", [[[5, 1, 0], [3]], []])
def test_several_processes_bring_their_local_features_together(own, monkeypatch):
    """One's share, which may be empty, and another's, with an image that both had."""
    whole = extract_features(Model(Rescorer(5)), batches([range(8)]))
    other = {"features": whole.features, "local": whole.local}
    other.update({n: torch.arange(8) for n in ("targets", "camids", "modalities", "index")})
    monkeypatch.setattr(test_features.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(test_features.comm, "synchronize", lambda: None)
    monkeypatch.setattr(test_features.comm, "all_gather", lambda columns: [columns, other])
    got = extract_features(Model(Rescorer(5)), batches(own))
    assert got.index.tolist() == list(range(8))
    assert torch.equal(got.local, whole.local) and torch.equal(got.features, whole.features)


def test_the_features_of_a_rescored_table_say_so():
    dataset = fake_dataset((1, 2, 4, 5), (3, 6))
    evaluator = VIReIDEvaluator([SYSUMM01Protocol("all")], dataset, dataset_name="Any")
    features = features_of(dataset, Rescorer(5))
    assert evaluator.evaluate(features).reranking == "by parts, top 5"
    assert evaluator.evaluate(dataclasses.replace(features, rescorer=None)).reranking == ""


@pytest.mark.parametrize(
    ("top", "weight", "said"),
    [
        (0, 0.5, "Rescorer's top must be at least 1; got 0"),
        (1.5, 0.5, "Rescorer's top must be a whole number; got 1.5"),
        (3, -0.1, "Rescorer's weight must be at least 0; got -0.1"),
        (3, float("nan"), "Rescorer's weight must be a finite number; got nan"),
    ],
)
def test_numbers_of_a_rescorer_are_checked(top, weight, said):
    with pytest.raises(UserError, match=said):
        rescoring.Rescorer("a distance", top, weight, "parts", nullcontext, min)


def test_a_rescorer_reads_the_recorded_map_of_the_last_pass():
    """It works inside the block, and its words name the distance, the weight and the candidates."""
    maps = {}

    @contextmanager
    def record(model, name):
        assert (model, name) == ("a model", "parts")
        yield maps

    made = rescoring.Rescorer("part distance", 20, 0.25, "parts", record, min)
    assert made.description == "part distance × 0.25, top 20"
    with made.recording("a model") as local_of_last:
        for value in (1, 2):
            maps["parts"] = value
            assert local_of_last() == value
