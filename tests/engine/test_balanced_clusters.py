"""``CLUSTERS.WITHIN`` on made-up features with a gap between both modalities. Oracle: persons."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.engine.clusters.labels import Clusterer, clustered_rows

PERSONS, IMAGES = 8, 10
PIDS = np.tile(np.repeat(np.arange(PERSONS), IMAGES), 2)
MODALITIES = np.repeat([0, 1], PERSONS * IMAGES)


def features(gap=1.5):
    """Rows whose nearest neighbors are images of their modality, of whichever person."""
    rng = np.random.default_rng(0)
    rows = np.eye(PERSONS + 1)[PIDS] + rng.normal(0, 0.08, (len(PIDS), PERSONS + 1))
    rows[:, -1] += gap * (2 * MODALITIES - 1)
    return F.normalize(torch.from_numpy(rows).float(), dim=1)


def clusters(within, order="turns"):
    """Return the pairs (cluster, modality) of each person, and the labels."""
    found = Clusterer(radius=0.6, k1=16, k2=4, definition="softmax", within=within, order=order)
    labels = found(features(), MODALITIES).labels
    return [set(zip(labels[PIDS == p], MODALITIES[PIDS == p])) for p in range(PERSONS)], labels


@pytest.mark.parametrize("order", ["turns", "similarity"])
def test_balanced_neighbors_join_the_modalities_of_a_person(order):
    found, labels = clusters("balanced", order)
    assert labels.max() + 1 == PERSONS and labels.min() == 0
    assert all({m for _, m in own} == {0, 1} and len(own) == 2 for own in found)


def test_without_balance_no_cluster_has_both_modalities():
    for within in ("all", "modality"):
        _, labels = clusters(within)
        for label in range(labels.max() + 1):
            assert len(set(MODALITIES[labels == label])) == 1


def test_labelings_take_different_shares_of_the_visible_images():
    rows = [clustered_rows(MODALITIES, 0.5, n, np.random.default_rng(3)) for n in range(3)]
    visible = [set(one[MODALITIES[one] == 0]) for one in rows]
    assert visible[0] | visible[1] == set(range(80)) and not visible[0] & visible[1]
    assert visible[2] == visible[0]  # the list begins again
    assert all((MODALITIES[one] == 1).sum() == 80 and np.all(np.diff(one) > 0) for one in rows)
    assert len(clustered_rows(MODALITIES, 1.0, 0, np.random.default_rng(0))) == 160
    other = clustered_rows(MODALITIES, 0.5, 0, np.random.default_rng(4))
    assert set(other) != set(rows[0])
