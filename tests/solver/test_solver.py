"""The schedule against the published table, the optimizer's groups against the config."""

import math

import pytest
import torch
from torch import nn

from vireid_plugins import add_vireid_config
from vireid_plugins.solver import build_lr_scheduler, build_optimizer

from fastreid.config import get_cfg


def make_cfg(**overrides):
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.merge_from_list(
        [word for key, value in overrides.items() for word in (key.replace("__", "."), value)]
    )
    return cfg


def rates(cfg, epochs, iters_per_epoch=4, base=0.1):
    """Rate at each iteration of a lone parameter."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
    schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch)["lr_sched"]
    return [schedule.rates(i)[0] for i in range(epochs * iters_per_epoch)]


AGW = dict(SOLVER__WARMUP_EPOCHS=10, SOLVER__STEPS=[20, 50], SOLVER__WARMUP_METHOD="epoch")


def test_agw_table():
    """lr * (epoch + 1) / 10 for epochs 0-9, lr to 19, lr / 10 to 49, lr / 100 from 50."""
    found = rates(make_cfg(**AGW), 60)
    for epoch in range(60):
        if epoch < 10:
            expected = 0.1 * (epoch + 1) / 10
        else:
            expected = 0.1 if epoch < 20 else 0.01 if epoch < 50 else 0.001
        assert found[epoch * 4 : epoch * 4 + 4] == pytest.approx([expected] * 4), epoch


def test_a_factor_for_each_step():
    """MSCLNet's: 0.1, 0.05 in epochs 21-50, 0.01 in 51-100, 0.001 in 101-200, counted from 1."""
    cfg = make_cfg(
        SOLVER__STEPS=[20, 50, 100], SOLVER__STEP_FACTORS=[0.5, 0.1, 0.01], SOLVER__WARMUP_EPOCHS=0
    )
    expected = [0.1] * 20 + [0.05] * 30 + [0.01] * 50 + [0.001] * 100
    assert rates(cfg, 200)[::4] == pytest.approx(expected)
    assert rates(cfg, 21, base=0.02)[-1] == pytest.approx(0.01)  # factors, not rates
    cfg.SOLVER.WARMUP_EPOCHS, cfg.SOLVER.WARMUP_METHOD = 30, "epoch"
    assert rates(cfg, 30)[::4] == pytest.approx(
        [r * (e + 1) / 30 for e, r in enumerate(expected[:30])]
    )


@pytest.mark.parametrize("factors", [[0.5], [0.5, 0.1, 0.01], [0.5, -0.1]])
def test_factors_that_do_not_fit_the_steps_are_refused(factors):
    cfg = make_cfg(SOLVER__STEPS=[1, 2], SOLVER__STEP_FACTORS=factors)
    with pytest.raises(ValueError, match=r"STEP_FACTORS is .* and SOLVER.STEPS is \[1, 2\]"):
        rates(cfg, 1)


def test_linear_warmup_by_iteration():
    cfg = make_cfg(SOLVER__WARMUP_EPOCHS=1, SOLVER__STEPS=[99], SOLVER__WARMUP_FACTOR=0.5)
    assert rates(cfg, 2) == pytest.approx([0.05, 0.0625, 0.075, 0.0875] + [0.1] * 4)


def test_a_step_inside_warmup_still_counts():
    cfg = make_cfg(SOLVER__WARMUP_EPOCHS=4, SOLVER__STEPS=[2], SOLVER__WARMUP_METHOD="epoch")
    assert rates(cfg, 5)[::4] == pytest.approx([0.025, 0.05, 0.0075, 0.01, 0.01])


def test_cosine_ends_at_its_floor():
    cfg = make_cfg(
        SOLVER__SCHED="CosineAnnealingLR",
        SOLVER__WARMUP_ITERS=0,
        SOLVER__MAX_EPOCH=10,
        SOLVER__ETA_MIN_LR=0.02,
    )
    found = rates(cfg, 11)[::4]
    expected = [0.02 + 0.08 * (1 + math.cos(math.pi * e / 10)) / 2 for e in range(11)]
    assert found == pytest.approx(expected)


def test_timms_cosine():
    """``CosineLRScheduler(t_initial=8, lr_min=0.01, warmup_t=3, warmup_lr_init=0.02)``, from 1 on.

    By hand: 0.02 + t * 0.08 / 3, then 0.01 + 0.09 * (1 + cos(pi t / 8)) / 2. The public recipe:
    ``tests/modeling/test_pmt.py``.
    """
    cfg = make_cfg(
        SOLVER__SCHED="CosineLRScheduler",
        SOLVER__BASE_LR=0.1,
        SOLVER__WARMUP_EPOCHS=3,
        SOLVER__WARMUP_METHOD="linear",
        SOLVER__WARMUP_FACTOR=0.2,
        SOLVER__MAX_EPOCH=8,
        SOLVER__ETA_MIN_LR=0.01,
    )
    found = rates(cfg, 9)
    assert found[::4] == found[3::4]  # the same within an epoch
    cosine = [0.01 + 0.045 * (1 + math.cos(math.pi * t / 8)) for t in range(3, 8)]
    expected = [0.02 + 0.08 / 3, 0.02 + 0.16 / 3, *cosine, 0.01, 0.01]
    assert found[::4] == pytest.approx(expected)


@pytest.mark.parametrize(
    "others", [dict(WARMUP_EPOCHS=-1), dict(WARMUP_METHOD="epoch"), dict(DELAY_EPOCHS=2)]
)
def test_what_timms_cosine_does_not_have_is_named(others):
    usual = dict(SCHED="CosineLRScheduler", WARMUP_EPOCHS=3, WARMUP_METHOD="linear")
    cfg = make_cfg(**{f"SOLVER__{key}": value for key, value in {**usual, **others}.items()})
    with pytest.raises(ValueError, match="has a linear warm-up of whole epochs inside its cosine"):
        rates(cfg, 1)


