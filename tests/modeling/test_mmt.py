"""MMT. Oracles: the public code's sums by hand, the average's recursion, recorded values.

The values are those of ``CrossEntropyLabelSmooth``, ``SoftEntropy`` and ``SoftTripletLoss`` of
yxgeee/MMT, commit 057e1ea, summed as in ``mmt/trainers.py``, run once on the rows below.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vireid_plugins.errors import UserError
from vireid_plugins.modeling.losses import (
    LabelSmoothingCrossEntropyLoss,
    LossTerms,
    SoftmaxTripletLoss,
)
from vireid_plugins.modeling.losses.soft_cross_entropy import soft_cross_entropy
from vireid_plugins.modeling.meta_arch import DualStreamBaseline
from vireid_plugins.modeling.meta_arch.mmt import MMT

from tests.engine.small import small_cfg
from tests.every_key.narrow import NAME
from tests.modeling.losses.test_softmax_triplet import FEATURES, TARGETS, wave

LOGITS = [3 * wave(8, 4, phase) for phase in (0.1, 1.3, 2.2, 3.1)]  # students 1, 2, teachers 1, 2


class Nothing(DualStreamBaseline):
    """A network whose outputs the test makes up."""

    def __init__(self):
        nn.Module.__init__(self)
        self.register_buffer("pixel_mean", torch.zeros(1))


@pytest.fixture
def made_up():
    losses = {
        "LabelSmoothingCrossEntropyLoss": LabelSmoothingCrossEntropyLoss(0.1),
        "SoftmaxTripletLoss": SoftmaxTripletLoss(),
    }
    scales = dict(zip(losses, (0.5, 0.2)))
    return MMT(networks=[Nothing(), Nothing()], loss_terms=LossTerms(losses, scales))


def small(**keys):
    """A narrow model, and a batch of two views of eight images."""
    words = {"MODEL__BACKBONE__NAME": NAME, "MODEL__HEADS__NUM_CLASSES": 8, **keys}
    cfg = small_cfg("unused", "configs/mmt/synthetic.yml", **words)
    torch.manual_seed(0)
    model = MMT(cfg)
    index = torch.arange(8).repeat_interleave(2)
    batch = {
        "images": torch.rand(16, 3, 32, 16) * 255,
        "targets": TARGETS[index],
        "modalities": torch.zeros(16, dtype=torch.int64),
        "camids": index,
        "index": index,
        "views": torch.arange(16) % 2,
    }
    return model, batch


def test_terms_and_their_sum_are_those_of_the_public_code(made_up):
    names = ("s1.", "s2.", "t1.", "t2.")
    outputs = {f"{name}logits": value for name, value in zip(names, LOGITS)}
    outputs.update({f"{name}features": value for name, value in zip(names, FEATURES)})
    terms = made_up.losses(outputs, {"targets": TARGETS})
    expected = {
        "loss_id": 0.5 * (3.113652229309082 + 2.470061779022217),
        "loss_softmax_triplet": 0.2 * (1.0181106328964233 + 1.2993202209472656),
        "loss_soft_id": 0.5 * 4.581642150878906,
        "loss_soft_triplet": 0.8 * 1.4926561117172241,
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-6), name
    assert sum(terms.values()).item() == pytest.approx(6.7402891397476195, rel=1e-6)


def test_soft_cross_entropy_equals_a_loop():
    own, other = LOGITS[0], LOGITS[3]
    rows = [
        -sum(p * q for p, q in zip(F.softmax(b, 0), F.log_softmax(a, 0)))
        for a, b in zip(own, other)
    ]
    torch.testing.assert_close(soft_cross_entropy(own, other), sum(rows) / len(rows))


def test_each_student_sees_its_view_and_learns_from_the_teacher_of_the_other():
    """By hand, from the outputs of the four networks on the two views."""
    model, batch = small()
    model.train()
    with torch.no_grad():
        for parameter in model.teacher_2.parameters():
            parameter += 0.05
        terms = model(batch)
        views = [batch["images"][number::2] for number in (0, 1)]
        found = {}
        for name, view in (("student_1", 0), ("student_2", 1), ("teacher_1", 0), ("teacher_2", 1)):
            network = getattr(model, name)
            maps = network.extract(network.normalize(views[view]), torch.zeros(8).long())
            found[name] = network.heads(maps, TARGETS)
    for term, function, key, scale in (
        ("loss_soft_id", soft_cross_entropy, "logits", 0.5),
        ("loss_id", lambda a, _: F.cross_entropy(a, TARGETS, label_smoothing=0.1), "logits", 0.5),
    ):
        expected = function(found["student_1"][key], found["teacher_2"][key])
        expected = expected + function(found["student_2"][key], found["teacher_1"][key])
        torch.testing.assert_close(terms[term], scale * expected)


def test_teachers_are_the_averages_of_their_students():
    """keep = min(1 - 1 / (step + 1), alpha): the mean of all weights at first, then alpha."""
    model, _ = small(MODEL__MMT__MOMENTUM=0.6)
    expected = model.teacher_1.heads.weight.clone()
    statistics = model.teacher_1.backbone.state_dict()
    kept = {name: value.clone() for name, value in statistics.items() if "running" in name}
    for step, keep in enumerate((0, 1 / 2, 0.6, 0.6)):
        with torch.no_grad():
            model.student_1.heads.weight.add_(step + 1)
            model.student_1.backbone.state_dict()[next(iter(kept))].add_(1)
        expected = keep * expected + (1 - keep) * model.student_1.heads.weight.detach()
        model.after_step()
        torch.testing.assert_close(model.teacher_1.heads.weight, expected)
    assert all(torch.equal(statistics[name], value) for name, value in kept.items())
    assert not any(p.requires_grad for p in model.teacher_1.parameters())


def test_clusters_are_found_by_the_mean_of_both_teachers():
    model, batch = small()
    model.eval()
    with torch.no_grad():
        for parameter in model.teacher_2.parameters():
            parameter += 0.1
        first, second = F.normalize(model.teacher_1(batch)), F.normalize(model.teacher_2(batch))
        assert not torch.allclose(first, second)
        torch.testing.assert_close(model.cluster_features(batch), (first + second) / 2)


@pytest.mark.parametrize("teacher,expected", [("first", 0), ("second", 1), ("test", 1)])
def test_the_evaluated_teacher_is_the_one_of_the_key(teacher, expected):
    model, batch = small(MODEL__MMT__TEACHER=teacher)
    model.choose(1)
    model.teacher_losses.copy_(torch.tensor([1.0, 2.0]))
    model.eval()
    assert torch.equal(model(batch), model.teachers[expected](batch))
    assert model.num_candidates == (2 if teacher == "test" else 1)


def test_the_teacher_that_agrees_better_with_the_clusters_is_evaluated():
    model, batch = small()
    model.train()
    with torch.no_grad():  # the first teacher is always wrong
        model.teacher_1.heads.weight.zero_()
        model(batch)
        losses = model._last_losses.clone()
    assert losses[0].item() == pytest.approx(torch.tensor(8.0).log().item())
    model.after_step()
    torch.testing.assert_close(model.teacher_losses, losses)
    assert model.evaluated_network is model.teachers[int(losses.argmin())]
    model.begin_clusters(torch.zeros(2, 2), torch.zeros(2))
    assert model.teacher_losses.tolist() == [0, 0]


def test_the_agreement_is_a_running_mean_of_the_last_updates():
    """mean = 0.99 mean + 0.01 of the update, and begins with the first one."""
    model, _ = small()
    expected = None
    for losses in ((2.0, 1.0), (1.0, 3.0), (0.5, 3.0)):
        model._last_losses = torch.tensor(losses)
        model.after_step()
        new = torch.tensor(losses)
        expected = new if expected is None else 0.99 * expected + 0.01 * new
        torch.testing.assert_close(model.teacher_losses, expected)
    assert model.evaluated_network is model.teachers[1]
    assert list(model.measures()) == ["teacher_1_id", "teacher_2_id"]


def test_a_step_that_overflows_leaves_the_agreement_as_it_was():
    model, _ = small()
    for losses in ((2.0, 1.0), (float("inf"), 1.0), (2.0, float("nan"))):
        model._last_losses = torch.tensor(losses)
        model.after_step()
    assert model.teacher_losses.tolist() == [2, 1]


def test_the_hard_losses_act_after_a_step(monkeypatch):
    model, acted = small()[0], []
    monkeypatch.setattr(LossTerms, "after_step", lambda terms: acted.append(terms))
    model.after_step()
    assert [id(terms) for terms in acted] == [
        id(network.loss_terms) for network in (model, *model.students)
    ]


def test_all_four_networks_are_their_own_and_have_the_clusters_as_classes():
    model, _ = small()
    networks = [*model.students, *model.teachers]
    assert [id(head) for head in model.classifiers()] == [id(network.heads) for network in networks]
    assert len({id(p) for network in networks for p in network.parameters()}) == sum(
        len(list(network.parameters())) for network in networks
    )
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"student_1", "student_2"} == set(model.training_only)
    assert [name.split(".")[0] for name in model.backbones] == ["student_1", "student_2"]


def test_the_order_of_a_batch_means_nothing():
    model, batch = small()
    model.train()
    for seed in range(3):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            plain = model(batch)
            mixed = model({name: value[order] for name, value in batch.items()})
        for name, value in plain.items():
            torch.testing.assert_close(mixed[name], value)


def test_students_alone_get_gradients():
    model, batch = small()
    model.train()
    sum(model(batch).values()).backward()
    assert all(p.grad is None for teacher in model.teachers for p in teacher.parameters())
    assert all(student.heads.weight.grad.abs().sum() > 0 for student in model.students)


def test_a_batch_without_two_views_of_each_image_is_refused():
    model, batch = small()
    model.train()
    with pytest.raises(UserError, match="exactly two views of each image"):
        model({name: value[:-1] for name, value in batch.items()})
    del batch["views"]
    with pytest.raises(UserError, match="exactly two views of each image"):
        model(batch)
    with pytest.raises(UserError, match="INPUT.NUM_VIEWS.INFRARED 2; now they are 2 and 1"):
        small(INPUT__NUM_VIEWS__INFRARED=1)
