"""Building the sum. Oracles: the losses called by hand, and the words an error must hold."""

from typing import Callable, List

import pytest
import torch

import vireid_plugins as vp
from vireid_plugins.errors import UserError
from vireid_plugins.modeling.losses import (
    BatchHardTripletLoss,
    CorrelationConsistencyLoss,
    LabelSmoothingCrossEntropyLoss,
    Loss,
    build_losses,
)

from fastreid.config import CfgNode, get_cfg

PROVIDED = ("features", "logits", "targets", "modalities", "index")


def config(names: List[str]) -> CfgNode:
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.MODEL.LOSSES.NAME = names
    return cfg


def test_terms_are_weighted_and_named(make_batch: Callable) -> None:
    cfg = config(["LabelSmoothingCrossEntropyLoss", "BatchHardTripletLoss"])
    cfg.MODEL.LOSSES.LABEL_SMOOTHING.SCALE = 0.5
    cfg.MODEL.LOSSES.BATCH_HARD.MARGIN = 2.0
    cfg.MODEL.LOSSES.BATCH_HARD.SCALE = 3.0
    batch = make_batch(0)
    terms = build_losses(cfg, PROVIDED)(batch)
    assert list(terms) == ["loss_id", "loss_batch_hard"]
    identity = LabelSmoothingCrossEntropyLoss()(batch["logits"], batch["targets"])
    triplet = BatchHardTripletLoss(2.0)(batch["features"], batch["targets"])
    torch.testing.assert_close(terms["loss_id"], 0.5 * identity)
    torch.testing.assert_close(terms["loss_batch_hard"], 3.0 * triplet)


def test_inputs_may_depend_on_the_config(make_batch: Callable) -> None:
    cfg = config(["CorrelationConsistencyLoss"])
    cfg.MODEL.LOSSES.CORRELATION.LEVEL = "image"
    batch = make_batch(0, ragged=False)
    loss = CorrelationConsistencyLoss(level="image")
    expected = loss(*(batch[name] for name in PROVIDED if name != "logits"))
    terms = build_losses(cfg, PROVIDED)(batch)
    torch.testing.assert_close(terms["loss_correlation"], expected)
    with pytest.raises(ValueError, match="Missing: index"):
        build_losses(cfg, PROVIDED[:-1])


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(KeyError, match="MODEL.LOSSES.NAME.*'CircelLoss'.*'CircleLoss'"):
        build_losses(config(["CircelLoss"]), PROVIDED)


def test_what_cannot_be_built_is_refused_with_both_sides_named() -> None:
    with pytest.raises(ValueError, match="MODEL.LOSSES.NAME is empty.*TripletLoss"):
        build_losses(config([]), PROVIDED)
    with pytest.raises(ValueError, match="names TripletLoss more than once"):
        build_losses(config(["TripletLoss", "CircleLoss", "TripletLoss"]), PROVIDED)
    with pytest.raises(ValueError) as error:
        build_losses(config(["HeteroCenterTripletLoss"]), ("targets", "features"))
    for words in (
        "HeteroCenterTripletLoss, which needs features, targets, modalities",
        "provide features, targets",
        "Missing: modalities",
    ):
        assert words in str(error.value)


def test_a_loss_without_a_from_config_takes_its_node_by_name():
    """Keys in lower case are arguments; one that is none is named when the loss is built."""

    class Pull(Loss):
        log_name, config_node = "loss_pull", "PULL"

        def __init__(self, margin: float, hard: bool = False) -> None:
            super().__init__()
            self.margin, self.hard = margin, hard

    cfg = config([])
    cfg.MODEL.LOSSES.PULL = CfgNode({"MARGIN": 0.25, "HARD": True, "SCALE": 2.0})
    loss = Pull.from_config(cfg)
    assert (loss.margin, loss.hard) == (0.25, True)
    cfg.MODEL.LOSSES.PULL.PUSH = 1.0
    with pytest.raises(UserError, match=r"MODEL\.LOSSES\.PULL\.PUSH .* Pull, .* margin, hard"):
        Pull.from_config(cfg)
