"""MAUM. Oracles: the formulas by loops over images and proxies; queues of the classifiers' weights;
the phases that the paper's words say."""

import logging
import math

import pytest
import torch
from torch import nn

from vireid_plugins import Modality
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modeling.losses import LabelSmoothingCrossEntropyLoss, UnidirectionalMetricLoss
from vireid_plugins.modeling.meta_arch import MAUM, DualStreamBaseline
from vireid_plugins.modeling.meta_arch.maum import updates_until_return

from fastreid.modeling.meta_arch import build_model

from tests.engine.small import ROOT

N, ALPHA, DELTA = 5, 3.0, 0.2


def maum_cfg(name="synthetic", *opts):
    """A config of the method, on the CPU, from random weights, with N identities."""
    words = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    words += ["MODEL.HEADS.NUM_CLASSES", str(N), *map(str, opts)]
    return build_config(str(ROOT / f"configs/maum/{name}.yml"), words)


@pytest.fixture(scope="module")
def heads():
    """The head of the method's config; tests set what it gives by the features they pass."""
    return build_model(maum_cfg()).heads


def make_model(heads, phase="metrics", snapshots=(2, 3), **arguments):
    """Over features, without a backbone: ``model.losses(outputs, batch)``; float64.

    ``snapshots``: pushes of random proxies into the visible and the infrared memory.
    """
    model = MAUM(
        backbone=nn.Identity(),
        heads=heads,
        loss_terms=LossTermsStub(),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        identity_loss=LabelSmoothingCrossEntropyLoss(0.0, per_modality=True),
        metric_loss=UnidirectionalMetricLoss(ALPHA, DELTA),
        **{"start_epoch": 1, **arguments},
    ).double()
    for classifier in (model.visible_classifier, model.infrared_classifier):
        nn.init.normal_(classifier.weight)
    for memory, pushes in zip((model.visible_memory, model.infrared_memory), snapshots):
        for _ in range(pushes):
            memory.push(torch.randn(N, 512))
    model.phase = phase
    return model


class LossTermsStub(nn.Module):
    """In the place of the common classifier's loss."""

    def forward(self, tensors):
        return {"loss_id": tensors["bn_features"].sum() * 0 + 7.0}

    def after_step(self):
        pass


def make_batch(modalities=(0, 1, 0, 0, 1, 1, 0, 1, 0)):
    """Unequal counts (5 visible, 4 infrared), in no order; outputs of the head and labels."""
    modalities, rows = torch.tensor(modalities), len(modalities)
    features = torch.randn(rows, 512, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 2, 0, 1, 0, 4, 2, 2, 1])[:rows]
    return {"bn_features": features}, {"targets": targets, "modalities": modalities}


def identity_by_loop(model, features, batch):
    """L_RGB + L_IR as printed: w is the row of the image's own modality."""
    total = 0.0
    for modality, classifier in zip(
        Modality, (model.visible_classifier, model.infrared_classifier)
    ):
        terms = []
        for x, y, m in zip(features, batch["targets"].tolist(), batch["modalities"].tolist()):
            if m == modality:
                scores = torch.stack([(w * x).sum() for w in classifier.weight])
                terms.append(-torch.log(scores[y].exp() / scores.exp().sum()))
        total = total + (sum(terms) / len(terms) if terms else 0.0)
    return total


def metric_by_loop(features, batch, modality, tables):
    """The printed double sum for the rows of ``modality``, over the other's stored proxies."""
    terms = []
    for x, y, m in zip(features, batch["targets"].tolist(), batch["modalities"].tolist()):
        if m == modality:
            x = x / x.norm()
            us = [(table[y] * x).sum() for table in tables]
            vs = [(t[c] * x).sum() for t in tables for c in range(N) if c != y]
            terms.append(
                torch.log(1 + sum(torch.exp(ALPHA * (v - u + DELTA)) for v in vs for u in us))
            )
    return sum(terms) / len(terms) if terms else torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize("phase", MAUM.phases)
