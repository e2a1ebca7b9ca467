"""Memories of centers, matching, prototypes. Oracles: loops from the formulas, all assignments by
brute force, and recorded values of the public codes.

The values are what ``python -m tests.parity.cluster_contrast_values`` prints for yangbincv/ADCA,
commit 8d0a8cb, zesenwu23/USL-VI-ReID, ed4a7df, and Terminator8758/BMIL, 79cc647.
"""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import jaccard_distance
from vireid_plugins.modeling.clusters import (
    ClusterMemory,
    aggregated,
    centers_of,
    count_partners,
    graph_partners,
    modality_of_clusters,
    split_by_modality,
)

from tests.modeling.cluster_rows import BATCH, CENTERS, FEATURES, IMAGES, TARGETS, wave

GROUPS = torch.tensor([0, 0, 1, 1, 2, 3, 4, 4])  # which prototypes stand for one cluster
# Sums of the rows of each center after the step.
ROWS = [
    0.59249037,
    0.71743035,
    0.98472201,
    0.3464955,
    -0.89209872,
    1.52929079,
    1.33416545,
    1.08876657,
]
HARD = [
    0.77590638,
    0.08711236,
    0.98472201,
    0.55374747,
    -0.89209872,
    1.52929079,
    1.28924942,
    1.0146785,
]
HYBRID = [
    [0.81296104, 0.959611, 0.98472201, 1.21195721, -0.89209872, 1.52929079, 1.33416545, 1.08876657],
    [
        0.64834386,
        0.14711711,
        0.98472201,
        0.39061963,
        -0.89209872,
        1.52929079,
        1.33416545,
        1.08876657,
    ],
]
# Sums of the rows of Jaccard distances of BATCH, k1 8, k2 3, 20 visible and 20 infrared rows.
DISTANCES = (
    "30.8556818962 32.0027785897 31.7840709090 31.6240121126 30.7686026692 31.7038243412 "
    "32.9622721076 32.7011044025 31.4598188996 33.3064162731 32.4632133245 31.0790233612 "
    "32.9929439425 30.9029799699 32.6760522127 31.5607769489 31.4967962503 32.5938228964 "
    "30.9969387650 30.6699861884 30.7450634241 30.8340540528 31.1252070069 30.6699861884 "
    "34.0504979491 30.6699861884 31.7202457785 32.7095651626 34.0913321971 32.4524523615 "
    "32.6988995092 32.7431461215 32.4632133245 31.9742003083 31.8704439997 30.6697783470 "
    "31.9904450178 32.2793457508 33.0526162981 31.6240121126"
)


def memory(tables=1, momentum=0.1, centers=CENTERS, groups=None):
    made = ClusterMemory(20, centers.shape[1], momentum=momentum, tables=tables)
    made.begin(centers, torch.zeros(len(centers)) if groups is None else groups)
    return made


def sums(made):
    return made.rows[:, : int(made.count)].sum(dim=2)


