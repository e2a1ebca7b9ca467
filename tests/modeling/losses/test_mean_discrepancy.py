"""Class-specific maximum mean discrepancy.

Oracles: a loop from the formula over all pairs; the distance of second moments, which the kernel
stands for; arithmetic by hand.
"""

from typing import Callable

import pytest
import torch
from torch import Tensor

from vireid_plugins import Modality
from vireid_plugins.modeling.losses import MeanDiscrepancyLoss


def rows_of(batch: dict, target: int, modality: Modality) -> Tensor:
    rows = (batch["targets"] == target) & (batch["modalities"] == modality)
    return batch["features"][rows]


def mean_kernel(first: Tensor, second: Tensor) -> float:
    values = []
    for a in first.tolist():
        for b in second.tolist():
            inner = sum(x * y for x, y in zip(a, b))
            lengths = sum(x * x for x in a) * sum(y * y for y in b)
            values.append(inner**2 / lengths)
    return sum(values) / len(values)


def one_modality_less(batch: dict) -> dict:
    """The batch without the infrared rows of one identity."""
    keep = (batch["targets"] != batch["targets"][0]) | (batch["modalities"] == Modality.VISIBLE)
    return {name: values[keep] for name, values in batch.items()}


def evaluate(batch: dict) -> Tensor:
    return MeanDiscrepancyLoss()(batch["features"], batch["targets"], batch["modalities"])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ragged", [True, False])
def test_equals_the_loop(seed: int, ragged: bool, make_batch: Callable) -> None:
    batch = one_modality_less(make_batch(seed, ragged=ragged))
    found = []
    for target in batch["targets"].unique().tolist():
        v, t = (rows_of(batch, target, modality) for modality in Modality)
        if min(len(v), len(t)):
            found.append(mean_kernel(v, v) + mean_kernel(t, t) - 2 * mean_kernel(v, t))
    assert len(found) == 3 and min(found) > 0
    assert float(evaluate(batch)) == pytest.approx(sum(found) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_is_the_distance_of_second_moments(seed: int, make_batch: Callable) -> None:
    batch = make_batch(seed)
    found = []
    for target in batch["targets"].unique().tolist():
        moments = []
        for modality in Modality:
            rows = rows_of(batch, target, modality)
            rows = rows / rows.norm(dim=1, keepdim=True)
            moments.append(rows.T @ rows / len(rows))
        found.append((moments[0] - moments[1]).square().sum())
    torch.testing.assert_close(evaluate(batch), torch.stack(found).mean())


def test_by_hand() -> None:
    # Identity 3: visible (1, 0) and (0, 2), infrared (3, 0). Kernels: visible with visible 1, 0, 0,
    # 1: mean 1/2; infrared 1; across 1, 0: mean 1/2. 1/2 + 1 - 2 * 1/2 = 1/2.
    # Identity 8: visible (1, 1), infrared (0, 5): 1 + 1 - 2 * (1/sqrt(2))^2 = 1.
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [1.0, 1.0], [0.0, 5.0]])
    targets, modalities = torch.tensor([3, 3, 3, 8, 8]), torch.tensor([0, 0, 1, 0, 1])
    value = MeanDiscrepancyLoss()(features, targets, modalities)
    assert float(value) == pytest.approx((0.5 + 1.0) / 2)


def test_the_largest_value_is_two() -> None:
    features = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    value = MeanDiscrepancyLoss()(features, torch.tensor([4, 4, 4]), torch.tensor([0, 0, 1]))
    assert float(value) == pytest.approx(2.0)


@pytest.mark.parametrize("seed", range(3))
def test_invariances(seed: int, make_batch: Callable) -> None:
    """Lengths of rows, their signs, a reflection, and exchanged modalities change nothing."""
    batch = make_batch(seed)
    value = evaluate(batch)
    features = batch["features"]
    factors = torch.linspace(-2.0, 3.0, len(features), dtype=torch.float64).unsqueeze(1)
    normal = features[:1] / features[0].norm()
    for other in (factors * features, features - 2 * (features @ normal.T) * normal):
        torch.testing.assert_close(evaluate({**batch, "features": other}), value)
    torch.testing.assert_close(evaluate({**batch, "modalities": 1 - batch["modalities"]}), value)
    torch.testing.assert_close(evaluate({**batch, "targets": 50 - batch["targets"]}), value)


def test_repeated_rows_do_not_count_more_than_their_share(make_batch: Callable) -> None:
    """Every row of one modality twice: the same means."""
    batch = make_batch(4)
    again = batch["modalities"] == Modality.INFRARED
    twice = {name: torch.cat((values, values[again])) for name, values in batch.items()}
    torch.testing.assert_close(evaluate(twice), evaluate(batch))


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_equal_modalities_give_zero_with_a_finite_gradient(fill: float) -> None:
    features = torch.full((8, 3), fill, dtype=torch.float64, requires_grad=True)
    targets, modalities = torch.arange(4).repeat(2), torch.arange(2).repeat_interleave(4)
    value = MeanDiscrepancyLoss()(features, targets, modalities)
    value.backward()
    assert abs(float(value)) < 1e-15 and features.grad.abs().max() < 1e-9


def test_equal_sets_in_another_order_give_zero(make_batch: Callable) -> None:
    rows = make_batch(5)["features"][:6]
    features = torch.cat((rows, rows[[2, 0, 1, 5, 3, 4]]))
    targets, modalities = torch.tensor([1, 1, 1, 2, 2, 2] * 2), torch.tensor([0] * 6 + [1] * 6)
    assert abs(float(MeanDiscrepancyLoss()(features, targets, modalities))) < 1e-14


def test_the_feature_is_chosen_and_mistakes_are_named(make_batch: Callable) -> None:
    batch = make_batch(1)
    assert MeanDiscrepancyLoss().inputs == ("bn_features", "targets", "modalities")
    assert MeanDiscrepancyLoss("features").inputs == ("features", "targets", "modalities")
    with pytest.raises(ValueError, match="feature is 'logits'; expected 'features' or"):
        MeanDiscrepancyLoss(feature="logits")
    with pytest.raises(ValueError, match="MeanDiscrepancyLoss needs modalities.*got None"):
        MeanDiscrepancyLoss()(batch["features"], batch["targets"])
    with pytest.raises(ValueError, match="modalities must be 0 .*got .*2"):
        MeanDiscrepancyLoss()(batch["features"], batch["targets"], batch["modalities"] * 2)