def test_the_objective_of_each_phase_term_by_term(heads, phase):
    """Weights of 0.5 and 2, memories of different fillings, neither full."""
    model = make_model(heads, phase, modality_id_scale=0.5, unidirectional_scale=2.0)
    outputs, batch = make_batch()
    features = outputs["bn_features"]
    expected = {
        "loss_id": torch.tensor(7.0, dtype=torch.float64),
        "loss_modality_id": 0.5 * identity_by_loop(model, features, batch),
    }
    if phase == "metrics":
        stored = model.visible_memory.snapshots[:2], model.infrared_memory.snapshots[:3]
        expected["loss_visible_to_infrared"] = 2 * metric_by_loop(features, batch, 0, stored[1])
        expected["loss_infrared_to_visible"] = 2 * metric_by_loop(features, batch, 1, stored[0])
    terms = model.losses(outputs, batch)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_the_metrics_move_features_only_each_modality_by_its_own_term(heads):
    model = make_model(heads)
    outputs, batch = make_batch()
    terms = model.unidirectional_metrics({**outputs, **batch})
    for name, modality in (("loss_visible_to_infrared", 0), ("loss_infrared_to_visible", 1)):
        (gradient,) = torch.autograd.grad(terms[name], outputs["bn_features"], retain_graph=True)
        moved = gradient.abs().sum(dim=1) > 0
        assert torch.equal(moved, batch["modalities"] == modality)
    sum(terms.values()).backward()
    assert all(p.grad is None for p in model.parameters())


def test_empty_memories_give_a_zero_that_keeps_its_graph(heads):
    model, (outputs, batch) = make_model(heads, snapshots=(0, 0)), make_batch()
    terms = model.unidirectional_metrics({**outputs, **batch})
    for value in terms.values():
        assert value == 0 and value.requires_grad
    sum(terms.values()).backward()
    assert torch.equal(outputs["bn_features"].grad, torch.zeros(9, 512, dtype=torch.float64))


@pytest.mark.parametrize("modality", list(Modality))
def test_a_batch_of_one_modality_trains(heads, modality):
    """The other's classifier and metric say nothing."""
    model, (outputs, batch) = make_model(heads), make_batch((int(modality),) * 4)
    terms = model.losses(outputs, batch)
    sum(terms.values()).backward()
    classifiers = (model.visible_classifier, model.infrared_classifier)
    assert classifiers[modality].weight.grad.abs().max() > 0
    assert classifiers[1 - modality].weight.grad is None
    names = ("loss_visible_to_infrared", "loss_infrared_to_visible")
    assert terms[names[modality]] > 0 and terms[names[1 - modality]] == 0


def test_order_means_nothing(heads):
    model, (outputs, batch) = make_model(heads), make_batch()
    rows = torch.randperm(9)
    expected = model.losses(outputs, batch)
    found = model.losses(
        {"bn_features": outputs["bn_features"][rows]}, {k: v[rows] for k, v in batch.items()}
    )
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


# --------------------------------------------------------------------- steps, the whole model


def images_batch():
    """3 identities x (1 + 1)."""
    return {
        "images": torch.rand(6, 3, 32, 16) * 255,
        "targets": torch.tensor([0, 1, 4, 4, 0, 1]),
        "modalities": torch.tensor([0, 1, 0, 1, 1, 0]),
    }


def unit_rows(classifier):
    weight = classifier.weight.detach()
    return weight / weight.square().sum(dim=1, keepdim=True).sqrt()


def test_memories_follow_the_updated_weights(heads):
    """Independent sizes 1 and 3; nothing is stored in the phase "proxies"; the newest snapshot is
    that of the weights *after* the step, the oldest goes first."""
    model = make_model(heads, "proxies", (0, 0), visible_size=1, infrared_size=3)
    classifiers = [model.visible_classifier.weight, model.infrared_classifier.weight]
    optimizer = torch.optim.SGD(classifiers, lr=0.1)

    def step():
        optimizer.zero_grad()
        terms = model.losses(*make_batch())
        sum(terms.values()).backward()
        optimizer.step()
        model.after_step()  # as the engine does
        return terms

    assert "loss_visible_to_infrared" not in step()
    assert model.visible_memory.num_held == model.infrared_memory.num_held == 0
    model.phase, seen = "metrics", []
    for number in range(5):
        terms = step()
        assert (terms["loss_visible_to_infrared"] > 0) == (number > 0)
        assert (terms["loss_infrared_to_visible"] > 0) == (number > 0)
        seen.append(unit_rows(model.infrared_classifier))
        infrared = model.infrared_memory
        newest = infrared.snapshots[(int(infrared.num_taken) - 1) % infrared.capacity]
        torch.testing.assert_close(newest, seen[-1])
        torch.testing.assert_close(
            model.visible_memory.read()[0], unit_rows(model.visible_classifier)
        )
    held = sorted(table.flatten().tolist() for table in model.infrared_memory.read())
    expected = sorted(table.flatten().tolist() for table in seen[-3:])
    torch.testing.assert_close(torch.tensor(held), torch.tensor(expected))
    assert not torch.allclose(seen[0], seen[1])  # the steps moved them


