"""Batch-hard triplet loss. Oracles: a loop from the formula, and arithmetic by hand."""

from typing import Callable

import pytest
import torch
from torch import Tensor

from vireid_plugins.modeling.losses import BatchHardTripletLoss


def by_loop(features: Tensor, targets: Tensor, margin: float) -> float:
    terms = []
    for a in range(len(features)):
        positives, negatives = [], []
        for b in range(len(features)):
            distance = float((features[a] - features[b]).pow(2).sum()) ** 0.5
            if b != a and targets[b] == targets[a]:
                positives.append(distance)
            elif targets[b] != targets[a]:
                negatives.append(distance)
        if positives and negatives:
            terms.append(max(0.0, margin + max(positives) - min(negatives)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
def test_equals_the_loop(seed: int, margin: float, make_batch: Callable) -> None:
    batch = make_batch(seed, identities=2 + seed % 4)
    value = BatchHardTripletLoss(margin)(batch["features"], batch["targets"])
    assert float(value) == pytest.approx(by_loop(batch["features"], batch["targets"], margin))


def test_by_hand() -> None:
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 6.0], [9.0, 9.0]])
    targets = torch.tensor([0, 0, 1, 2])
    # Row 0: positive at 5, nearest negative (row 2) at 6: 0.3 + 5 - 6 < 0 gives 0.
    # Row 1: positive at 5, nearest negative (row 2) at sqrt(9 + 4): 0.3 + 5 - sqrt(13).
    # Rows 2 and 3 have no positive and do not count: the mean is over two.
    value = BatchHardTripletLoss(0.3)(features, targets)
    assert float(value) == pytest.approx((0.0 + 5.3 - 13**0.5) / 2)


def test_equal_extremes_share_the_gradient() -> None:
    # Anchor 0 at 0 has positives at -2 and 2 and a negative at 2.5: both positives pull alike.
    features = torch.tensor([[0.0], [-2.0], [2.0], [2.5]], dtype=torch.float64, requires_grad=True)
    positives = [1, 2]
    distances = (features[0] - features[positives]).abs().squeeze(1)
    distances.amax().backward()
    shared = features.grad[positives].abs()
    assert shared[0] == shared[1] == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_many_rows_have_the_same_loss_and_gradient_without_a_matrix(
    seed: int, make_batch: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, found = make_batch(seed, identities=2 + seed), []
    for most, block in ((2048, 512), (1, 4)):
        monkeypatch.setattr("vireid_plugins.modeling.losses.triplet.MOST_ROWS", most)
        monkeypatch.setattr("vireid_plugins.modeling.losses.pairs._BLOCK_ROWS", block)
        features = batch["features"].clone().requires_grad_()
        value = BatchHardTripletLoss(2.0)(features, batch["targets"])
        value.backward()
        found.append((value.detach(), features.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_many_rows_without_a_usable_anchor_give_a_zero_that_keeps_its_graph(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vireid_plugins.modeling.losses.triplet.MOST_ROWS", 1)
    features = torch.randn(3, 2, requires_grad=True)
    value = BatchHardTripletLoss(0.3)(features, torch.tensor([0, 1, 2]))
    value.backward()
    assert value == 0 and not features.grad.any()


def test_equal_rows_among_many_have_a_finite_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vireid_plugins.modeling.losses.triplet.MOST_ROWS", 1)
    features = torch.ones(4, 2, requires_grad=True)
    value = BatchHardTripletLoss(0.3)(features, torch.tensor([0, 0, 1, 1]))
    value.backward()
    assert value.item() == pytest.approx(0.3) and bool(torch.isfinite(features.grad).all())
