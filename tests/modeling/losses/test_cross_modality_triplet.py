"""Batch-hard triplets within and across the modalities.

Oracles: a loop from the formula over two blocks of rows, as the published method describes it on
an ordered batch; a loop over labels for ragged batches; arithmetic by hand.
"""

from typing import Callable, List

import pytest
import torch
from torch import Tensor

from vireid_plugins import Modality
from vireid_plugins.modeling.losses import BatchHardTripletLoss, CrossModalityTripletLoss

MODALITY_PAIRS = [(a, b) for a in Modality for b in Modality]


def by_position(anchors: Tensor, others: Tensor, targets: List[int], margin: float) -> float:
    """Mean over the rows of one block of triplets with rows of a block of the same identities."""
    total = 0.0
    for a, anchor in enumerate(anchors):
        gaps = [float((anchor - other).pow(2).sum()) ** 0.5 for other in others]
        same = [gap for gap, target in zip(gaps, targets) if target == targets[a]]
        different = [gap for gap, target in zip(gaps, targets) if target != targets[a]]
        total += max(0.0, margin + max(same) - min(different))
    return total / len(anchors)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("identities, images", [(2, 2), (3, 4), (6, 3)])
@pytest.mark.parametrize("margin", [0.0, 0.4, 3.0])
def test_equals_the_positional_form_on_an_ordered_batch(
    seed: int, identities: int, images: int, margin: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = identities * images
    visible, infrared = torch.randn(2, rows, 7, generator=generator, dtype=torch.float64)
    targets = torch.arange(identities).repeat_interleave(images)
    blocks = [(visible, visible), (infrared, infrared), (visible, infrared), (infrared, visible)]
    parts = [by_position(a, b, targets.tolist(), margin) for a, b in blocks]
    value = CrossModalityTripletLoss(margin)(
        torch.cat((visible, infrared)), targets.repeat(2), torch.arange(2).repeat_interleave(rows)
    )
    assert sum(parts) > 0 and float(value) == pytest.approx(sum(parts) / 4, rel=1e-12)


def by_labels(features: Tensor, targets: Tensor, modalities: Tensor, margin: float) -> List[float]:
    """Return the means of the pairs of modalities that have an anchor."""
    found = []
    for of_anchor, of_others in MODALITY_PAIRS:
        terms = []
        for a in torch.nonzero(modalities == of_anchor)[:, 0].tolist():
            same, different = [], []
            for b in torch.nonzero(modalities == of_others)[:, 0].tolist():
                gap = float((features[a] - features[b]).norm())
                if targets[a] != targets[b]:
                    different.append(gap)
                elif a != b:
                    same.append(gap)
            if same and different:
                terms.append(max(0.0, margin + max(same) - min(different)))
        if terms:
            found.append(sum(terms) / len(terms))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_loop_on_a_ragged_batch(seed: int, make_batch: Callable) -> None:
    batch = make_batch(seed)
    features, targets, modalities = batch["features"], batch["targets"], batch["modalities"]
    # One identity has no infrared rows: no triplet across, but still a negative.
    keep = (targets != targets[0]) | (modalities == Modality.VISIBLE)
    features, targets, modalities = features[keep], targets[keep], modalities[keep]
    parts = by_labels(features, targets, modalities, 0.9)
    value = CrossModalityTripletLoss(0.9)(features, targets, modalities)
    assert len(parts) == 4 and float(value) == pytest.approx(sum(parts) / 4)


def test_a_pair_of_modalities_without_a_triplet_is_left_out(make_batch: Callable) -> None:
    batch = make_batch(2, most=3, ragged=False)
    # One infrared row of each identity: they have no positive among each other.
    first = torch.zeros(len(batch["targets"]), dtype=torch.bool)
    for target in batch["targets"].unique():
        rows = (batch["targets"] == target) & (batch["modalities"] == Modality.INFRARED)
        first[torch.nonzero(rows)[0, 0]] = True
    keep = first | (batch["modalities"] == Modality.VISIBLE)
    labels = [batch[name][keep] for name in ("features", "targets", "modalities")]
    parts = by_labels(*labels, 2.0)
    assert len(parts) == 3
    assert float(CrossModalityTripletLoss(2.0)(*labels)) == pytest.approx(sum(parts) / 3)


def test_by_hand() -> None:
    # On a line, margin 1. Visible: identity 0 at 0 and 1, identity 1 at 3 and 3.
    # Infrared: identity 0 at 2 and 2, identity 1 at 4 and 5.
    features = torch.tensor([[0.0], [1.0], [3.0], [3.0], [2.0], [2.0], [4.0], [5.0]])
    targets, modalities = torch.tensor([0, 0, 1, 1] * 2), torch.tensor([0] * 4 + [1] * 4)
    within_visible = [1 + 1 - 3, 1 + 1 - 2, 1 + 0 - 2, 1 + 0 - 2]  # -1, 0, -1, -1
    within_infrared = [1 + 0 - 2, 1 + 0 - 2, 1 + 1 - 2, 1 + 1 - 3]  # -1, -1, 0, -1
    from_visible = [1 + 2 - 4, 1 + 1 - 3, 1 + 2 - 1, 1 + 2 - 1]  # -1, -1, 2, 2
    from_infrared = [1 + 2 - 1, 1 + 2 - 1, 1 + 1 - 3, 1 + 2 - 4]  # 2, 2, -1, -1
    parts = [within_visible, within_infrared, from_visible, from_infrared]
    expected = sum(sum(max(0, term) for term in part) / 4 for part in parts) / 4
    assert expected == 0.5
    assert float(CrossModalityTripletLoss(1.0)(features, targets, modalities)) == expected


def test_one_modality_is_the_batch_hard_loss(make_batch: Callable) -> None:
    batch = make_batch(3)
    rows = batch["modalities"] == Modality.INFRARED
    features, targets = batch["features"][rows], batch["targets"][rows]
    value = CrossModalityTripletLoss(0.7)(features, targets, batch["modalities"][rows])
    assert value > 0 and torch.equal(value, BatchHardTripletLoss(0.7)(features, targets))


@pytest.mark.parametrize("seed", range(3))
def test_invariances(seed: int, make_batch: Callable) -> None:
    """Exchanged modalities, renumbered identities, a reflection and a shift change nothing."""
    batch = make_batch(seed)
    features, targets, modalities = batch["features"], batch["targets"], batch["modalities"]
    loss = CrossModalityTripletLoss(1.0)
    value = loss(features, targets, modalities)
    torch.testing.assert_close(loss(features, targets, 1 - modalities), value)
    torch.testing.assert_close(loss(features, 100 - 7 * targets, modalities), value)
    normal = features[:1] / features[0].norm()
    mirrored = features - 2 * (features @ normal.T) * normal
    torch.testing.assert_close(loss(mirrored + 3.0, targets, modalities), value)
    scaled = CrossModalityTripletLoss(2.5)(2.5 * features, targets, modalities)
    torch.testing.assert_close(scaled, 2.5 * value)


def test_images_across_the_modalities_cannot_hide_behind_those_within() -> None:
    """Positives across are far; batch-hard sees them as well, but negatives within do not help."""
    # Identity 0: visible 0, 0; infrared 10, 10. Identity 1: visible 3, 3; infrared 30, 30.
    features = torch.tensor([[0.0], [0.0], [3.0], [3.0], [10.0], [10.0], [30.0], [30.0]])
    targets, modalities = torch.tensor([0, 0, 1, 1] * 2), torch.tensor([0] * 4 + [1] * 4)
    # Within: all zero. From visible 0: 10 - 30; from 3: 27 - 7 = 20. From infrared 10: 10 - 7 = 3;
    # from infrared 30: 27 - 30.
    value = CrossModalityTripletLoss(0.0)(features, targets, modalities)
    assert float(value) == pytest.approx((0 + 0 + 20 / 2 + 3 / 2) / 4)


def test_mistakes_are_named(make_batch: Callable) -> None:
    batch = make_batch(1)
    features, targets = batch["features"], batch["targets"]
    with pytest.raises(ValueError, match="CrossModalityTripletLoss needs modalities.*got None"):
        CrossModalityTripletLoss()(features, targets)
    with pytest.raises(ValueError, match="modalities must be 0 .*got .*2"):
        CrossModalityTripletLoss()(features, targets, batch["modalities"] * 2)
    with pytest.raises(ValueError, match="margin is -0.1"):
        CrossModalityTripletLoss(margin=-0.1)