def test_interval_and_delay_count_steps_of_the_phase():
    """Of 10 steps with delay 3 and interval 4 the 4th and the 8th leave a snapshot."""
    keys = ["MODEL.MAUM.PUSH_INTERVAL", 4, "MODEL.MAUM.PUSH_DELAY", 3]
    model = build_model(maum_cfg("synthetic", *keys, "MODEL.MAUM.START_EPOCH", 0))
    held = []
    for _ in range(10):
        model.after_step()
        held.append((model.visible_memory.num_held, model.infrared_memory.num_held))
    assert held == [(0, 0)] * 3 + [(1, 1)] * 4 + [(2, 2)] * 3


@pytest.mark.parametrize(
    "identities,batch,instances,accumulation,expected",
    [
        (395, 64, 4, 1, 50),  # SYSU-MM01: P = 8
        (96, 64, 4, 1, 12),
        (97, 64, 4, 1, 13),
        (96, 64, 4, 3, 4),  # 24 identities in an update
        (5, 64, 4, 1, 1),  # a batch could hold all of them
        (96, 4, 4, 1, 96),  # less than an identity, of another sampler
    ],
)
def test_by_default_a_snapshot_waits_until_an_identity_returns(
    identities, batch, instances, accumulation, expected
):
    """N / P, rounded up."""
    keys = ["MODEL.HEADS.NUM_CLASSES", identities, "SOLVER.IMS_PER_BATCH", batch]
    keys += ["DATALOADER.NUM_INSTANCE", instances, "SOLVER.ACCUMULATION", accumulation]
    cfg = maum_cfg("synthetic", *keys)
    assert updates_until_return(cfg) == expected
    memories = build_model(cfg).visible_memory, build_model(cfg).infrared_memory
    assert {memory.interval for memory in memories} == {expected}


def test_what_is_logged_of_the_memories():
    """Nothing before there are two snapshots; a training without metrics has no memories."""
    model = build_model(maum_cfg("synthetic", "MODEL.MAUM.PUSH_INTERVAL", 1))
    model.phase = "metrics"
    model.after_step()
    assert model.measures() == {}
    with torch.no_grad():
        model.infrared_classifier.weight.neg_()
    model.after_step()
    found = {name: float(value) for name, value in model.measures().items()}
    assert found == {
        "visible_memory_cosine": pytest.approx(1.0),
        "infrared_memory_cosine": pytest.approx(-1.0),
    }
    assert build_model(maum_cfg("ablation/classifiers")).measures() == {}


def test_bfloat16_is_finite_and_near_float32():
    model, batch = build_model(maum_cfg()).train(), images_batch()
    model.phase = "metrics"
    model.after_step()
    plain = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model(batch)
    sum(terms.values()).backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.after_step()
    assert model.visible_memory.read().dtype is torch.float32
    for name, value in plain.items():
        assert terms[name].dtype is torch.float32
        torch.testing.assert_close(terms[name], value, rtol=0.05, atol=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_checkpoint_carries_the_memories_and_the_test_ignores_them():
    model, batch = build_model(maum_cfg()).eval(), images_batch()
    features = model(batch)
    assert features.shape == (6, 512)
    model.phase = "metrics"
    model.after_step()
    assert torch.equal(model(batch), features)
    other = build_model(maum_cfg())
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.infrared_memory.read(), model.infrared_memory.read())
    assert other.infrared_memory.num_held == 1


def test_a_run_that_continues_no_other_forgets_the_memories():
    model = build_model(maum_cfg())
    for _ in range(3):
        model.phase = "metrics"
        model.after_step()
    model.start_run()
    for memory in (model.visible_memory, model.infrared_memory):
        assert memory.num_held == int(memory.num_pushed) == 0
        assert not memory.snapshots.any()
    build_model(maum_cfg("ablation/classifiers")).start_run()  # has none to forget


def test_a_zero_feature_has_a_bounded_gradient():
    features = torch.zeros(2, 4, requires_grad=True)
    proxies = torch.nn.functional.normalize(torch.randn(1, 3, 4), dim=2)
    UnidirectionalMetricLoss()(features, torch.tensor([0, 1]), proxies).backward()
    assert features.grad.abs().max() < 1e9


# ------------------------------------------------------------------------------------ configs


