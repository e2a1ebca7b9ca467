"""Correlation consistency. Oracles: loops from the formula, and arithmetic by hand."""

import itertools
from typing import Callable, Dict, List, Tuple

import pytest
import torch
from torch import Tensor

from vireid_plugins import Modality
from vireid_plugins.modeling.losses import CorrelationConsistencyLoss

FORMS = list(itertools.product(["matrix", "row"], ["frobenius", "mse"]))


def compare(visible: List[Tensor], infrared: List[Tensor], norm: str, reduction: str) -> float:
    """The formula on two lists of paired rows, entry by entry."""
    grams = []
    for rows in (visible, infrared):
        gram = [[float(a @ b) for b in rows] for a in rows]
        lengths = [sum(entry**2 for entry in row) ** 0.5 for row in gram]
        if norm == "matrix":
            lengths = [sum(length**2 for length in lengths) ** 0.5] * len(rows)
        grams.append([[entry / length for entry in row] for row, length in zip(gram, lengths)])
    squares = [(a - b) ** 2 for row_v, row_i in zip(*grams) for a, b in zip(row_v, row_i)]
    return sum(squares) ** 0.5 if reduction == "frobenius" else sum(squares) / len(squares)


def rows_of(batch: Dict[str, Tensor], target: int, modality: Modality) -> Tensor:
    return torch.nonzero((batch["targets"] == target) & (batch["modalities"] == modality))[:, 0]


def paired(batch: Dict[str, Tensor], level: str) -> Tuple[List[Tensor], List[Tensor]]:
    pair = ([], [])
    for target in sorted(batch["targets"].unique().tolist()):
        rows = [rows_of(batch, target, modality) for modality in Modality]
        if min(map(len, rows)) == 0:
            continue
        for side, own in zip(pair, rows):
            if level == "identity":
                side.append(batch["features"][own].mean(dim=0))
            else:
                own = sorted(own.tolist(), key=lambda row: int(batch["index"][row]))
                side.extend(batch["features"][row] for row in own)
    return pair


@pytest.mark.parametrize("norm, reduction", FORMS)
@pytest.mark.parametrize("level", ["identity", "image"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop(
    norm: str, reduction: str, level: str, seed: int, make_batch: Callable
) -> None:
    batch = make_batch(seed, identities=3, most=3, ragged=level == "identity")
    # One identity is seen by visible cameras only and is left out.
    keep = (batch["targets"] != batch["targets"][0]) | (batch["modalities"] == Modality.VISIBLE)
    batch = {name: values[keep] for name, values in batch.items()}
    loss = CorrelationConsistencyLoss(norm, reduction, level)
    value = loss(*(batch[name] for name in loss.inputs))
    expected = compare(*paired(batch, level), norm, reduction)
    assert expected > 0 and float(value) == pytest.approx(expected)


def test_by_hand() -> None:
    # Visible (1,0), (0,1): Gram matrix I, norm sqrt(2). Infrared (1,0), (1,0): all ones, norm 2.
    # Diagonal: (1/sqrt(2) - 1/2)^2 = 3/4 - 1/sqrt(2), off it: 1/4; two of each.
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    targets, modalities = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    squares = 2 * (0.75 - 0.5**0.5) + 2 * 0.25
    value = CorrelationConsistencyLoss()(features, targets, modalities)
    assert float(value) == pytest.approx(squares**0.5)
    value = CorrelationConsistencyLoss(reduction="mse")(features, targets, modalities)
    assert float(value) == pytest.approx(squares / 4)


@pytest.mark.parametrize("norm, reduction", FORMS)
@pytest.mark.parametrize("level", ["identity", "image"])
def test_gradient(norm: str, reduction: str, level: str, make_batch: Callable) -> None:
    batch = make_batch(2, identities=3, most=2, ragged=False)
    loss = CorrelationConsistencyLoss(norm, reduction, level)
    others = [batch[name] for name in loss.inputs[1:]]
    features = batch["features"].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, *others), features)


@pytest.mark.parametrize("norm, reduction", FORMS)
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_equal_modalities_give_zero_with_a_finite_gradient(
    norm: str, reduction: str, fill: float
) -> None:
    features = torch.full((8, 3), fill, requires_grad=True)
    targets, modalities = torch.arange(4).repeat(2), torch.arange(2).repeat_interleave(4)
    value = CorrelationConsistencyLoss(norm, reduction)(features, targets, modalities)
    value.backward()
    assert float(value) == 0 and torch.equal(features.grad, torch.zeros(8, 3))


def test_image_level_ignores_the_order_of_rows_of_one_index(make_batch: Callable) -> None:
    batch = make_batch(3, ragged=False)
    batch["index"] = torch.zeros_like(batch["index"])
    loss = CorrelationConsistencyLoss(level="image")
    order = torch.randperm(len(batch["index"]))
    value = loss(*(batch[name] for name in loss.inputs))
    shuffled = loss(*(batch[name][order] for name in loss.inputs))
    torch.testing.assert_close(shuffled, value)


def test_image_level_refuses_unequal_counts_and_a_missing_index(make_batch: Callable) -> None:
    loss = CorrelationConsistencyLoss(level="image")
    assert loss.inputs == ("features", "targets", "modalities", "index")
    assert CorrelationConsistencyLoss().inputs == ("features", "targets", "modalities")
    features = torch.zeros(3, 2)
    targets, modalities = torch.tensor([5, 5, 5]), torch.tensor([0, 0, 1])
    with pytest.raises(ValueError, match=r"visible \{5: 2\} and infrared \{5: 1\}"):
        loss(features, targets, modalities, torch.arange(3))
    with pytest.raises(ValueError, match=r"level='image'\) needs index"):
        loss(features, targets, modalities)
    with pytest.raises(ValueError, match="level is 'row'; expected 'identity' or 'image'"):
        CorrelationConsistencyLoss(level="row")
