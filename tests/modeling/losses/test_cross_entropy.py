"""Label-smoothed cross-entropy. Oracles: a loop from the formula, and arithmetic by hand."""

import math
from typing import Callable

import pytest
import torch

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
    with pytest.raises(ValueError, match=r"smoothing must be in \[0, 1\)"):
        LabelSmoothingCrossEntropyLoss(smoothing)
