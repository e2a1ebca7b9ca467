"""Mutual prediction. Oracles: Eq. (9)-(13) by loops over images, the paper's table of epochs,
weights compared bit by bit."""

import copy

import pytest
import torch
from torch import nn

from vireid_plugins import Modality
from vireid_plugins.config import add_vireid_config
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modeling.heads import BNNeckHead, StripeHead
from vireid_plugins.modeling.losses import (
    BatchHardTripletLoss,
    LabelSmoothingCrossEntropyLoss,
)
from vireid_plugins.modeling.losses.build import LossTerms
from vireid_plugins.modeling.meta_arch import MutualPrediction
from vireid_plugins.solver import build_optimizer

from fastreid.config import get_cfg
from fastreid.modeling.meta_arch import build_model

from tests.engine.small import ROOT
from tests.modeling.small import Backbone

N, C, ALPHA, BETA = 4, 6, 12.2, 0.4
CLASSIFIERS = {f"{m}_classifier.{p}" for m in ("visible", "infrared") for p in ("weight", "bias")}


def make_model(phase="shared", **arguments):
    """Two stripes on 7 rows, float64, random biases."""
    identity_loss = LabelSmoothingCrossEntropyLoss(0.0, per_modality=True)
    losses = {"id": identity_loss, "triplet": BatchHardTripletLoss(0.3)}
    model = MutualPrediction(
        backbone=Backbone(),
        heads=StripeHead(in_channels=C, num_classes=N, num_stripes=2, stripe_dim=3),
        loss_terms=LossTerms(losses, {"id": 1.0, "triplet": 1.0}),
        pixel_mean=[120.0, 110.0, 100.0],
        pixel_std=[60.0, 50.0, 40.0],
        num_classes=N,
        identity_loss=identity_loss,
        **{"alpha": ALPHA, "beta": BETA, **arguments},
    )
    for classifier in (model.visible_classifier, model.infrared_classifier):
        nn.init.normal_(classifier.weight)
        nn.init.normal_(classifier.bias)
    model.phase = phase
    return model


def make_batch(modalities=(0, 1, 0, 0, 1, 1, 0, 1, 0)):
    """Unequal counts (5 visible, 4 infrared), in no order."""
    modalities = torch.tensor(modalities)
    return {
        "images": torch.rand(len(modalities), 3, 7, 4) * 255,
        "targets": torch.tensor([0, 2, 0, 1, 0, 1, 2, 2, 1])[: len(modalities)],
        "modalities": modalities,
    }


def take(batch, rows):
    return {name: value[rows] for name, value in batch.items()}


def features_of(model, batch):
    """f^m of the batch, by the model in evaluation."""
    features = model.eval()(batch)
    model.train()
    return features


def identity_by_loop(classifiers, features, batch):
    """Eq. (1), (9), (11), (12): ``classifiers`` by modality; a mean for each modality, added."""
    total = 0.0
    for modality in Modality:
        terms = []
        for f, y, m in zip(features, batch["targets"].tolist(), batch["modalities"].tolist()):
            if m == modality:
                layer = classifiers[modality]
                scores = torch.stack([w @ f + b for w, b in zip(layer.weight, layer.bias)])
                terms.append(-(scores[y] - scores.exp().sum().log()))
        total = total + (sum(terms) / len(terms) if terms else 0.0)
    return total


def triplet_by_loop(features, batch, margin=0.3):
    """Eq. (10) over the rows of both modalities."""
    targets, terms = batch["targets"].tolist(), []
    for i, y in enumerate(targets):
        distance = [(features[i] - f).norm() for f in features]
        same = [distance[j] for j, z in enumerate(targets) if z == y and j != i]
        other = [distance[j] for j, z in enumerate(targets) if z != y]
        terms.append((margin + max(same) - min(other)).clamp(min=0))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("phase", MutualPrediction.phases)
def test_the_objective_of_each_phase_term_by_term(phase):
    model, batch = make_model(phase), make_batch()
    features = features_of(model, batch)
    w_id, w_v, w_t = model.heads.classifier, model.visible_classifier, model.infrared_classifier
    expected = {
        "loss_id": identity_by_loop([w_id, w_id], features, batch),
        "loss_batch_hard": triplet_by_loop(features, batch),
    }
    if phase == "own":
        expected["loss_own_prediction"] = ALPHA * identity_by_loop([w_v, w_t], features, batch)
    if phase == "crossed":
        expected["loss_crossed_prediction"] = BETA * identity_by_loop([w_t, w_v], features, batch)
    terms = model(batch)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