@pytest.mark.parametrize(
    "kind,momentum,expected",
    [("rows", 0.1, [ROWS]), ("hard", 0.2, [HARD]), ("hybrid", 0.1, HYBRID)],
)
def test_losses_and_updates_are_those_of_the_public_codes(kind, momentum, expected):
    made = memory(len(expected), momentum)
    rows = FEATURES.clone().requires_grad_()
    loss = made.contrast(rows, TARGETS, 0, 0.2)
    loss.backward()
    loss_of_hybrid = 9.092159271240234
    assert loss.item() == pytest.approx(
        loss_of_hybrid if kind == "hybrid" else 9.192159652709961, rel=1e-6
    )
    assert rows.grad.abs().sum().item() == pytest.approx(17.9053, rel=1e-5)
    made.update(FEATURES, TARGETS, kind)
    torch.testing.assert_close(sums(made), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_the_loss_of_several_positives_is_that_of_the_public_code():
    made = memory(2, groups=GROUPS)
    rows = FEATURES.clone().requires_grad_()
    loss = made.contrast_groups(rows, TARGETS, nearest=6)
    loss.backward()
    assert loss.item() == pytest.approx(12.054369926452637, rel=1e-6)
    assert rows.grad.abs().sum().item() == pytest.approx(17.314668655395508, rel=1e-5)


def test_contrast_equals_a_loop_over_the_centers_of_the_group():
    groups = torch.tensor([0, 1, 0, 0, 1, 1, 0, 0])
    made, targets = memory(groups=groups), torch.tensor([0, 3, 3, 2, 0, 6, 3, 7, 2, 2])
    terms = []
    for row, target in zip(F.normalize(FEATURES, dim=1), targets.tolist()):
        scores = [float(row @ CENTERS[n]) / 0.05 for n in range(8) if groups[n] == 0]
        own = float(row @ CENTERS[target]) / 0.05
        terms.append(math.log(sum(map(math.exp, scores))) - own)
    found = made.contrast(FEATURES, targets, 0, 0.2)
    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_several_positives_equal_a_loop():
    made, terms = memory(groups=GROUPS), []
    for row, target in zip(F.normalize(FEATURES, dim=1), TARGETS.tolist()):
        scores = {n: float(row @ CENTERS[n]) / 0.05 for n in range(8)}
        positive = [n for n in scores if GROUPS[n] == GROUPS[target]]
        others = sorted((n for n in scores if n not in positive), key=lambda n: -scores[n])
        kept = [scores[n] for n in positive + others[: 5 - len(positive)]]
        whole = math.log(sum(map(math.exp, kept)))
        terms.append(sum(whole - scores[n] for n in positive) / len(positive))
    found = made.contrast_groups(FEATURES, TARGETS, nearest=5)
    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    whole = made.contrast_groups(FEATURES, TARGETS, nearest=50)  # more than there are
    assert whole.isfinite() and whole >= found


@pytest.mark.parametrize("kind", ["rows", "hard", "hybrid"])
def test_updates_equal_a_loop(kind):
    made = memory(2 if kind == "hybrid" else 1, 0.3)
    tables = [[row.clone() for row in CENTERS] for _ in made.rows]
    rows = F.normalize(FEATURES, dim=1)

    def move(table, target, feature):
        moved = 0.3 * tables[table][target] + 0.7 * feature
        tables[table][target] = moved / moved.norm()

    if kind == "rows":
        for row, target in zip(rows, TARGETS.tolist()):
            move(0, target, row)
    for target in set(TARGETS.tolist()) if kind != "rows" else ():
        own = rows[TARGETS == target]
        hardest = min(own, key=lambda row: float(row @ CENTERS[target]))
        if kind == "hybrid":
            move(0, target, own.mean(dim=0))
        move(len(tables) - 1, target, hardest)
    made.update(FEATURES, TARGETS, kind)
    expected = torch.stack([torch.stack(table) for table in tables])
    torch.testing.assert_close(made.rows[:, :8], expected)


def test_a_memory_that_is_too_small_names_the_key():
    with pytest.raises(UserError, match="room for 3 centers, and there are 8.*NUM_CLASSES"):
        ClusterMemory(3, 6).begin(CENTERS, torch.zeros(8))


def test_matches_are_those_of_the_public_code_of_pgm():
    """``r2i`` and ``i2r`` of 5 visible and 3 infrared clusters."""
    found = graph_partners(CENTERS, torch.tensor([0] * 5 + [1] * 3)).tolist()
    to_infrared, to_visible = {2: 0, 3: 2, 4: 1, 0: 0, 1: 1}, {0: 2, 2: 3, 1: 4}
    assert found[:5] == [5 + to_infrared[n] for n in range(5)]
    assert found[5:] == [to_visible[n] for n in range(3)]


@pytest.mark.parametrize("visible", [1, 2, 3, 4, 6])
def test_matching_has_the_least_cost_and_leaves_nobody_over(visible):
    """Of all assignments of the smaller side; the same where modalities change places."""
    centers = F.normalize(wave(7, 5, 0.9), dim=1)
    modalities = torch.tensor([0] * visible + [1] * (7 - visible))
    partners = graph_partners(centers, modalities)
    many, few = sorted(
        (torch.nonzero(modalities == m)[:, 0].tolist() for m in (0, 1)), key=len, reverse=True
    )
    cost = (-(centers @ centers.T)).exp()
    best = min(
        sum(float(cost[a, b]) for a, b in zip(chosen, few))
        for chosen in itertools.permutations(many, len(few))
    )
    assert sum(float(cost[n, partners[n]]) for n in few) == pytest.approx(best, rel=1e-6)
    assert all(modalities[n] != modalities[partners[n]] for n in range(7))
    turned = graph_partners(centers, 1 - modalities)
    if len(many) != len(few):
        assert torch.equal(turned, partners)


def test_without_a_cluster_in_a_modality_nothing_is_matched():
    assert graph_partners(CENTERS, torch.zeros(8)).tolist() == [-1] * 8
    labels, modalities = torch.arange(8), torch.ones(8, dtype=torch.int64)
    assert count_partners(CENTERS, labels, modalities, modalities).tolist() == [-1] * 8
    none = torch.zeros(0, dtype=torch.int64)
    assert len(graph_partners(CENTERS[:0], none)) == 0


def images():
    """Features, labels and modalities of both modalities; infrared clusters are 5, 6 and 7."""
    (visible, of_visible), (infrared, of_infrared) = IMAGES["visible"], IMAGES["infrared"]
    labels = torch.cat([of_visible, torch.where(of_infrared >= 0, of_infrared + 5, -1)])
    modalities = torch.tensor([0] * len(visible) + [1] * len(infrared))
    return torch.cat([visible, infrared]), labels, modalities


def test_votes_and_the_merged_memory_are_those_of_the_public_code_of_adca():
    features, labels, modalities = images()
    own = modality_of_clusters(labels, modalities)
    partners = count_partners(features, labels, modalities, own)
    assert [(n, int(partners[n]) - 5) for n in (3, 2, 0)] == [(3, 0), (2, 2), (0, 1)]
    assert partners[[5, 7, 6]].tolist() == [3, 2, 0]
    mixed = aggregated(centers_of(features, labels), own, partners, 0.9)
    expected = [-0.93467379, 1.54671931, -0.46528423, -1.28747642, 1.12685132]
    torch.testing.assert_close(mixed[:5].sum(dim=1), torch.tensor(expected), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mixed[5:], centers_of(features, labels)[5:])


def test_votes_by_hand():
    """One pair has most votes; equal votes are decided by the greatest cosine."""
    angles = torch.tensor([0.0, 2.0, 4.0, 90.0, 0.0, 3.0, 87.0, 91.0]) * math.pi / 180
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = torch.tensor([0, 0, 1, 2, 3, 3, 4, 5])
    modalities = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    own = modality_of_clusters(labels, modalities)
    # votes: (0, 3): 4, (1, 3): 2, (2, 4): 1, (2, 5): 1 with a greater cosine
    assert count_partners(features, labels, modalities, own).tolist() == [3, -1, 5, 0, -1, 2]
    assert count_partners(features, labels, modalities, own, 1.5).tolist() == [-1] * 6


def test_votes_come_before_cosines_and_the_least_cosine_is_a_vote():
    angles = torch.tensor([0.0, 10.0, 20.0, 5.0, 20.0]) * math.pi / 180
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels, modalities = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1])
    own = modality_of_clusters(labels, modalities)
    # votes: (0, 2): 4, (1, 2): 2 with a cosine of 1
    assert count_partners(features, labels, modalities, own).tolist() == [2, -1, 0]
    pair = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]])
    one = torch.tensor([0, 1])
    assert count_partners(pair, one, one, one, 0.5).tolist() == [1, 0]
    assert count_partners(pair, one, one, one, 0.51).tolist() == [-1, -1]


