"""The weighted-triplet family.

Oracles: loops from the formulas, arithmetic by hand, and for ``legacy_weights`` the host's
function and the public code's formula.
"""

import math
from typing import Callable, Dict, List

import pytest
import torch
from torch import Tensor

from vireid_plugins.modeling.losses import WeightedTripletLoss

from fastreid.modeling.losses import triplet_loss

REDUCE: Dict[str, Callable[[float, float, float], float]] = {
    "softplus": lambda mu, gamma, margin: math.log1p(math.exp(gamma * mu)),
    "hinge": lambda mu, gamma, margin: max(0.0, gamma * mu + margin),
    "signed_square": lambda mu, gamma, margin: math.log1p(
        math.exp(math.copysign(min(gamma * mu * mu, 88.0), mu))
    ),
}


def softmax(values: List[float]) -> List[float]:
    top = max(values)
    powers = [math.exp(value - top) for value in values]
    return [power / sum(powers) for power in powers]


def by_loop(features: Tensor, targets: Tensor, alpha: float) -> List[float]:
    """The difference mu of each anchor that has a positive and a negative."""
    differences = []
    for a in range(len(features)):
        others = [b for b in range(len(features)) if b != a]
        distance = {b: float((features[a] - features[b]).pow(2).sum()) ** 0.5 for b in others}
        positives = [distance[b] for b in others if targets[b] == targets[a]]
        negatives = [distance[b] for b in others if targets[b] != targets[a]]
        if not positives or not negatives:
            continue
        pull = sum(w * d for w, d in zip(softmax([alpha * d for d in positives]), positives))
        push = sum(w * d for w, d in zip(softmax([-alpha * d for d in negatives]), negatives))
        differences.append(pull - push)
    return differences


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reduction", sorted(REDUCE))
@pytest.mark.parametrize("margin, alpha, gamma", [(1.0, 1.0, 1.0), (0.4, 2.5, 0.7)])
def test_equals_the_loop(
    seed: int, reduction: str, margin: float, alpha: float, gamma: float, make_batch: Callable
) -> None:
    batch = make_batch(seed, identities=2 + seed, scale=2.0, spread=1.3)
    loss = WeightedTripletLoss(reduction, margin, alpha, gamma)
    value = loss(batch["features"], batch["targets"])
    differences = by_loop(batch["features"], batch["targets"], alpha)
    terms = [REDUCE[reduction](difference, gamma, margin) for difference in differences]
    assert float(value) == pytest.approx(sum(terms) / len(terms), rel=1e-7)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("reduction", sorted(REDUCE))
def test_gradient_of_each_reduction(reduction: str, legacy: bool, make_batch: Callable) -> None:
    batch = make_batch(1, identities=3, most=2)
    loss = WeightedTripletLoss(reduction, alpha=1.5, gamma=0.8, legacy_weights=legacy)
    features = batch["features"].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, batch["targets"]), features)


LINE = torch.tensor([[0.0], [1.0], [100.0], [103.0]], dtype=torch.float64)
PAIRS = torch.tensor([0, 0, 1, 1])


def test_by_hand_at_large_distances() -> None:
    # Each anchor has one positive; its two negatives differ by 3 (rows 0, 1) or 1 (rows 2, 3):
    # row 0: 1 - (100 + 103 e^-3) / (1 + e^-3), row 1: 1 - (99 + 102 e^-3) / (1 + e^-3),
    # row 2: 3 - (99 + 100 e^-1) / (1 + e^-1), row 3: 3 - (102 + 103 e^-1) / (1 + e^-1).
    near, far = math.exp(-3), math.exp(-1)
    differences = [
        1 - (100 + 103 * near) / (1 + near),
        1 - (99 + 102 * near) / (1 + near),
        3 - (99 + 100 * far) / (1 + far),
        3 - (102 + 103 * far) / (1 + far),
    ]
    value = WeightedTripletLoss("hinge", margin=200.0)(LINE, PAIRS)
    assert float(value) == pytest.approx(sum(200 + mu for mu in differences) / 4)


def test_legacy_weights_lose_the_negatives_at_large_distances() -> None:
    # The legacy negative weights are about e^-100 / 1e-6: the negatives count as distance 0.
    # Each anchor counts itself as a positive at distance 0: pull is 1 / (1 + e^-1) for rows 0
    # and 1, 3 / (1 + e^-3) for rows 2 and 3.
    pulls = [1 / (1 + math.exp(-1))] * 2 + [3 / (1 + math.exp(-3))] * 2
    value = WeightedTripletLoss("hinge", margin=200.0, legacy_weights=True)(LINE, PAIRS)
    assert float(value) == pytest.approx(200 + sum(pulls) / 4, abs=1e-4)


def test_signed_square_keeps_the_sign() -> None:
    # Every anchor has its positive at 1 and both negatives at 2 (equal weights): mu = -1.
    # Rows 0, 1 and rows 2, 3 are opposite edges of a tetrahedron: 0.5^2 + 0.5^2 + 3.5 = 2^2.
    features = torch.tensor(
        [[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, -0.5, 0.0], [0.0, 0.5, 0.0]], dtype=torch.float64
    )
    features[2:, 2] = math.sqrt(3.5)
    value = WeightedTripletLoss("signed_square")(features, PAIRS)
    assert float(value) == pytest.approx(math.log1p(math.exp(-1.0)))


