"""MSCLNet's losses on pairs. Oracles: loops from Eq. (3), (6), (7), and arithmetic by hand."""

import math

import pytest
import torch

from vireid_plugins.modeling.losses import (
    DiversityLoss,
    GlobalComplementLoss,
    LocalComplementLoss,
)

DOUBLE = {"dtype": torch.float64}


def softmax(scores):
    total = sum(math.exp(s) for s in scores)
    return [math.exp(s) / total for s in scores]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


# ---------------------------------------------------------------------------- L_div, Eq. (3)


@pytest.mark.parametrize("clamp", [0.0, 1.0, 5.0])
def test_diversity_equals_the_loop(clamp):
    visible, infrared = 2 * torch.randn(2, 7, 4, **DOUBLE)
    terms = [
        divergence(softmax(v), softmax(r)) for v, r in zip(visible.tolist(), infrared.tolist())
    ]
    assert max(terms) > 1 > min(terms)
    kept = [min(t, clamp) if clamp else t for t in terms]
    assert float(DiversityLoss(clamp)(visible, infrared)) == pytest.approx(-sum(kept) / 7)


def test_diversity_by_hand():
    # (3/4, 1/4) against (1/4, 3/4): 3/4 ln 3 - 1/4 ln 3 = ln(3) / 2, whatever is added to scores.
    visible, infrared = torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[5.0, 5 + math.log(3)]])
    assert float(DiversityLoss()(visible, infrared)) == pytest.approx(-math.log(3) / 2)
    assert float(DiversityLoss()(visible, visible)) == 0.0