def test_merging_leaves_the_centers_that_it_was_given():
    centers = torch.eye(3)
    mixed = aggregated(centers, torch.tensor([0, 0, 1]), torch.tensor([2, -1, 0]), 0.75)
    assert mixed.tolist() == [[0.25, 0, 0.75], [0, 1, 0], [0, 0, 1]]
    assert torch.equal(centers, torch.eye(3))


def test_a_cluster_of_both_modalities_is_refused():
    with pytest.raises(UserError, match="CLUSTERS.WITHIN modality"):
        modality_of_clusters(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))


def test_prototypes_are_numbered_cluster_by_cluster():
    labels = torch.tensor([0, 0, 1, 2, -1, 2, 3, -1])  # outliers are in no cluster
    modalities = torch.tensor([0, 1, 1, 1, 0, 0, 0, 1])
    numbers, clusters = split_by_modality(labels, modalities, True)
    assert clusters.tolist() == [0, 0, 1, 2, 2, 3]
    assert numbers.tolist() == [[0, 2, 3, 5], [1, 2, 4, 5]]
    numbers, clusters = split_by_modality(labels, modalities, False)
    assert numbers.tolist() == [[0, 1, 2, 3]] * 2 and clusters.tolist() == [0, 1, 2, 3]


def test_balanced_neighbors_by_similarity_are_those_of_the_public_code_of_bmil():
    groups = np.repeat([0, 1], 20)
    found = jaccard_distance(
        BATCH, 8, 3, definition="softmax", groups=groups, group_order="similarity"
    )
    dense = np.ones((40, 40))
    rows = np.repeat(np.arange(40), np.diff(found.indptr))
    dense[rows, found.indices] = found.data
    expected = np.array(DISTANCES.split(), float)
    np.testing.assert_allclose(dense.sum(axis=1), expected, atol=1e-4)
    turns = jaccard_distance(BATCH, 8, 3, definition="softmax", groups=groups)
    assert abs(turns.sum() - found.sum()) > 1
    with pytest.raises(UserError, match="group_order must be one of"):
        jaccard_distance(BATCH, 8, 3, groups=groups, group_order="nearest")


