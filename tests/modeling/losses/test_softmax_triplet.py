"""Softmax-triplet loss, hard and soft. Oracles: loops from the formula, values of the public code.

The values are those of ``SoftTripletLoss`` of yxgeee/MMT, commit 057e1ea, ``mmt/loss/triplet.py``,
run once on the rows below.
"""

import math

import pytest
import torch

from vireid_plugins.modeling.losses import SoftmaxTripletLoss
from vireid_plugins.modeling.losses.softmax_triplet import soft_softmax_triplet

TARGETS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])


def wave(rows, columns, phase):
    """Rows that need no random generator."""
    n = torch.arange(rows * columns, dtype=torch.float64).view(rows, columns)
    return torch.sin(n * n * 0.37 + phase).float()


FEATURES = [wave(8, 5, phase) for phase in (0.5, 1.9, 2.7, 4.0)]  # students 1, 2, teachers 1, 2


def triplets(features, targets):
    """Farthest positive and nearest negative of each anchor that has both."""
    for a, own in enumerate(targets):
        distance = [math.dist(features[a].tolist(), row.tolist()) for row in features]
        positives = [i for i, t in enumerate(targets) if t == own and i != a]
        negatives = [i for i, t in enumerate(targets) if t != own]
        if positives and negatives:
            far = max(positives, key=distance.__getitem__)
            near = min(negatives, key=distance.__getitem__)
            yield a, far, near


def share(features, a, far, near):
    """T of a triplet."""
    positive, negative = (
        math.exp(math.dist(features[a].tolist(), features[i].tolist())) for i in (far, near)
    )
    return negative / (positive + negative)


@pytest.mark.parametrize("targets", [TARGETS, torch.tensor([0, 1, 1, 1, 2, 2, 5, 2])])
def test_both_equal_loops_from_their_formulas(targets):
    own, other = FEATURES[0], FEATURES[3]
    found = list(triplets(own, targets.tolist()))
    hard = [-math.log(share(own, *one)) for one in found]
    soft = []
    for one in found:
        mine, theirs = share(own, *one), share(other, *one)
        soft.append(-theirs * math.log(mine) - (1 - theirs) * math.log(1 - mine))
    assert SoftmaxTripletLoss()(own, targets).item() == pytest.approx(sum(hard) / len(hard))
    assert soft_softmax_triplet(own, other, targets).item() == pytest.approx(sum(soft) / len(soft))


def test_values_of_the_public_code():
    hard = [SoftmaxTripletLoss()(one, TARGETS).item() for one in FEATURES[:2]]
    assert hard == pytest.approx([1.0181106328964233, 1.2993202209472656], rel=1e-6)
    soft = soft_softmax_triplet(FEATURES[0], FEATURES[3], TARGETS)
    soft = soft + soft_softmax_triplet(FEATURES[1], FEATURES[2], TARGETS)
    assert soft.item() == pytest.approx(1.4926561117172241, rel=1e-6)


def test_only_the_network_that_learns_gets_a_gradient():
    own, other = (one.clone().requires_grad_() for one in FEATURES[:2])
    soft_softmax_triplet(own, other, TARGETS).backward()
    assert own.grad.abs().sum() > 0 and other.grad is None


def test_without_a_triplet_it_is_a_zero_with_a_graph():
    own = FEATURES[0].clone().requires_grad_()
    for targets in (torch.zeros(8, dtype=torch.int64), torch.arange(8)):
        found = soft_softmax_triplet(own, FEATURES[1], targets)
        found.backward()
        assert found.item() == 0 and own.grad.abs().sum() == 0
