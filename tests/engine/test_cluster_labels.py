"""From features to labels. Oracles: the same steps by hand, loops, and arithmetic in comments."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.clustering import automatic_radius, cluster
from vireid_plugins.engine.clusters.labels import Clusterer, largest
from vireid_plugins.engine.clusters.report import agreement, describe
from vireid_plugins.errors import UserError
from vireid_plugins.evaluation import jaccard_distance
from vireid_plugins.modeling.clusters import centers_of

NUM = 48


@pytest.fixture(scope="module")
def features():
    """Eight persons of six images each, which are alike to different degrees."""
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.standard_normal((8, 6)), 6, axis=0)
    rows += np.repeat(np.linspace(0.1, 0.9, 8), 6)[:, None] * rng.standard_normal((NUM, 6))
    return F.normalize(torch.from_numpy(rows).float(), dim=1)


MODALITIES = np.arange(NUM) % 2


@pytest.mark.parametrize(
    "changes",
    [{}, {"k1": 4}, {"k2": 1}, {"definition": "softmax"}, {"min_samples": 2}, {"radius": 0.3}],
)
def test_each_argument_goes_where_it_belongs(changes, features):
    keys = {"radius": 0.5, "k1": 8, "k2": 3, "definition": "original", "min_samples": 4, **changes}
    found = Clusterer(**keys)(features, MODALITIES)
    distances = jaccard_distance(features, keys["k1"], keys["k2"], definition=keys["definition"])
    expected = cluster(distances, keys["radius"], keys["min_samples"])
    np.testing.assert_array_equal(found.labels, expected)
    assert found.radii == [keys["radius"]] and found.num_clusters == expected.max() + 1 > 1


def test_neighbors_of_both_modalities(features):
    found = Clusterer(radius=0.5, k1=8, k2=3, within="balanced")(features, MODALITIES)
    distances = jaccard_distance(features, 8, 3, groups=MODALITIES)
    np.testing.assert_array_equal(found.labels, cluster(distances, 0.5, 4))
    alone = Clusterer(radius=0.5, k1=8, k2=3, within="balanced")(features, 0 * MODALITIES)
    np.testing.assert_array_equal(
        alone.labels, Clusterer(radius=0.5, k1=8, k2=3)(features, MODALITIES).labels
    )


def test_modalities_are_clustered_apart_and_numbered_on(features):
    make = dict(share=0.05, k1=5, k2=2, min_samples=2, within="modality")
    found = Clusterer(**make)(features, MODALITIES)
    labels, radii, first = np.full(NUM, -1), [], 0
    for value in (0, 1):
        rows = np.flatnonzero(MODALITIES == value)
        distances = jaccard_distance(features[rows], 5, 2)
        radii.append(automatic_radius(distances, 0.05))
        own = cluster(distances, radii[-1], 2)
        labels[rows] = np.where(own < 0, -1, own + first)
        first += own.max() + 1
    np.testing.assert_array_equal(found.labels, labels)
    assert found.radii == radii and radii[0] != radii[1]
    assert found.num_clusters == first > 2 and (labels < 0).any()
    # radii of an earlier clustering stay, each with its modality, unless a number is given
    again = Clusterer(**make)(features, MODALITIES, [0.2, 0.6])
    assert again.radii == [0.2, 0.6]
    assert Clusterer(radius=0.4, **make)(features, MODALITIES, [0.2, 0.6]).radii == [0.4, 0.4]


def test_too_few_images_for_the_rule_name_both_keys(features):
    with pytest.raises(UserError, match="CLUSTERS.RADIUS_SHARE.*less than one pair.*RADIUS"):
        Clusterer(k1=3, k2=1)(features[:4], MODALITIES[:4])


def test_the_largest_clusters_stay():
    labels = np.array([0, 1, 1, 2, -1, 2, 2, 3, 3])  # sizes 1, 2, 3, 2
    assert largest(labels, 4) is labels
    assert largest(labels, 3).tolist() == [-1, 0, 0, 1, -1, 1, 1, 2, 2]
    assert largest(labels, 2).tolist() == [-1, 0, 0, 1, -1, 1, 1, -1, -1]  # 1 before 3


def test_centers_are_means_of_length_1(features):
    labels = torch.arange(NUM) % 5 - 1
    found = centers_of(features, labels)
    assert found.shape == (4, 6)
    for number, center in enumerate(found):
        mean = features[labels == number].mean(0)
        torch.testing.assert_close(center, mean / mean.norm())
    assert centers_of(features, torch.full((NUM,), -1)).shape == (0, 6)


def test_agreement_by_hand():
    labels = np.array([0, 0, 0, 0, 1, -1, -1])
    identities = ["a", "a", "b", "c", "c", "d", "d"]  # outliers are left out
    found = agreement(labels, identities)
    assert found["purity"] == pytest.approx(3 / 5)  # two of cluster 0, one of cluster 1

    def entropy(*counts):
        return -sum(count / 5 * math.log(count / 5) for count in counts)

    of_clusters, of_identities, of_pairs = entropy(4, 1), entropy(2, 1, 2), entropy(2, 1, 1, 1)
    mutual = of_clusters + of_identities - of_pairs
    assert found["nmi"] == pytest.approx(mutual / ((of_clusters + of_identities) / 2))
    assert agreement(labels, [7] * 7) == {} == agreement(np.full(7, -1), identities)


def test_the_line_of_the_log():
    labels = np.array([0, 0, 1, 1, 1, -1, -1, -1])
    words = describe(labels, [0.25, 0.5], True, {"nmi": 0.5, "purity": 0.75})
    assert words == (
        "2 clusters of 5 images, 3 outliers (37.5 %), radius 0.2500, 0.5000 by the rule, "
        "NMI 0.500, purity 0.750 (only reported)"
    )
    assert describe(labels, [0.5], False, {}).endswith("radius 0.5000")
