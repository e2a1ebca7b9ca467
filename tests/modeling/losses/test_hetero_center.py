"""Hetero-center triplet loss.

Oracles: a positional loop over blocks of rows, as the published method describes it on an
ordered batch; a loop over identities for ragged batches; arithmetic by hand.
"""

from typing import Callable

import pytest
import torch
from torch import Tensor

from vireid_plugins import Modality
from vireid_plugins.modeling.losses import HeteroCenterTripletLoss


def by_position(features: Tensor, identities: int, images: int, margin: float) -> float:
    """Mean over centers of an ordered batch: P x K visible rows, then P x K infrared rows."""
    centers = [block.mean(dim=0) for block in features.split(images)]
    terms = []
    for a, anchor in enumerate(centers):
        gaps = [float((anchor - center).pow(2).sum()) ** 0.5 for center in centers]
        same = [gap for b, gap in enumerate(gaps) if b % identities == a % identities]
        other = [gap for b, gap in enumerate(gaps) if b % identities != a % identities]
        terms.append(max(0.0, margin + max(same) - min(other)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("identities, images", [(2, 1), (3, 4), (6, 3)])
def test_equals_the_positional_form_on_an_ordered_batch(
    seed: int, identities: int, images: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = 2 * identities * images
    features = torch.randn(rows, 7, generator=generator, dtype=torch.float64)
    targets = torch.arange(identities).repeat_interleave(images).repeat(2)
    modalities = torch.tensor([Modality.VISIBLE, Modality.INFRARED]).repeat_interleave(rows // 2)
    expected = by_position(features, identities, images, 0.3)
    value = HeteroCenterTripletLoss(0.3)(features, targets, modalities)
    assert float(value) == pytest.approx(expected, rel=1e-13)
    total = HeteroCenterTripletLoss(0.3, "sum")(features, targets, modalities)
    assert float(total) == pytest.approx(2 * identities * expected, rel=1e-13)


def by_identity(features: Tensor, targets: Tensor, modalities: Tensor, margin: float) -> list:
    """Terms of all centers that have a partner, from dictionaries of rows."""
    centers = {}
    for target in targets.unique().tolist():
        for modality in Modality:
            rows = (targets == target) & (modalities == modality)
            if rows.any():
                centers[target, modality] = features[rows].mean(dim=0)
    terms = []
    for (target, modality), anchor in centers.items():
        partner = centers.get((target, Modality(1 - modality)))
        others = [center for (other, _), center in centers.items() if other != target]
        if partner is not None and others:
            nearest = min(float((anchor - center).norm()) for center in others)
            terms.append(max(0.0, margin + float((anchor - partner).norm()) - nearest))
    return terms


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_loop_on_a_ragged_batch(seed: int, make_batch: Callable) -> None:
    batch = make_batch(seed)
    features, targets, modalities = batch["features"], batch["targets"], batch["modalities"]
    # One identity loses its infrared rows: no triplet of its own, still a negative.
    keep = (targets != targets[0]) | (modalities == Modality.VISIBLE)
    features, targets, modalities = features[keep], targets[keep], modalities[keep]
    terms = by_identity(features, targets, modalities, 0.5)
    value = HeteroCenterTripletLoss(0.5)(features, targets, modalities)
    assert len(terms) == 6 and float(value) == pytest.approx(sum(terms) / 6)


def test_by_hand() -> None:
    # Identity 0: visible 0 and 2 (center 1), infrared 4. Identity 1: visible 5, no infrared.
    # Center 1: 0.3 + |1 - 4| - |1 - 5| < 0 gives 0. Center 4: 0.3 + |4 - 1| - |4 - 5| = 2.3.
    features = torch.tensor([[0.0], [4.0], [5.0], [2.0]])
    targets, modalities = torch.tensor([0, 0, 1, 0]), torch.tensor([0, 1, 0, 0])
    assert float(HeteroCenterTripletLoss()(features, targets, modalities)) == pytest.approx(1.15)


def test_refuses_what_it_cannot_read(make_batch: Callable) -> None:
    batch = make_batch(0)
    features, targets = batch["features"], batch["targets"]
    with pytest.raises(ValueError, match="HeteroCenterTripletLoss needs modalities.*got None"):
        HeteroCenterTripletLoss()(features, targets)
    with pytest.raises(ValueError, match="modalities must be 0 .*got \\[2\\]"):
        HeteroCenterTripletLoss()(features, targets, batch["modalities"] * 2)
    with pytest.raises(ValueError, match="reduction is 'none'; expected 'mean' or 'sum'"):
        HeteroCenterTripletLoss(reduction="none")
