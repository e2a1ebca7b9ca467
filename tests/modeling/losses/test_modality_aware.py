"""CMTR's L_MAC and L_MAID. Oracles: loops from the formulas, a worked example, invariances."""

import math
from typing import Callable

import pytest
import torch

import vireid_plugins as vp
from vireid_plugins.modeling.losses import (
    ModalityAwareCenterLoss,
    ModalityAwareIdentityLoss,
    build_losses,
)

from fastreid.config import get_cfg

CENTERS = ("both", "per_modality")


def loop(batch, per_modality):
    """Mean over images of log(1 + exp |g - c|), c the mean of the images with the same labels."""
    rows = list(zip(batch["features"], batch["targets"].tolist(), batch["modalities"].tolist()))
    terms = []
    for feature, target, modality in rows:
        own = [g for g, t, m in rows if t == target and (m == modality or not per_modality)]
        distance = math.sqrt(float(((feature - sum(own) / len(own)) ** 2).sum()))
        terms.append(math.log(1 + math.exp(distance)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("seed", range(3))
def test_the_center_loss_equals_a_loop(center, seed, make_batch: Callable) -> None:
    batch = make_batch(seed)
    loss = ModalityAwareCenterLoss(center)
    value = loss(batch["features"], batch["targets"], batch["modalities"])
    assert value.item() == pytest.approx(loop(batch, center == "per_modality"))


# Identity 4: visible images at (0, 0) and (2, 0), infrared ones at (0, 4) and (2, 4).
SQUARE = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [2.0, 4.0]], dtype=torch.float64)
LABELS = torch.full((4,), 4), torch.tensor([0, 0, 1, 1])


@pytest.mark.parametrize(
    ("center", "distance"),
    [("both", math.sqrt(5)), ("per_modality", 1.0)],  # centers: (1, 2); (1, 0) and (1, 4)
)
def test_an_example_worked_by_hand(center, distance) -> None:
    value = ModalityAwareCenterLoss(center)(SQUARE, *LABELS)
    assert value.item() == pytest.approx(math.log(1 + math.exp(distance)))


def test_the_least_value_is_log_2_with_a_gradient_of_zero() -> None:
    points = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    value = ModalityAwareCenterLoss()(points, *LABELS)
    assert value.item() == pytest.approx(math.log(2), abs=1e-6)
    assert torch.autograd.grad(value, points)[0].abs().max() == 0


@pytest.mark.parametrize("center", CENTERS)
def test_moving_a_modality_matters_to_common_centers_only(center, make_batch: Callable) -> None:
    """So what CMTR subtracts from a modality cancels where each modality has its own centers."""
    batch, loss = make_batch(1), ModalityAwareCenterLoss(center)
    labels = batch["targets"], batch["modalities"]
    moved = batch["features"] + 3.0 * (batch["modalities"] == 1).unsqueeze(1)
    before, after = loss(batch["features"], *labels), loss(moved, *labels)
    assert torch.isclose(before, after).item() == (center == "per_modality")


@pytest.mark.parametrize("center", CENTERS)
def test_turning_and_moving_all_features_changes_nothing(center, make_batch: Callable) -> None:
    batch, loss = make_batch(2), ModalityAwareCenterLoss(center)
    labels = batch["targets"], batch["modalities"]
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    torch.testing.assert_close(
        loss(batch["features"] @ turn + 7.0, *labels), loss(batch["features"], *labels)
    )


def test_a_batch_twice_has_the_same_mean(make_batch: Callable) -> None:
    batch, loss = make_batch(3), ModalityAwareCenterLoss()
    once = loss(batch["features"], batch["targets"])
    twice = loss(batch["features"].repeat(2, 1), batch["targets"].repeat(2))
    torch.testing.assert_close(twice, once)


