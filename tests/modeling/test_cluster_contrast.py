"""Stages, terms and memories of ``ClusterContrast``. Oracles: loops over the centers, memories that
are moved by hand in the order of the public codes."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.modeling.clusters import FoundClusters
from vireid_plugins.modeling.meta_arch import ClusterContrast

from tests.engine.small import small_cfg
from tests.every_key.narrow import NAME
from tests.modeling.cluster_rows import wave

# visible clusters are 0, 1, 2, infrared ones 3 and 4
LABELS = torch.tensor([0, 0, 1, 1, 2, -1, 3, 3, 4, 4, -1])
IMAGES = torch.tensor([0] * 6 + [1] * 5)
ALL = torch.tensor([0, 0, 1, 1, -1, 2, 0, 0, 2, 1, 1])  # clusters of all images
PARTNERS = torch.tensor([4, 3, -1, 1, 0])
# the rows of a batch: views of one visible image come one after the other
TARGETS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4, 4])
MODALITIES = torch.tensor([0] * 6 + [1] * 3)
VIEWS = torch.tensor([0, 1, 0, 1, 0, 1, 0, 0, 0])


def made(method, phase, **keys):
    own = {"MODEL__BACKBONE__NAME": NAME, "MODEL__HEADS__NUM_CLASSES": 12, **keys}
    torch.manual_seed(0)
    model = ClusterContrast(small_cfg("unused", f"configs/{method}/synthetic.yml", **own)).train()
    features = F.normalize(wave(11, model.heads.weight.shape[1], 0.4), dim=1)
    labels = [LABELS, ALL] if model.more_labelings(phase) else [LABELS]
    partners = PARTNERS if model.links.match != "none" and phase != "within" else None
    model.phase = phase
    model.take_clusters(FoundClusters(features, IMAGES, labels, phase, partners))
    return model, wave(9, features.shape[1], 1.7), features


def terms_of(model, rows, targets=TARGETS, **more):
    batch = {"targets": targets, "modalities": MODALITIES, "views": VIEWS, "images": rows, **more}
    return model.objective({"bn_features": rows}, batch)


def contrast(rows, centers, places):
    """-mean log softmax of cosines / 0.05, by loops."""
    found = []
    for row, place in zip(F.normalize(rows, dim=1), places):
        scores = [float(row @ center) / 0.05 for center in centers]
        top = max(scores)
        found.append(top + math.log(sum(math.exp(s - top) for s in scores)) - scores[place])
    return sum(found) / len(found)


@pytest.mark.parametrize("phase", ["within", "to_infrared", "to_visible"])
def test_pgm_crosses_one_way_in_each_phase(phase):
    model, rows, _ = made("pgm", phase)
    centers = model.memory.rows[0, :5]
    terms = terms_of(model, rows)
    assert terms["loss_visible"].item() == pytest.approx(
        contrast(rows[:6], centers[:3], [0, 0, 1, 1, 2, 2]), rel=1e-5
    )
    assert terms["loss_infrared"].item() == pytest.approx(
        contrast(rows[6:], centers[3:], [0, 1, 1]), rel=1e-5
    )
    expected = {  # cluster 2 has no partner
        "to_infrared": lambda: contrast(rows[:4], centers[3:], [1, 1, 0, 0]),
        "to_visible": lambda: contrast(rows[6:], centers[:3], [1, 0, 0]),
    }
    assert ("loss_cross" in terms) == (phase != "within")
    if phase != "within":
        assert terms["loss_cross"].item() == pytest.approx(0.25 * expected[phase](), rel=1e-5)
        both, _, _ = made("pgm", "across", MODEL__CLUSTER_CONTRAST__CROSS="both")
        sum_of_both = sum(one() for one in expected.values())
        found = terms_of(both, rows)["loss_cross"].item()
        assert found == pytest.approx(0.25 * sum_of_both, rel=1e-5)


def test_epochs_have_the_phases_of_the_papers():
    keys = {"MODEL__CLUSTER_CONTRAST__FIRST_EPOCHS": 3}
    within = ["within"] * 3
    expected = {
        "pgm": within + ["to_infrared", "to_visible", "to_infrared"],
        "adca": within + ["across"] * 3,
        "adca/ablation/dcl": within * 2,
    }
    for method, phases in expected.items():
        config = method if "/" in method else f"{method}/synthetic"
        own = {"MODEL__BACKBONE__NAME": NAME, "MODEL__HEADS__NUM_CLASSES": 12, **keys}
        model = ClusterContrast(small_cfg("unused", f"configs/{config}.yml", **own))
        assert [model.phase_of(epoch) for epoch in range(6)] == phases
    assert [model.stage_of(phase) for phase in ("within", "across", "to_visible")] == [0, 1, 1]


def test_crossing_rows_move_a_center_before_its_own_do():
    model, rows, _ = made("pgm", "to_infrared")
    by_hand = copy.deepcopy(model.memory)
    by_hand.update(rows[:4], PARTNERS[TARGETS[:4]], "hard")
    by_hand.update(rows, TARGETS, "hard")
    terms_of(model, rows)
    model.after_step()
    torch.testing.assert_close(model.memory.rows, by_hand.rows)


def test_the_first_views_move_a_center_before_the_second_ones():
    model, rows, _ = made("adca", "across")
    targets = torch.tensor([0, 0, 0, 0, 2, 2, 3, 4, 4])  # two images of cluster 0
    by_hand, by_image = copy.deepcopy(model.memory), copy.deepcopy(model.memory)
    order = torch.tensor([0, 2, 4, 6, 7, 8, 1, 3, 5])
    by_hand.update(rows[order], targets[order], "rows")
    by_image.update(rows, targets, "rows")
    assert not torch.allclose(by_image.rows, by_hand.rows)
    terms_of(model, rows, targets)
    model.after_step()
    torch.testing.assert_close(model.memory.rows, by_hand.rows)
    model.after_step()  # each batch counts once
    torch.testing.assert_close(model.memory.rows, by_hand.rows)


def test_in_its_first_stage_pgm_follows_each_row():
    model, rows, _ = made("pgm", "within")
    by_hand = copy.deepcopy(model.memory)
    order = VIEWS.argsort(stable=True)
    by_hand.update(rows[order], TARGETS[order], "rows")
    terms_of(model, rows)
    model.after_step()
    torch.testing.assert_close(model.memory.rows, by_hand.rows)


def test_adca_merges_infrared_centers_into_visible_ones():
    model, _, features = made("adca", "across")
    own = [F.normalize(features[LABELS == n].mean(dim=0), dim=0) for n in range(5)]
    expected = [0.1 * own[0] + 0.9 * own[4], 0.1 * own[1] + 0.9 * own[3], *own[2:]]
    torch.testing.assert_close(model.memory.rows[0, :5], torch.stack(expected))
    before, _, _ = made("adca", "within")
    torch.testing.assert_close(before.memory.rows[0, :5], torch.stack(own))


def test_bmil_draws_a_row_to_both_prototypes_of_its_cluster():
    """Prototypes: visible and infrared of cluster 0, of 1, of 2."""
    model, rows, features = made("bmil", "across")
    prototypes = torch.stack(
        [
            F.normalize(features[(ALL == n) & (IMAGES == m)].mean(dim=0), dim=0)
            for n in range(3)
            for m in range(2)
        ]
    )
    torch.testing.assert_close(model.prototypes.rows[:, :6], prototypes.expand(2, -1, -1))
    targets = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1, 2])
    memory = copy.deepcopy(model.memory)
    terms = terms_of(model, rows, targets, labeling=1)
    for name, own in (("visible", slice(0, 6)), ("infrared", slice(6, 9))):
        to_visible = contrast(rows[own], prototypes, (2 * targets[own]).tolist())
        to_infrared = contrast(rows[own], prototypes, (2 * targets[own] + 1).tolist())
        found = terms[f"loss_global_{name}"].item()
        assert found == pytest.approx(0.5 * (to_visible + to_infrared) / 2, rel=1e-5)
    by_hand = copy.deepcopy(model.prototypes)
    order = VIEWS.argsort(stable=True)
    by_hand.update(rows[order], (2 * targets + MODALITIES)[order], "hybrid")
    model.after_step()
    torch.testing.assert_close(model.prototypes.rows, by_hand.rows)
    assert torch.equal(model.memory.rows, memory.rows)