def test_diversity_has_a_bound_and_no_gradient_beyond_it():
    """Printed, it falls without end as the distributions part."""
    visible = torch.tensor([[50.0, 0.0], [1.0, 0.0]], requires_grad=True)
    infrared = torch.tensor([[-50.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = DiversityLoss(clamp=5.0)(visible, infrared)
    loss.backward()
    assert -5 / 2 - 1 < loss < -5 / 2
    assert not visible.grad[0].any() and not infrared.grad[0].any()
    assert visible.grad[1].abs().min() > 0 and infrared.grad[1].abs().min() > 0
    assert float(DiversityLoss(clamp=0.0)(visible, infrared).detach()) < -24


# -------------------------------------------------------------------------- L_local, Eq. (6)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)))


def test_local_equals_the_loop():
    """As printed: the mean over pairs of the sum over parts; then the form that attracts."""
    visible, synergy = torch.randn(2, 5, 3, 4, **DOUBLE)
    printed = attracting = 0.0
    for parts_v, parts_s in zip(visible.tolist(), synergy.tolist()):
        for b_v, b_s in zip(parts_v, parts_s):
            cos = cosine(b_v, b_s)
            printed += (cos + math.sqrt(2 - 2 * cos)) / 5
            attracting += (1 - cos + math.sqrt(2 - 2 * cos + 1e-6)) / 5
    assert float(LocalComplementLoss(literal=True)(visible, synergy)) == pytest.approx(printed)
    assert float(LocalComplementLoss()(visible, synergy)) == pytest.approx(attracting)


def at(cos, literal, part=None):
    """The loss of one pair at this cosine, and its derivative by the angle of the second."""
    angle = torch.tensor(math.acos(cos), requires_grad=True, **DOUBLE)
    first = torch.tensor([[[2.0, 0.0]]], **DOUBLE)
    second = 3 * torch.stack([angle.cos(), angle.sin()]).view(1, 1, 2)
    value = LocalComplementLoss(literal)(first, second)
    value.backward()
    return float(value.detach()), float(angle.grad)


def test_local_by_hand():
    # cos 1/2: sqrt(2 - 1) = 1, so 1/2 + 1 in both forms; cos 0: sqrt 2; cos -1: 2.
    expected = {0.5: (1.5, 1.5), 0.0: (math.sqrt(2), 1 + math.sqrt(2)), -1.0: (1.0, 4.0)}
    for cos, (printed, attracting) in expected.items():
        assert at(cos, True)[0] == pytest.approx(printed)
        assert at(cos, False)[0] == pytest.approx(attracting, abs=1e-5)


def test_the_printed_sign_drives_apart_below_one_half():
    """Why it is not the default: there a smaller angle is a larger loss."""
    for cos in (0.4, 0.0, -0.7):
        assert at(cos, literal=True)[1] < 0 < at(cos, literal=False)[1]
    for cos in (0.6, 0.9):
        assert at(cos, literal=True)[1] > 0 and at(cos, literal=False)[1] > 0


@pytest.mark.parametrize("literal", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_equal_parts_have_a_finite_gradient(literal, scale):
    """cos = 1, where the root has an infinite slope and rounding may make 2 - 2 cos negative."""
    visible = torch.rand(3, 2, 64).requires_grad_()
    synergy = (scale * visible.detach()).requires_grad_()
    value = LocalComplementLoss(literal)(visible, synergy)
    value.backward()
    assert value.isfinite() and visible.grad.isfinite().all()
    assert synergy.grad.abs().max() < 1e7  # also of parts of length 0
    if scale:
        assert float(value.detach()) == pytest.approx(2 if literal else 2e-3, rel=1e-2)


@pytest.mark.parametrize("literal", [False, True])
def test_gradient_of_local(literal):
    parts = torch.randn(2, 2, 2, 3, requires_grad=True, **DOUBLE)
    assert torch.autograd.gradcheck(lambda x: LocalComplementLoss(literal)(*x), parts)


# ------------------------------------------------------------------------- L_global, Eq. (7)


@pytest.mark.parametrize("normalise", [True, False])
def test_global_equals_the_loop(normalise):
    """Identities in no order; 7 has infrared rows and no synergy feature."""
    synergy, infrared = torch.randn(6, 4, **DOUBLE), 3 * torch.randn(5, 4, **DOUBLE)
    of_synergy, of_infrared = torch.tensor([5, 2, 5, 5, 2, 9]), torch.tensor([9, 2, 7, 5, 2])
    s, r = ([x / x.norm() if normalise else x for x in rows] for rows in (synergy, infrared))
    expected = 0.0
    for target in of_synergy.tolist():
        own_s = [x for x, t in zip(s, of_synergy.tolist()) if t == target]
        own_r = [x for x, t in zip(r, of_infrared.tolist()) if t == target]
        difference = sum(own_s) / len(own_s) - sum(own_r) / len(own_r)
        expected += float(difference.pow(2).sum()) / 6
    loss = GlobalComplementLoss(normalise)
    assert float(loss(synergy, of_synergy, infrared, of_infrared)) == pytest.approx(expected)


def test_global_by_hand():
    # C^s (3, 0) of (1, 0) and (5, 0), C^r (0, 4): 25. Unit vectors: (1, 0) and (0, 1): 2.
    synergy, infrared = torch.tensor([[1.0, 0.0], [5.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    labels = torch.tensor([3, 3]), infrared, torch.tensor([3])
    assert float(GlobalComplementLoss(normalise=False)(synergy, *labels)) == 25.0
    assert float(GlobalComplementLoss()(synergy, *labels)) == 2.0


def test_equal_centers_have_a_zero_gradient():
    synergy = torch.ones(2, 3, requires_grad=True)
    labels = torch.tensor([0, 0])
    GlobalComplementLoss()(synergy, labels, torch.ones(2, 3), labels).backward()
    assert synergy.grad.isfinite().all() and synergy.grad.abs().max() < 1e-6


# ------------------------------------------------------------------------------------ all


def calls(dtype=torch.float32, rows=6):
    """Each loss with its tensors, of which the first two need a gradient."""
    labels = torch.arange(rows) % 3

    def tensor(*shape):
        return (20 * torch.randn(rows, *shape)).to(dtype).requires_grad_()

    yield DiversityLoss(), (tensor(5), tensor(5)), lambda a, b: (a, b)
    yield LocalComplementLoss(), (tensor(2, 5), tensor(2, 5)), lambda a, b: (a, b)
    yield GlobalComplementLoss(), (tensor(5), tensor(5)), lambda a, b: (a, labels, b, labels)


def test_pairs_have_no_order():
    for loss, tensors, arguments in calls():
        rows = torch.randperm(6)
        shuffled = [t[rows] if t.shape[:1] == (6,) else t for t in arguments(*tensors)]
        torch.testing.assert_close(loss(*shuffled), loss(*arguments(*tensors)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    for loss, tensors, arguments in calls(dtype):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(*arguments(*tensors))
        raised = loss(*arguments(*(t.float() for t in tensors)))
        assert value.dtype is torch.float32 and torch.equal(value, raised)
        value.backward()
        assert all(t.grad.dtype == dtype and t.grad.isfinite().all() for t in tensors)


def test_without_a_pair_each_is_a_zero_in_the_graph():
    for loss, tensors, arguments in calls(rows=0):
        value = loss(*arguments(*tensors))
        value.backward()
        assert value == 0 and all(t.grad is not None for t in tensors)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="DiversityLoss: clamp is -1.0; expected 0 or more"):
        DiversityLoss(-1.0)
    with pytest.raises(ValueError, match=r"DiversityLoss compares .* got \(2, 3\) and \(1, 3\)"):
        DiversityLoss()(torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="LocalComplementLoss compares"):
        LocalComplementLoss()(torch.zeros(2, 6, 3), torch.zeros(2, 3, 3))
    zero = torch.tensor([0])
    with pytest.raises(ValueError, match=r"one of infrared_targets; got \[0\] and \[1\]"):
        GlobalComplementLoss()(torch.zeros(1, 3), zero, torch.zeros(1, 3), zero + 1)
    with pytest.raises(ValueError, match="BNNeckHead, EMBEDDING_DIM 0"):
        GlobalComplementLoss()(torch.zeros(1, 3), zero, torch.zeros(1, 4), zero)