def test_every_key_reaches_what_it_names():
    """Values that are no default anywhere."""
    node = "MODEL.MAUM."
    model = build_model(
        maum_cfg(
            "synthetic",
            *(node + "ALPHA", 7.0, node + "DELTA", 0.3, node + "REDUCTION", "mean"),
            *(node + "VISIBLE_SIZE", 3, node + "INFRARED_SIZE", 5, node + "PUSH_INTERVAL", 2),
            *(node + "PUSH_DELAY", 4, node + "START_EPOCH", 2, node + "MODALITY_ID_SCALE", 0.6),
            *(node + "UNIDIRECTIONAL_SCALE", 0.7, "MODEL.LOSSES.LABEL_SMOOTHING.SMOOTHING", 0.2),
        )
    )
    metric = model.metric_loss
    assert (metric.alpha, metric.delta, metric.reduction) == (7.0, 0.3, "mean")
    visible, infrared = model.visible_memory, model.infrared_memory
    assert (visible.capacity, infrared.capacity) == (3, 5)
    assert all((m.interval, m.delay) == (2, 4) for m in (visible, infrared))
    assert (model.start_epoch, model.modality_id_scale, model.unidirectional_scale) == (2, 0.6, 0.7)
    assert model.identity_loss.smoothing == 0.2


def test_a_training_without_metrics_is_logged_and_idle_proxies_are_refused(caplog):
    with caplog.at_level(logging.WARNING, logger="vireid_plugins"):
        build_model(maum_cfg("synthetic", "SOLVER.MAX_EPOCH", 1))
    (line,) = [r.getMessage() for r in caplog.records if "START_EPOCH" in r.getMessage()]
    assert "MODEL.MAUM.START_EPOCH is 1 of 1 epochs" in line
    with pytest.raises(ValueError, match="MODALITY_ID_SCALE is 0.*proxies never learn"):
        build_model(maum_cfg("synthetic", "MODEL.MAUM.MODALITY_ID_SCALE", 0.0))


@pytest.mark.parametrize("factor,warned", [(0.0, True), (100.0, False)])
def test_a_start_with_proxies_that_know_nothing_is_said_once(heads, factor, warned, caplog):
    """Scores of 0, so 2 log N; or each feature is its own proxy. Not before the first snapshot."""
    model = make_model(heads, snapshots=(0, 0))
    outputs, batch = make_batch()
    with torch.no_grad():
        for classifier in (model.visible_classifier, model.infrared_classifier):
            classifier.weight.copy_(factor * torch.eye(N, 512))
        outputs["bn_features"].copy_(torch.eye(N, 512)[batch["targets"]])
    with caplog.at_level(logging.WARNING, logger="vireid_plugins"):
        for _ in range(2):
            model.losses(outputs, batch)
        # with PUSH_DELAY, the metrics may have begun long before
        assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
        for _ in range(2):
            model.after_step()
            model.losses(outputs, batch)
    lines = [r.getMessage() for r in caplog.records if "START_EPOCH" in r.getMessage()]
    assert len(lines) == warned
    assert all("is 3.22 on this batch; by chance it is 2 log N = 3.22" in line for line in lines)


def test_the_phases_start_after_the_warm_up():
    model = build_model(maum_cfg("sysu"))
    phases = [model.phase_of(epoch) for epoch in range(80)]
    assert phases == ["proxies"] * 10 + ["metrics"] * 70
    early = build_model(maum_cfg("synthetic", "MODEL.MAUM.START_EPOCH", 0))
    assert early.phase == early.phase_of(0) == "metrics"