def test_a_mean_center_that_is_near_enough_adds_nothing():
    """Half of the second table's loss is left where the first one's is below the margin."""
    made, targets = memory(2), torch.tensor([2, 5])
    both = made.contrast(CENTERS[targets], targets, 0, margin=100.0)
    alone = memory().contrast(CENTERS[targets], targets, 0, margin=0.0)
    assert both.item() == pytest.approx(alone.item() / 2, rel=1e-6)


def test_centers_of_a_fresh_memory_are_in_every_group():
    fresh = ClusterMemory(6, 4)
    found = fresh.contrast(wave(3, 4, 0.1), torch.tensor([0, 2, 5]), 1, 0.2)
    assert found.isfinite() and found > 0


def test_fewer_clusters_than_before_leave_nothing_of_the_old_ones():
    made = memory()
    made.begin(CENTERS[:3], torch.zeros(3))
    assert made.scores(FEATURES).shape == (1, 10, 3)
    assert not made.rows[:, 3:].any() and made.groups[3:].unique().tolist() == [-1]


def test_the_cost_of_a_match_is_not_linear_in_the_cosine():
    """Cosines -0.05 and -0.05 cost less than 0.9 and -0.9, though their sum is smaller."""
    rest = math.sqrt(1 - 0.9**2 - 0.05**2)
    centers = torch.tensor(
        [[1.0, 0, 0, 0], [0, 1, 0, 0], [0.9, -0.05, rest, 0], [-0.05, -0.9, 0, rest]]
    )
    assert graph_partners(centers, torch.tensor([0, 0, 1, 1])).tolist() == [3, 2, 1, 0]
