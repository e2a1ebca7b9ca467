"""Center loss. Oracles: a loop, the closed form of its gradient, and a step worked by hand."""

from typing import Callable

import pytest
import torch

import vireid_plugins as vp
from vireid_plugins.modeling.losses import CenterLoss, build_losses

from fastreid.config import get_cfg


def test_equals_the_loop_and_the_closed_form_of_the_gradient(make_batch: Callable) -> None:
    batch = make_batch(0)
    features, targets = batch["features"], batch["targets"]
    loss = CenterLoss(num_classes=6, feat_dim=5).double()
    value = loss(features, targets)
    expected = sum(
        0.5 * float((feature - loss.centres[target].detach()).pow(2).sum())
        for feature, target in zip(features, targets)
    ) / len(features)
    assert value.item() == pytest.approx(expected)
    value.backward()
    for target in range(6):  # d/dc = sum over its rows of (c - f) / B
        rows = features[targets == target]
        closed = (loss.centres[target] - rows).sum(dim=0) / len(features)
        torch.testing.assert_close(loss.centres.grad[target], closed)


def center_config(scale: float) -> object:
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.MODEL.HEADS.NUM_CLASSES = 2
    cfg.MODEL.BACKBONE.FEAT_DIM = 3
    cfg.MODEL.LOSSES.NAME = ["CenterLoss"]
    cfg.MODEL.LOSSES.CENTER.SCALE = scale
    return cfg


@pytest.mark.parametrize("scale", [5e-4, 1.0, 3.0])
def test_a_step_of_the_centers_does_not_depend_on_the_weight(scale: float) -> None:
    terms = build_losses(center_config(scale), ["features", "targets"])
    centers, overrides = terms["CenterLoss"].centres, terms["CenterLoss"].param_group_overrides
    before = centers.detach().clone()
    optimizer = torch.optim.SGD(
        [{"params": [centers], **overrides}], lr=9.0, momentum=0.9, weight_decay=0.1, nesterov=True
    )
    features, targets = torch.ones(4, 3), torch.tensor([0, 0, 0, 1])
    for _ in range(2):  # twice: momentum and decay would show
        optimizer.zero_grad()
        sum(terms({"features": features, "targets": targets}).values()).backward()
        optimizer.step()
    # Unweighted step of center 0: 0.5 * 3/4 * (c - 1), so c - 1 shrinks by 5/8; center 1: by 7/8.
    factors = torch.tensor([[5 / 8], [7 / 8]]) ** 2
    torch.testing.assert_close(centers.detach(), 1 + factors * (before - 1))


def test_sizes_come_from_the_head_and_are_checked() -> None:
    cfg = center_config(1.0)
    assert CenterLoss.from_config(cfg).centres.shape == (2, 3)
    cfg.MODEL.HEADS.EMBEDDING_DIM = 7
    assert CenterLoss.from_config(cfg).centres.shape == (2, 7)
    cfg.MODEL.HEADS.NUM_CLASSES = 0
    with pytest.raises(ValueError, match="MODEL.HEADS.NUM_CLASSES.*num_classes=0"):
        CenterLoss.from_config(cfg)


def test_a_weight_of_zero_switches_the_term_off() -> None:
    terms = build_losses(center_config(0.0), ["features", "targets"])
    value = terms({"features": torch.ones(1, 3), "targets": torch.tensor([0])})["loss_center"]
    assert value.item() == 0


def test_a_step_of_its_own_is_that_of_plain_sgd_whatever_the_optimizer() -> None:
    """Two batches make one step: the mean of their gradients, (c - f) / B at each row's center."""
    cfg = center_config(5e-4)
    cfg.MODEL.LOSSES.CENTER.OWN_STEP = True
    cfg.MODEL.LOSSES.CENTER.LR = 0.5
    loss = CenterLoss.from_config(cfg)
    assert not list(loss.parameters()) and "centres" in loss.state_dict()
    before, targets = loss.centres.clone(), torch.tensor([0, 0, 0, 1])
    batches = torch.ones(4, 3), torch.full((4, 3), 2.0)
    for features in batches:
        loss(features, targets)
    with torch.no_grad():
        loss(torch.full((4, 3), 9.0), targets)  # an evaluation moves nothing
    loss.after_step()
    parts = torch.tensor([[3 / 4], [1 / 4]])  # of the rows, by center
    torch.testing.assert_close(loss.centres, before - 0.5 * parts * (before - 1.5))
    again = loss.centres.clone()
    loss.after_step()  # without a batch
    assert torch.equal(loss.centres, again)


def test_a_step_of_its_own_needs_a_rate() -> None:
    with pytest.raises(ValueError, match="own_step needs lr"):
        CenterLoss(num_classes=2, feat_dim=3, own_step=True)