@pytest.mark.parametrize("phase", MutualPrediction.phases)
def test_the_gradient_of_each_phase(phase):
    """W_v and W_t learn in "own" only; everything else always, as autograd through the loop says.

    In "crossed" the loop's classifiers are copies: what reaches the features is the same.
    """
    model, batch = make_model(phase), make_batch()
    sum(model(batch).values()).backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == (set() if phase == "own" else CLASSIFIERS)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad(set_to_none=True)
    features = features_of(model, batch)
    w_id, w_v, w_t = model.heads.classifier, model.visible_classifier, model.infrared_classifier
    total = identity_by_loop([w_id, w_id], features, batch) + triplet_by_loop(features, batch)
    if phase == "own":
        total = total + ALPHA * identity_by_loop([w_v, w_t], features, batch)
    if phase == "crossed":
        still = [copy.deepcopy(w_t), copy.deepcopy(w_v)]
        total = total + BETA * identity_by_loop(still, features, batch)
    total.backward()
    for name, parameter in model.named_parameters():
        if name in found:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-5)
            assert found[name].abs().sum() > 0


def test_the_crossed_term_alone_reaches_the_features():
    features = torch.randn(4, 12, requires_grad=True)
    labels = {"targets": torch.tensor([0, 1, 2, 3]), "modalities": torch.tensor([0, 1, 1, 0])}
    model = make_model("crossed")
    model.crossed_prediction({"features": features, **labels}).backward()
    assert (features.grad.abs().sum(dim=1) > 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_phases_of_the_paper():
    """80 epochs: 0-19 shared; from 20 five of L^{v-t}, five of L^{t-v}, and so on."""
    own = {
        *range(20, 25),
        *range(30, 35),
        *range(40, 45),
        *range(50, 55),
        *range(60, 65),
        *range(70, 75),
    }
    crossed = {
        *range(25, 30),
        *range(35, 40),
        *range(45, 50),
        *range(55, 60),
        *range(65, 70),
        *range(75, 80),
    }
    model = make_model()
    for epoch in range(80):
        expected = "own" if epoch in own else "crossed" if epoch in crossed else "shared"
        assert model.phase_of(epoch) == expected, epoch
    assert make_model(start_epoch=0, period=1).phase_of(1) == "crossed"


def test_a_new_model_is_in_the_phase_of_its_first_epoch():
    assert MutualPrediction.phases[0] == "shared"
    for start, phase in ((0, "own"), (1, "shared")):
        cfg = method_cfg("synthetic", "MODEL.MUTUAL_PREDICTION.START_EPOCH", start)
        assert build_model(cfg).phase == phase


def step(model, optimizer, batch):
    optimizer.zero_grad()
    sum(model(batch).values()).backward()
    optimizer.step()


def test_classifiers_stand_still_bitwise_while_crossed_and_move_again_afterwards():
    """After a phase "own" has filled their momentum, and in spite of weight decay."""
    model, batch = make_model("own"), make_batch()
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.SOLVER.OPT, cfg.SOLVER.BASE_LR = "SGD", 0.001
    cfg.SOLVER.MOMENTUM, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_BIAS = 0.9, 0.1, 0.1
    optimizer = build_optimizer(cfg, model)

    def state():
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    def moved(before):
        return {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}

    everything = set(state())
    for phase, expected in (
        ("own", everything),
        ("crossed", everything - CLASSIFIERS),
        ("own", everything),
        ("shared", everything - CLASSIFIERS),
    ):
        model.phase, before = phase, state()
        for _ in range(3):
            step(model, optimizer, batch)
        assert moved(before) == expected, phase


@pytest.mark.parametrize("phase", MutualPrediction.phases)
def test_order_means_nothing(phase):
    model, batch = make_model(phase).double(), make_batch()
    model.normalize = lambda images: images.double() / 255
    rows = torch.randperm(9)
    expected, found = model(batch), model(take(batch, rows))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    torch.testing.assert_close(
        features_of(model, take(batch, rows)), features_of(model, batch)[rows]
    )


@pytest.mark.parametrize("phase", MutualPrediction.phases)
@pytest.mark.parametrize("modality", list(Modality))
def test_one_modality_trains_and_tests(phase, modality):
    """The mean over the absent one adds nothing; its stream and classifier get no gradient."""
    model, whole = make_model(phase), make_batch()
    batch = take(whole, whole["modalities"] == modality)
    features = features_of(model, batch)
    torch.testing.assert_close(features, features_of(model, whole)[whole["modalities"] == modality])
    own = [model.visible_classifier, model.infrared_classifier]
    prediction = {
        "shared": 0.0,
        "own": ALPHA * identity_by_loop(own, features, batch),
        "crossed": BETA * identity_by_loop(own[::-1], features, batch),
    }[phase]
    terms = model(batch)
    found = sum(float(v.detach()) for k, v in terms.items() if "prediction" in k)
    assert found == pytest.approx(float(torch.as_tensor(prediction).detach()), rel=1e-5)
    sum(terms.values()).backward()
    assert own[1 - modality].weight.grad is None
    assert (own[modality].weight.grad is not None) == (phase == "own")


@pytest.mark.parametrize(
    "name,value",
    [("alpha", -0.1), ("beta", float("nan")), ("start_epoch", -1), ("period", 0)],
)
def test_a_number_out_of_range_names_its_key(name, value):
    with pytest.raises(ValueError, match=f"MODEL.MUTUAL_PREDICTION.{name.upper()} is {value}"):
        make_model(**{name: value})


def test_an_unknown_phase_is_refused():
    model = make_model("reverse")
    with pytest.raises(ValueError, match="phase is 'reverse'; expected one of"):
        model(make_batch())


# ---------------------------------------------------------------------------------- configs


def method_cfg(name, *opts):
    """A config of the method, on the CPU, from random weights, with 5 identities."""
    words = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    words += ["MODEL.HEADS.NUM_CLASSES", "5", *map(str, opts)]
    return build_config(str(ROOT / f"configs/mutual_prediction/{name}.yml"), words)


@pytest.mark.parametrize(
    "name,alpha,beta", [("sysu", 12.2, 0.4), ("regdb", 35.0, 4.0), ("llcm", 12.2, 0.4)]
)
def test_the_numbers_of_the_paper(name, alpha, beta):
    cfg = method_cfg(name, "MODEL.BACKBONE.DEPTH", "50x")
    model = build_model(cfg)
    assert (model.alpha, model.beta, model.start_epoch, model.period) == (alpha, beta, 20, 5)
    sizes = [
        m.weight.shape
        for m in (model.heads.classifier, model.visible_classifier, model.infrared_classifier)
    ]
    assert sizes == [(5, 3584)] * 3
    assert model.backbone.unshared == ("stem",)
    assert model.identity_loss.smoothing == 0.0 and model.identity_loss.per_modality
    assert model.loss_terms["LabelSmoothingCrossEntropyLoss"].per_modality
    assert model.loss_terms["BatchHardTripletLoss"].margin == 0.3
    solver = cfg.SOLVER
    assert list(cfg.INPUT.SIZE_TRAIN) == [288, 144] and solver.WEIGHT_DECAY == 5e-4
    assert (solver.BASE_LR, solver.MAX_EPOCH, list(solver.STEPS)) == (0.1, 80, [20, 50])
    assert (solver.WARMUP_EPOCHS, solver.WARMUP_METHOD) == (10, "linear")


def test_the_rows_of_the_ablation_differ_in_what_they_name():
    """Everything but model, head and folder is the same; the schedule shows every phase."""
    rows = {row: method_cfg(f"ablation/{row}") for row in ("baseline", "fine_grained", "full")}
    models = {row: build_model(cfg) for row, cfg in rows.items()}
    assert not isinstance(models["fine_grained"], MutualPrediction)
    assert isinstance(models["full"], MutualPrediction)
    solver, phase_of = rows["full"].SOLVER, models["full"].phase_of
    phases = [phase_of(epoch) for epoch in range(solver.MAX_EPOCH)]
    assert phases == ["shared", "shared", "own", "crossed"]
    assert list(solver.STEPS) == [phases.index("own")]  # where the rate falls, as printed
    head = models["baseline"].heads
    assert isinstance(head, BNNeckHead)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in head.modules())
    feature_map = torch.rand(2, 512, 6, 3)
    torch.testing.assert_close(head.eval()(feature_map), feature_map.mean(dim=(2, 3)))
    allowed = {"MODEL.META_ARCHITECTURE", "MODEL.HEADS.NAME", "OUTPUT_DIR"}
    full = flat(rows["full"])
    for cfg in rows.values():
        assert {key for key, value in flat(cfg).items() if value != full[key]} <= allowed


def flat(node, prefix=""):
    result = {}
    for key, value in node.items():
        result.update(
            flat(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value}
        )
    return result


def test_a_head_without_a_feature_size_is_refused():
    with pytest.raises(ValueError, match="BNNeckHead does not have; set MODEL.HEADS.NAME"):
        build_model(method_cfg("synthetic", "MODEL.HEADS.NAME", "BNNeckHead"))
