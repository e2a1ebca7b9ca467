"""Label-smoothed cross-entropy. Oracles: a loop from the formula, and arithmetic by hand."""

import math
from typing import Callable

import pytest
import torch

from vireid_plugins import Modality
from vireid_plugins.modeling.losses import LabelSmoothingCrossEntropyLoss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_equals_the_loop(smoothing: float, make_batch: Callable) -> None:
    batch = make_batch(0)
    total = 0.0
    for logits, target in zip(batch["logits"].tolist(), batch["targets"].tolist()):
        log_sum = math.log(sum(math.exp(logit) for logit in logits))
        for identity, logit in enumerate(logits):
            n = len(logits)
            label = 1 - smoothing * (n - 1) / n if identity == target else smoothing / n
            total -= label * (logit - log_sum)
    value = LabelSmoothingCrossEntropyLoss(smoothing)(batch["logits"], batch["targets"])
    assert float(value) == pytest.approx(total / len(batch["targets"]))


def test_by_hand() -> None:
    # Softmax of (ln 3, 0) is (3/4, 1/4); labels (1 - 0.2/2, 0.2/2).
    logits = torch.tensor([[math.log(3.0), 0.0]])
    expected = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)
    value = LabelSmoothingCrossEntropyLoss(0.2)(logits, torch.tensor([0]))
    assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_is_checked(smoothing: float) -> None:
    with pytest.raises(ValueError, match=f"smoothing is {smoothing}; expected 0 or more, below 1"):
        LabelSmoothingCrossEntropyLoss(smoothing)


def log_probability(logits, target):
    """log softmax(logits)_target, in plain Python."""
    return logits[target] - math.log(sum(math.exp(logit) for logit in logits))


def test_per_modality_equals_the_loop(make_batch: Callable) -> None:
    """(1/n) sum over each modality's own rows, the two added; counts differ here."""
    batch = make_batch(0)
    rows = list(
        zip(batch["logits"].tolist(), batch["targets"].tolist(), batch["modalities"].tolist())
    )
    expected = 0.0
    for modality in Modality:
        own = [-log_probability(x, y) for x, y, m in rows if m == modality]
        expected += sum(own) / len(own)
    counts = batch["modalities"].bincount().tolist()
    assert counts[0] != counts[1]
    loss = LabelSmoothingCrossEntropyLoss(0.0, per_modality=True)
    value = loss(batch["logits"], batch["targets"], batch["modalities"])
    assert float(value) == pytest.approx(expected)


def test_per_modality_by_hand() -> None:
    # Visible: p = 3/4 twice and 1/4 once; infrared: 1/4 once.
    logits = torch.tensor([[math.log(3.0), 0.0]] * 4)
    targets, modalities = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0])
    expected = -(2 * math.log(0.75) + math.log(0.25)) / 3 - math.log(0.25)
    value = LabelSmoothingCrossEntropyLoss(0.0, per_modality=True)(logits, targets, modalities)
    assert float(value) == pytest.approx(expected)


@pytest.mark.parametrize("modality", list(Modality))
def test_an_absent_modality_adds_nothing(modality: Modality, make_batch: Callable) -> None:
    """Then it is the plain mean, also under smoothing."""
    batch = make_batch(1)
    rows = batch["modalities"] == modality
    logits, targets = batch["logits"][rows], batch["targets"][rows]
    plain = LabelSmoothingCrossEntropyLoss(0.1)(logits, targets)
    loss = LabelSmoothingCrossEntropyLoss(0.1, per_modality=True)
    torch.testing.assert_close(loss(logits, targets, batch["modalities"][rows]), plain)


def test_per_modality_asks_for_modalities(make_batch: Callable) -> None:
    """At build time by its inputs, at run time by an error."""
    loss = LabelSmoothingCrossEntropyLoss(per_modality=True)
    assert loss.inputs == ("logits", "targets", "modalities")
    assert LabelSmoothingCrossEntropyLoss().inputs == ("logits", "targets")
    batch = make_batch(0)
    with pytest.raises(ValueError, match="needs modalities"):
        loss(batch["logits"], batch["targets"])
