"""FastReID's losses under their own names. Oracle: the host's ``Baseline.losses`` sum."""

from typing import Callable

import pytest
import torch

import vireid_plugins as vp
from vireid_plugins.modeling.losses import FocalLoss, build_losses

from fastreid.config import get_cfg
from fastreid.modeling.meta_arch import Baseline
from fastreid.utils.events import EventStorage

LOG_NAMES = {
    "CrossEntropyLoss": "loss_cls",
    "TripletLoss": "loss_triplet",
    "CircleLoss": "loss_circle",
    "Cosface": "loss_cosface",
}


@pytest.mark.parametrize("name", sorted(LOG_NAMES))
def test_equals_the_term_of_the_host(name: str, make_batch: Callable, monkeypatch) -> None:
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    losses = cfg.MODEL.LOSSES
    losses.NAME = [name]
    # No argument at its default, so that none can be dropped or swapped unseen.
    losses.CE.EPSILON, losses.CE.ALPHA, losses.CE.SCALE = -1.0, 0.4, 0.5
    losses.TRI.MARGIN, losses.TRI.NORM_FEAT, losses.TRI.HARD_MINING = 0.7, True, True
    losses.TRI.SCALE = 2.0
    losses.CIRCLE.MARGIN, losses.CIRCLE.GAMMA, losses.CIRCLE.SCALE = 0.3, 16, 0.25
    losses.COSFACE.MARGIN, losses.COSFACE.GAMMA, losses.COSFACE.SCALE = 0.1, 32, 3.0
    batch = make_batch(0)
    monkeypatch.setattr("fastreid.modeling.meta_arch.baseline.build_backbone", lambda cfg: None)
    monkeypatch.setattr("fastreid.modeling.meta_arch.baseline.build_heads", lambda cfg: None)
    outputs = {
        "pred_class_logits": batch["logits"],
        "cls_outputs": batch["logits"],
        "features": batch["features"],
    }
    with EventStorage():
        expected = Baseline(cfg).losses(outputs, batch["targets"])
    terms = build_losses(cfg, batch)(batch)
    assert list(terms) == list(expected) == [LOG_NAMES[name]]
    torch.testing.assert_close(terms[LOG_NAMES[name]], expected[LOG_NAMES[name]])


def test_focal_loss_by_hand_and_where_the_host_alone_gives_nan() -> None:
    # Softmax (3/4, 1/4), label 0: -0.5 * (1 - 3/4)^2 * ln(3/4).
    logits = torch.log(torch.tensor([[3.0, 1.0]]))
    value = FocalLoss(alpha=0.5, gamma=2.0)(logits, torch.tensor([0]))
    assert float(value) == pytest.approx(-0.5 / 16 * float(torch.log(torch.tensor(0.75))))
    # Softmax (1, e^-200), label 1: the loss is 0.5 * (1 - e^-200)^2 * 200.
    logits = torch.tensor([[200.0, 0.0]], requires_grad=True)
    value = FocalLoss(alpha=0.5, gamma=2.0)(logits, torch.tensor([1]))
    value.backward()
    assert float(value) == pytest.approx(100.0) and logits.grad.isfinite().all()
