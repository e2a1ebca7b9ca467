"""MAUM's unidirectional metric.

Oracles: the printed double sum as loops, in Python's exact arithmetic where floats overflow;
arithmetic by hand; finite differences.
"""

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.modeling.losses import UnidirectionalMetricLoss


def log_one_plus_sum(exponents):
    """log(1 + sum of exp(e)) of floats of any size: the largest is taken out exactly."""
    top = max([Fraction(0), *map(Fraction, exponents)])
    return float(top) + math.log(
        math.fsum(math.exp(float(Fraction(e) - top)) for e in [0, *exponents])
    )


def by_loops(x, targets, proxies, alpha, delta, reduction="sum"):
    """The printed formula: all pairs of a stored negative and a stored positive."""
    total, snapshots = 0.0, len(proxies)
    for feature, y in zip(x, targets.tolist()):
        feature = [float(f) for f in feature / feature.norm()]
        score = [
            [math.fsum(p * f for p, f in zip(row, feature)) for row in table]
            for table in proxies.tolist()
        ]
        positives = [table[y] for table in score]
        negatives = [s for table in score for c, s in enumerate(table) if c != y]
        terms = [alpha * (v - u + delta) for v in negatives for u in positives]
        if reduction == "mean":  # both sums become means over the snapshots
            terms = [t - 2 * math.log(snapshots) for t in terms]
        total += log_one_plus_sum(terms)
    return total / len(x)