def test_state_is_the_iteration():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = build_lr_scheduler(make_cfg(**AGW), optimizer, 4)["lr_sched"]
    schedule.set(60)  # a rate that no iteration of the warm-up has
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    resumed = build_lr_scheduler(make_cfg(**AGW), other, 4)["lr_sched"]
    resumed.load_state_dict(schedule.state_dict())
    assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == pytest.approx(0.1)


def test_unknown_words_are_refused():
    for key, value in (("SOLVER__SCHED", "Cosine"), ("SOLVER__WARMUP_METHOD", "slow")):
        with pytest.raises(ValueError, match=key.replace("__", ".")):
            rates(make_cfg(**{key: value}), 1)
    with pytest.raises(ValueError, match="larger than the training set"):
        rates(make_cfg(), 1, iters_per_epoch=0)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.heads = nn.Linear(2, 1)
        self.visible_classifier = nn.Linear(2, 1)
        self.centers = nn.Linear(2, 1, bias=False)
        self.centers.param_group_overrides = {"lr": 0.5, "weight_decay": 0.0, "momentum": 0.0}


def test_learning_rates_and_decay_of_each_part():
    cfg = make_cfg(
        SOLVER__OPT="SGD",
        SOLVER__BASE_LR=0.1,
        SOLVER__BACKBONE_LR_FACTOR=0.1,
        SOLVER__HEADS_LR_FACTOR=2.0,
        SOLVER__WEIGHT_DECAY=0.01,
        SOLVER__WEIGHT_DECAY_NORM=0.02,
        SOLVER__WEIGHT_DECAY_BIAS=0.03,
    )
    model = Model()
    optimizer = build_optimizer(cfg, model)
    found = {
        name: (group["lr"], group["weight_decay"], group["momentum"])
        for name, parameter in model.named_parameters()
        for group in optimizer.param_groups
        if any(parameter is p for p in group["params"])
    }
    assert found == {
        "backbone.0.weight": (pytest.approx(0.01), 0.01, 0.9),
        "backbone.0.bias": (pytest.approx(0.01), 0.03, 0.9),
        "backbone.1.weight": (pytest.approx(0.01), 0.02, 0.9),
        "backbone.1.bias": (pytest.approx(0.01), 0.03, 0.9),
        "heads.weight": (0.2, 0.01, 0.9),
        "heads.bias": (0.2, 0.03, 0.9),
        "visible_classifier.weight": (0.2, 0.01, 0.9),  # a method's own part
        "visible_classifier.bias": (0.2, 0.03, 0.9),
        "centers.weight": (0.5, 0.0, 0.0),
    }
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(found)


def test_factors_multiply_and_zero_stands_still():
    """Biases of both parts have both factors; a factor of 0 leaves its part where it is."""
    words = dict(SOLVER__OPT="SGD", SOLVER__BASE_LR=0.1, SOLVER__BIAS_LR_FACTOR=2.0)
    words.update(SOLVER__BACKBONE_LR_FACTOR=0.0, SOLVER__HEADS_LR_FACTOR=3.0)
    model = Model()
    optimizer = build_optimizer(make_cfg(**words), model)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(model.heads.weight)] == pytest.approx(0.3)
    assert rates[id(model.heads.bias)] == pytest.approx(0.6)
    assert rates[id(model.visible_classifier.bias)] == pytest.approx(0.6)
    assert rates[id(model.centers.weight)] == 0.5  # its own, without factors
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.visible_classifier(model.backbone[0](torch.ones(4, 2))).sum().backward()
    optimizer.step()
    after = model.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"visible_classifier.weight", "visible_classifier.bias"}


def test_gradients_are_clipped_and_set_to_none():
    cfg = make_cfg(
        SOLVER__OPT="SGD",
        SOLVER__BASE_LR=1.0,
        SOLVER__MOMENTUM=0.0,
        SOLVER__WEIGHT_DECAY=0.0,
        SOLVER__CLIP_GRADIENTS__ENABLED=True,
        SOLVER__CLIP_GRADIENTS__CLIP_VALUE=1.0,
    )
    model = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(cfg, model)
    before = model.weight.item()
    (100 * model.weight).sum().backward()
    optimizer.step()
    assert before - model.weight.item() == pytest.approx(1.0, abs=1e-4)
    optimizer.zero_grad()
    assert model.weight.grad is None


def test_unknown_optimizer_names_the_nearest():
    with pytest.raises(ValueError, match="SOLVER.OPT is 'AdmW'.*'AdamW'"):
        build_optimizer(make_cfg(SOLVER__OPT="AdmW"), nn.Linear(1, 1))


def test_named_layers_of_the_backbone_learn_at_the_rate_of_the_head():
    cfg = make_cfg(
        SOLVER__BASE_LR=0.1, SOLVER__BACKBONE_LR_FACTOR=0.5, SOLVER__HEADS_LR_LAYERS=["backbone.1"]
    )
    model = Model()
    found = {id(p): g["lr"] for g in build_optimizer(cfg, model).param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if name.startswith(("backbone.", "heads.")):
            assert found[id(parameter)] == (0.05 if name.startswith("backbone.0") else 0.1), name


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("backbone.layer9", r"HEADS_LR_LAYERS names 'backbone.layer9', which no parameter begins"),
        ("backbone[", r"HEADS_LR_LAYERS names 'backbone\[', which is not a pattern"),
    ],
)
def test_layers_that_are_not_there_are_named(pattern, message):
    with pytest.raises(ValueError, match=message):
        build_optimizer(make_cfg(SOLVER__HEADS_LR_LAYERS=[pattern]), Model())