def test_signed_square_at_zero_and_beyond_its_limit() -> None:
    # Rows 0 and 1, and rows 2 and 3, are 1 apart; all other distances are 1, too: mu = 0.
    tetrahedron = torch.eye(4, dtype=torch.float64) / math.sqrt(2.0)
    value = WeightedTripletLoss("signed_square")(tetrahedron, PAIRS)
    assert float(value) == pytest.approx(math.log(2.0))
    # mu = 40 - 10 = 30 at least for every anchor: 30^2 is clipped at 88.
    far_apart = torch.tensor([[0.0, 0.0], [40.0, 0.0], [0.0, 10.0], [40.0, 10.0]])
    value = WeightedTripletLoss("signed_square")(far_apart, PAIRS)
    assert float(value) == pytest.approx(88.0)


def test_the_gradient_of_the_signed_square_by_hand() -> None:
    # Positions 0, 1 and 3, 5 on a line; alpha 0 weights all pairs of an anchor alike.
    # mu: 1 - (3 + 5) / 2 = -3, 1 - (2 + 4) / 2 = -2, 2 - (3 + 2) / 2 = -0.5, 2 - 9 / 2 = -2.5.
    # Moving the first row by +1 changes them by -1 + 1 = 0, -1, +1/2 and +1/2.
    # The slope of log(1 + exp(-mu^2)) by mu is 2 |mu| sigmoid(-mu^2).
    line = torch.tensor([[0.0], [1.0], [3.0], [5.0]], dtype=torch.float64, requires_grad=True)
    WeightedTripletLoss("signed_square", alpha=0.0)(line, PAIRS).backward()
    slopes = [2 * mu / (1 + math.exp(mu**2)) for mu in (3.0, 2.0, 0.5, 2.5)]
    changes = [0.0, -1.0, 0.5, 0.5]
    expected = sum(slope * change for slope, change in zip(slopes, changes)) / 4
    assert line.grad is not None
    assert float(line.grad[0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mu", "softplus", "signed_square"),
    [
        (0.0, 0.5, 0.0),  # sigmoid(0), and 2 * 0 * sigmoid(0)
        (0.1, 0.52498, 0.10050),  # sigmoid(0.1); 0.2 sigmoid(0.01)
        (-0.1, 0.47502, 0.09950),
        (3.0, 0.95257, 5.99926),  # sigmoid(3); 6 sigmoid(9)
        (9.0, 0.99988, 18.0),
        (10.0, 0.99995, 0.0),  # mu^2 is above 88
    ],
)
def test_the_slope_by_mu(mu: float, softplus: float, signed_square: float) -> None:
    """The signed square has none at 0, much between, and none beyond its limit."""
    # The anchors (-12, 0) and (12, 0) are 24 apart; the only negative, (0, h), is d from both.
    # So mu = 24 - d, and moving h changes it by -h / d.
    d = 24 - mu
    h = math.sqrt(d**2 - 144)
    for name, expected in (("softplus", softplus), ("signed_square", signed_square)):
        rows = torch.tensor([[-12.0, 0.0], [12.0, 0.0], [0.0, h]], dtype=torch.float64)
        rows.requires_grad_()
        WeightedTripletLoss(name)(rows, torch.tensor([0, 0, 1])).backward()
        assert rows.grad is not None
        assert float(-rows.grad[2, 1] * d / h) == pytest.approx(expected, abs=1e-5)


def test_at_mu_zero_only_softplus_moves_the_features() -> None:
    """All distances of the tetrahedron are 1: every anchor has mu = 0."""
    found = {}
    for name in ("softplus", "signed_square"):
        tetrahedron = (torch.eye(4, dtype=torch.float64) / math.sqrt(2.0)).requires_grad_()
        WeightedTripletLoss(name)(tetrahedron, PAIRS).backward()
        assert tetrahedron.grad is not None
        found[name] = float(tetrahedron.grad.norm())
    assert found["signed_square"] == pytest.approx(0.0, abs=1e-12)
    assert found["softplus"] > 0.3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_legacy_weights_equal_the_host(seed: int, scale: float, make_batch: Callable) -> None:
    batch = make_batch(seed, identities=3, scale=scale)
    features, targets = batch["features"].requires_grad_(), batch["targets"]
    cases = [("softplus", 0.0), ("hinge", 0.3)]  # the host's margin 0 means the soft margin
    for reduction, margin in cases:
        loss = WeightedTripletLoss(reduction, margin=margin, legacy_weights=True)
        value = loss(features, targets)
        expected = triplet_loss(features, targets, margin, norm_feat=False, hard_mining=False)
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-9)
        (gradient,) = torch.autograd.grad(value, features)
        (expected_gradient,) = torch.autograd.grad(expected, features)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


def test_unknown_reduction_is_refused() -> None:
    with pytest.raises(
        ValueError, match="reduction is 'soft'; expected one of 'softplus', 'hinge'"
    ):
        WeightedTripletLoss("soft")