def draw(seed, rows=5, snapshots=3, identities=4, dim=6):
    generator = torch.Generator().manual_seed(seed)
    normal = {"generator": generator, "dtype": torch.float64}
    x = 3 * torch.randn(rows, dim, **normal)
    proxies = F.normalize(torch.randn(snapshots, identities, dim, **normal), dim=2)
    return x, torch.randint(0, identities, (rows,), generator=generator), proxies


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("alpha,delta", [(1.0, 0.0), (64.0, 0.1), (16.0, -0.5)])
def test_equals_the_printed_double_sum(seed, reduction, alpha, delta):
    x, targets, proxies = draw(seed)
    expected = by_loops(x, targets, proxies, alpha, delta, reduction)
    loss = UnidirectionalMetricLoss(alpha, delta, reduction)
    assert float(loss(x, targets, proxies)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("alpha,delta", [(1e4, 0.1), (1e4, -3.0), (64.0, 50.0), (1e-3, 0.1)])
def test_equals_it_where_the_exponentials_over_and_underflow(alpha, delta):
    """exp(1e4) is inf and exp(-3e4) is 0 in any float; the value and its gradient are neither."""
    x, targets, proxies = draw(3)
    expected = by_loops(x, targets, proxies, alpha, delta)
    x.requires_grad_()
    value = UnidirectionalMetricLoss(alpha, delta)(x, targets, proxies)
    assert float(value.detach()) == pytest.approx(expected, rel=1e-12, abs=1e-300)
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.isfinite().all()


def test_by_hand():
    """Two identities along the axes, one snapshot, a feature at 45 degrees and one on its proxy."""
    proxies = torch.eye(2).unsqueeze(0)
    loss = UnidirectionalMetricLoss(alpha=2.0, delta=0.5)
    at_45 = loss(torch.tensor([[3.0, 3.0]]), torch.tensor([0]), proxies)
    assert float(at_45) == pytest.approx(math.log(1 + math.e))  # v.x = u.x, so exp(2 * 0.5)
    on_it = loss(torch.tensor([[0.0, 7.0]]), torch.tensor([1]), proxies)
    assert float(on_it) == pytest.approx(math.log(1 + math.exp(2 * (0 - 1 + 0.5))))


def test_a_mean_over_equal_snapshots_is_one_snapshot_and_a_sum_is_a_margin():
    """2 log S inside the logarithm is a margin of 2 log(S) / alpha."""
    x, targets, proxies = draw(5, snapshots=1)
    alpha, copies = 4.0, proxies.expand(5, -1, -1)
    one = UnidirectionalMetricLoss(alpha, 0.1)(x, targets, proxies)
    mean = UnidirectionalMetricLoss(alpha, 0.1, "mean")(x, targets, copies)
    torch.testing.assert_close(mean, one)
    wider = UnidirectionalMetricLoss(alpha, 0.1 + 2 * math.log(5) / alpha)(x, targets, proxies)
    summed = UnidirectionalMetricLoss(alpha, 0.1)(x, targets, copies)
    torch.testing.assert_close(summed, wider)
    assert summed > one


def test_the_hardest_positive_is_pulled_most():
    """The stored positive farthest from the feature has the largest share of the gradient."""
    x = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    near, far = [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]
    other = [-1.0, 0.0, 0.0]
    proxies = torch.tensor([[near, other], [far, other]], dtype=torch.float64)
    UnidirectionalMetricLoss(16.0, 1.0)(x, torch.tensor([0]), proxies).backward()
    step = -x.grad[0]
    assert step[2] > 1000 * step[1] > 0


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_gradient_is_that_of_the_value(reduction):
    """The scale 4 keeps finite differences in reach."""
    x, targets, proxies = draw(6)
    loss = UnidirectionalMetricLoss(4.0, 0.1, reduction)
    assert torch.autograd.gradcheck(lambda f: loss(f, targets, proxies), x.requires_grad_())


def test_only_features_learn():
    x, targets, proxies = draw(7)
    x.requires_grad_()
    proxies.requires_grad_()
    UnidirectionalMetricLoss()(x, targets, proxies).backward()
    assert x.grad.abs().max() > 0 and proxies.grad is None


def test_order_of_rows_and_snapshots_means_nothing():
    x, targets, proxies = draw(8, rows=9)
    loss, rows = UnidirectionalMetricLoss(), torch.randperm(9)
    expected = loss(x, targets, proxies)
    torch.testing.assert_close(loss(x[rows], targets[rows], proxies), expected)
    torch.testing.assert_close(loss(x, targets, proxies[[2, 0, 1]]), expected)


def test_without_a_snapshot_a_negative_or_a_row_it_is_a_zero_in_the_graph():
    x, targets, proxies = draw(9)
    x[0, 0] = torch.inf  # 0 * inf would be NaN
    x.requires_grad_()
    for value in (
        UnidirectionalMetricLoss()(x, targets, proxies[:0]),
        UnidirectionalMetricLoss()(x, torch.zeros_like(targets), proxies[:, :1]),
        UnidirectionalMetricLoss()(x[:0], targets[:0], proxies),
    ):
        (gradient,) = torch.autograd.grad(value, x)
        assert value == 0 and torch.equal(gradient, torch.zeros_like(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, targets, proxies = draw(10)
    x, proxies = (1e3 * x).to(dtype).requires_grad_(), proxies.float()
    expected = UnidirectionalMetricLoss()(x.detach().float(), targets, proxies)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = UnidirectionalMetricLoss()(x, targets, proxies)
    assert value.dtype is torch.float32 and torch.equal(value.detach(), expected)
    (gradient,) = torch.autograd.grad(value, x)
    assert gradient.dtype is dtype and gradient.isfinite().all()


def test_inputs_are_not_mutated():
    x, targets, proxies = draw(11)
    kept = x.clone(), targets.clone(), proxies.clone()
    UnidirectionalMetricLoss()(x, targets, proxies)
    assert all(torch.equal(a, b) for a, b in zip((x, targets, proxies), kept))


def test_bad_arguments_are_named():
    x, targets, proxies = draw(12)
    for alpha, delta in ((0.0, 0.1), (-1.0, 0.1), (math.nan, 0.1), (1.0, math.inf)):
        with pytest.raises(ValueError, match="alpha must be above 0 and delta finite; got"):
            UnidirectionalMetricLoss(alpha, delta)
    with pytest.raises(ValueError, match="reduction must be one of 'sum', 'mean'; got 'max'"):
        UnidirectionalMetricLoss(reduction="max")
    with pytest.raises(ValueError, match=r"proxies \(S, C, d\) with d = 6; got \(3, 4, 5\)"):
        UnidirectionalMetricLoss()(x, targets, proxies[..., :5])
    with pytest.raises(ValueError, match=r"targets \(B,\); got"):
        UnidirectionalMetricLoss()(x, targets[:-1], proxies)