def test_a_step_draws_the_modalities_together() -> None:
    points = SQUARE.clone().requires_grad_()
    ModalityAwareCenterLoss()(points, *LABELS).backward()
    after = (points - points.grad).detach()
    gaps = [(p[2:].mean(0) - p[:2].mean(0)).norm().item() for p in (SQUARE, after)]
    assert gaps[1] < gaps[0] == 4.0


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_identity_loss_equals_a_loop(smoothing, make_batch: Callable) -> None:
    batch = make_batch(0)
    loss = ModalityAwareIdentityLoss(num_classes=6, feat_dim=5, smoothing=smoothing).double()
    torch.nn.init.normal_(loss.weight)
    expected = 0.0
    for feature, target in zip(batch["features"], batch["targets"].tolist()):
        scores = [math.exp(float(row @ feature)) for row in loss.weight.detach()]
        logs = [math.log(score / sum(scores)) for score in scores]
        own = (1 - smoothing) * logs[target] + smoothing * sum(logs) / 6
        expected -= own / len(batch["targets"])
    value = loss(batch["features"], batch["targets"])
    assert value.item() == pytest.approx(expected)


def test_it_has_no_bias_and_starts_small() -> None:
    loss = ModalityAwareIdentityLoss(num_classes=50, feat_dim=400)
    assert [tuple(p.shape) for p in loss.parameters()] == [(50, 400)]
    assert loss.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_a_shared_classifier_is_that_of_the_logits(make_batch: Callable) -> None:
    batch = make_batch(0)
    loss = ModalityAwareIdentityLoss(num_classes=6, feat_dim=5, shared=True, smoothing=0.2)
    assert loss.inputs == ("logits", "targets") and not list(loss.parameters())
    logs = batch["logits"].log_softmax(1)
    rows = range(len(logs))
    own = sum(logs[i, t] for i, t in zip(rows, batch["targets"])) / len(logs)
    expected = -(0.8 * own + 0.2 * logs.mean())
    torch.testing.assert_close(loss(batch["logits"], batch["targets"]), expected)


def config(*names):
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.MODEL.HEADS.NUM_CLASSES = 2
    cfg.MODEL.BACKBONE.FEAT_DIM = 3
    cfg.MODEL.LOSSES.NAME = list(names)
    return cfg


def test_any_config_can_name_them_and_weigh_them() -> None:
    cfg = config("ModalityAwareCenterLoss", "ModalityAwareIdentityLoss")
    cfg.MODEL.LOSSES.MODALITY_AWARE_CENTER.SCALE = 0.5
    terms = build_losses(cfg, ["features", "logits", "targets"])
    assert terms["ModalityAwareIdentityLoss"].weight.shape == (2, 3)
    features = torch.tensor([[1.0, 0, 0], [3.0, 0, 0]])
    found = terms({"features": features, "targets": torch.tensor([1, 1])})
    assert set(found) == {"loss_modality_aware_center", "loss_modality_aware_id"}
    assert found["loss_modality_aware_center"].item() == pytest.approx(0.5 * math.log(1 + math.e))


def test_sizes_come_from_the_head_and_are_checked() -> None:
    cfg = config("ModalityAwareIdentityLoss")
    cfg.MODEL.HEADS.EMBEDDING_DIM = 7
    loss = ModalityAwareIdentityLoss.from_config(cfg)
    assert loss.weight.shape == (2, 7)
    with pytest.raises(ValueError, match=r"features of 7 numbers.*gives \[3\].*BNNeckHead"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]))
    cfg.MODEL.HEADS.NUM_CLASSES = 0
    with pytest.raises(ValueError, match="MODEL.HEADS.NUM_CLASSES.*num_classes=0"):
        ModalityAwareIdentityLoss.from_config(cfg)


def test_wrong_values_are_named() -> None:
    with pytest.raises(ValueError, match="ModalityAwareCenterLoss: center is 'visible'"):
        ModalityAwareCenterLoss("visible")
    with pytest.raises(ValueError, match="ModalityAwareIdentityLoss: smoothing is 1.0"):
        ModalityAwareIdentityLoss(2, 3, smoothing=1.0)
    with pytest.raises(ValueError, match="needs modalities"):
        ModalityAwareCenterLoss("per_modality")(torch.zeros(2, 3), torch.tensor([0, 0]))