@pytest.mark.parametrize("name", ["sysu", "regdb", "llcm"])
def test_the_known_structure_and_our_decisions(name):
    cfg = maum_cfg(name)
    model = build_model(cfg)
    assert model.backbone.unshared == ("stem",)
    feature_map = torch.rand(2, 2048, 3, 2)
    pooled = model.heads.eval().pool(feature_map)[..., 0, 0]
    torch.testing.assert_close(pooled, feature_map.mean(dim=(2, 3)))
    for classifier in (model.visible_classifier, model.infrared_classifier):
        assert classifier.weight.shape == (N, 2048) and classifier.bias is None
        assert float(classifier.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert list(model.loss_terms) == ["LabelSmoothingCrossEntropyLoss"]
    assert model.identity_loss.smoothing == 0.0 and model.identity_loss.per_modality
    assert not model.loss_terms["LabelSmoothingCrossEntropyLoss"].per_modality
    metric = model.metric_loss
    assert (metric.alpha, metric.delta, metric.reduction) == (20.0, 0.1, "sum")
    for memory in (model.visible_memory, model.infrared_memory):  # N 5, P 8
        assert (memory.capacity, memory.interval, memory.delay) == (8, 1, 0)
    assert (model.modality_id_scale, model.unidirectional_scale) == (1.0, 0.25)
    assert model.test_feature == "after BNNeck"
    solver = cfg.SOLVER
    assert (solver.BASE_LR, solver.MAX_EPOCH, list(solver.STEPS)) == (0.1, 80, [20, 50])


def flat(node, prefix=""):
    result = {}
    for key, value in node.items():
        result.update(
            flat(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value}
        )
    return result


@pytest.mark.parametrize(
    "row,differs",
    [
        ("ablation/baseline", {"MODEL.META_ARCHITECTURE": "DualStreamBaseline"}),
        ("ablation/classifiers", {"MODEL.MAUM.UNIDIRECTIONAL_SCALE": 0.0}),
        (
            "ablation/metrics",
            {
                "MODEL.MAUM.VISIBLE_SIZE": 1,
                "MODEL.MAUM.INFRARED_SIZE": 1,
                "MODEL.MAUM.PUSH_INTERVAL": 1,
            },
        ),
        (
            "ablation/first",
            {
                "MODEL.MAUM.ALPHA": 64.0,
                "MODEL.MAUM.UNIDIRECTIONAL_SCALE": 1.0,
                "MODEL.MAUM.PUSH_INTERVAL": 1,
            },
        ),
        (
            "ablation/triplet",
            {"MODEL.LOSSES.NAME": ("LabelSmoothingCrossEntropyLoss", "BatchHardTripletLoss")},
        ),
        ("ablation/full", {}),
        ("imbalance/baseline", {"MODEL.META_ARCHITECTURE": "DualStreamBaseline"}),
        ("imbalance/equal", {}),
        ("imbalance/rebalanced", {"MODEL.MAUM.INFRARED_SIZE": 32}),
    ],
)
def test_rows_differ_in_what_they_name(row, differs):
    if row.startswith("imbalance"):
        differs = {**differs, "DATASETS.THIN.MODALITY": "infrared", "DATASETS.THIN.KEEP": 0.25}
    full, found = flat(maum_cfg("synthetic")), flat(maum_cfg(row))
    changed = {key: value for key, value in found.items() if value != full[key]}
    assert changed.pop("OUTPUT_DIR") and changed == differs


def test_rows_without_metrics_have_no_memories():
    model = build_model(maum_cfg("ablation/classifiers"))
    assert model.phases == ("proxies",) and {model.phase_of(e) for e in range(80)} == {"proxies"}
    assert not any("memory" in name for name in model.state_dict())
    model.after_step()
    baseline = build_model(maum_cfg("ablation/baseline"))
    assert type(baseline) is DualStreamBaseline
    assert baseline.heads.state_dict().keys() == model.heads.state_dict().keys()
    assert list(baseline.loss_terms) == list(model.loss_terms)


def test_the_log_states_the_memories_size_once(caplog):
    """8 + 2 snapshots of 5 x 512 float32: 81.92 and 20.48 kB."""
    with caplog.at_level(logging.INFO, logger="vireid_plugins"):
        build_model(maum_cfg("synthetic", "MODEL.MAUM.INFRARED_SIZE", 2))
    (line,) = [r.getMessage() for r in caplog.records if "memories" in r.getMessage()]
    assert "8 visible and 2 infrared snapshots of 5 x 512 proxies, 0.1 + 0.0 MB" in line


@pytest.mark.parametrize(
    "key,value",
    [
        ("VISIBLE_SIZE", 0),
        ("INFRARED_SIZE", -1),
        ("PUSH_INTERVAL", 0),
        ("PUSH_DELAY", -1),
        ("START_EPOCH", -1),
        ("MODALITY_ID_SCALE", -0.1),
        ("UNIDIRECTIONAL_SCALE", math.nan),
    ],
)
def test_a_number_out_of_range_names_its_key(heads, key, value):
    with pytest.raises(ValueError, match=f"MODEL.MAUM.{key} is {value}; expected"):
        make_model(heads, **{key.lower(): value})


def test_an_unknown_phase_and_an_unfit_head_are_refused(heads):
    model, (outputs, batch) = make_model(heads, "reverse"), make_batch()
    with pytest.raises(ValueError, match="phase is 'reverse'; expected one of"):
        model.losses(outputs, batch)
    with pytest.raises(ValueError, match="EmbeddingHead does not give; set MODEL.HEADS.NAME"):
        build_model(maum_cfg("synthetic", "MODEL.HEADS.NAME", "EmbeddingHead"))
