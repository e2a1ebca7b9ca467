"""PMT. Oracles: its phases and terms by the formulas, the code's numbers and rates, refused values.

The public code, step by step: ``tests/parity/cases/pmt.py``.
"""

import math

import pytest
import torch

from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modeling.losses import (
    BatchHardTripletLoss,
    CenterLoss,
    DiscriminativeCenterLoss,
    IntraModalityTripletLoss,
    LabelSmoothingCrossEntropyLoss,
    ModalitySharedEnhancementLoss,
)
from vireid_plugins.modeling.losses.build import LossTerms
from vireid_plugins.modeling.meta_arch import PMT, DualStreamBaseline
from vireid_plugins.solver import build_lr_scheduler, build_optimizer

pytest.importorskip("timm")

TINY = "['depth=2','embed_dim=32','num_heads=2','patch_size=8']"
ROWS = ("base", "pl", "msel", "dcl", "pl_msel", "pl_dcl", "msel_dcl", "full")
ID, HARD, INTRA = "loss_id", "loss_batch_hard", "loss_intra_triplet"


def settings(name="synthetic", *words):
    """A config of the folder, with a tiny network, small images and five identities."""
    small = f"MODEL.BACKBONE.TIMM_OPTIONS {TINY} MODEL.BACKBONE.STRIDE_SIZE [8,8] "
    small += "MODEL.DEVICE cpu MODEL.BACKBONE.PRETRAIN False MODEL.HEADS.NUM_CLASSES 5 "
    small += "INPUT.SIZE_TRAIN [32,16] INPUT.SIZE_TEST [32,16]"
    if "agw" in name:
        small = small[small.index("MODEL.DEVICE") :]
    return build_config(f"configs/pmt/{name}.yml", [*small.split(), *map(str, words)])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(settings()).double()


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(12, generator=generator)
    return {
        "images": torch.rand(12, 3, 32, 16, generator=generator, dtype=torch.float64) * 255,
        "targets": torch.tensor([0, 0, 1, 1, 3, 3]).repeat(2)[order],
        "modalities": torch.tensor([0, 1]).repeat_interleave(6)[order],
    }


def outputs_of(model, batch):
    """Features and logits of the batch, with all random parts off."""
    model.eval()
    tokens = model.backbone(model.normalize(batch["images"].float()), batch["modalities"])
    model.heads.train()
    return model.heads(tokens, batch["targets"], batch["modalities"])


def test_each_phase_has_its_terms(model, batch):
    """Each by the loss itself, which has tests of its own."""
    out = outputs_of(model, batch)
    x, y, m = out["features"], batch["targets"], batch["modalities"]
    identity = sum(
        torch.nn.functional.cross_entropy(out["logits"][m == kind], y[m == kind]) for kind in (0, 1)
    )
    expected = {
        "gray": {ID: identity, INTRA: IntraModalityTripletLoss(0.1)(x, y, m)},
        "color": {
            ID: identity,
            HARD: BatchHardTripletLoss(0.1)(x, y),
            "loss_dcl": 0.5 * DiscriminativeCenterLoss()(x, y),
            "loss_msel": 0.5 * ModalitySharedEnhancementLoss()(x, y, m),
        },
    }
    for model.phase, terms in expected.items():
        found = model.losses(out, batch)
        assert list(found) == list(terms)
        for name, value in terms.items():
            torch.testing.assert_close(found[name], value)
    assert PMT.phases == ("gray", "color") and set(model.weight_keys) == {
        name for terms in expected.values() for name in terms
    }


def test_an_unknown_phase_is_refused(model, batch):
    model.phase = "infrared"
    with pytest.raises(ValueError, match="phase is 'infrared'; expected one of"):
        model.losses(outputs_of(model, batch), batch)


@pytest.mark.parametrize(
    "epochs, expected",
    [("[0,6]", "gggggg" + "c" * 18), ("[2,4]", "ccgg" + "c" * 20), ("[0,99]", "g" * 24)],
)
def test_the_first_stage_lasts_while_visible_images_are_gray(epochs, expected):
    found = build_model(settings("sysu", "INPUT.GREY.EPOCHS", epochs))
    assert "".join(found.phase_of(epoch)[0] for epoch in range(24)) == expected
    assert found.phase[0] == expected[0]


def test_without_gray_images_there_is_no_first_stage():
    found = build_model(settings("sysu", "INPUT.GREY.ENABLED", False))
    assert {found.phase_of(epoch) for epoch in range(24)} == {"color"} == {found.phase}
    assert found.phases == ("color",) and "IntraModalityTripletLoss" not in found.loss_terms


@pytest.mark.parametrize(
    "words, message",
    [
        ("INPUT.GREY.EPOCHS ()", "would never leave its first stage.*such as \\[0,6\\]"),
        ("INPUT.GREY.MODALITIES ['infrared']", "visible images would have their colors"),
        ("MODEL.PMT.GRAY_LOSSES ()", "GRAY_LOSSES is \\[\\]; expected at least one loss"),
        ("MODEL.PMT.GRAY_LOSSES ['TripletLoss','TripletLoss']", "and each once"),
        ("MODEL.PMT.GRAY_LOSSES ['IntraModalityTriplet']", "GRAY_LOSSES.*IntraModalityTripletLoss"),
        ("MODEL.LOSSES.NAME ()", "MODEL.LOSSES.NAME is empty"),
        ("MODEL.PMT.GRAY_LOSSES ['PathTripletLoss']", "Missing: stripe_features"),
    ],
)
def test_wrong_values_are_named(words, message):
    with pytest.raises((KeyError, ValueError), match=message):
        build_model(settings("synthetic", *words.split(" ", 1)))


def arguments(model, **others):
    names = ("LabelSmoothingCrossEntropyLoss", "IntraModalityTripletLoss")
    usual = {"gray_losses": names, "color_losses": names[:1], "gray_epochs": (0, 1)}
    scale = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3}
    parts = {"backbone": model.backbone, "heads": model.heads, "loss_terms": model.loss_terms}
    return {**parts, **scale, **usual, **others}


def test_losses_that_are_not_there_are_named(model):
    with pytest.raises(ValueError, match="phase 'gray' names the losses \\['CenterLoss'\\]"):
        PMT(**arguments(model, gray_losses=["CenterLoss"]))


def test_parameters_of_a_loss_of_one_phase_are_unused_in_the_other(model):
    """DDP must know it; without such a loss all parameters are used in both."""
    assert not model.may_leave_parameters_unused
    losses = {"id": LabelSmoothingCrossEntropyLoss(0.0), "center": CenterLoss(5, 32)}
    terms = LossTerms(losses, {"id": 1.0, "center": 1.0})
    for gray, expected in ((["id"], True), (["id", "center"], False)):
        found = PMT(
            **arguments(model, loss_terms=terms, gray_losses=gray, color_losses=["id", "center"])
        )
        assert found.may_leave_parameters_unused == expected


def test_the_numbers_of_the_code():
    for name, epochs in (("sysu", 24), ("regdb", 36), ("llcm", 24)):
        cfg = settings(name)
        assert cfg.SOLVER.MAX_EPOCH == epochs and list(cfg.INPUT.GREY.EPOCHS) == [0, 6]
    cfg = build_config("configs/pmt/sysu.yml", ["MODEL.DEVICE", "cpu"])
    node, data = cfg.MODEL.BACKBONE, cfg.INPUT
    assert node.TIMM_NAME == "vit_base_patch16_224.orig_in21k_ft_in1k" and node.UNSHARED_STAGES == 0
    assert list(node.STRIDE_SIZE) == [12, 12] and node.MODALITY_EMBEDDING == "none"
    assert (node.DROP_RATIO, node.DROP_PATH_RATIO, node.ATT_DROP_RATE) == (0.03, 0.1, 0.0)
    assert list(data.SIZE_TRAIN) == list(data.SIZE_TEST) == [256, 128]
    assert [round(value / 255, 3) for value in cfg.MODEL.PIXEL_MEAN] == [0.485, 0.456, 0.406]
    assert not data.PADDING.ENABLED and not data.REA.ENABLED and data.FLIP.PROB == 0.5
    assert (cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE) == (64, 4)
    assert (cfg.TEST.FEATURE, cfg.TEST.METRIC) == ("bn", "cosine")
    assert cfg.MODEL.HEADS.CLASSIFIER_STD == 0.001  # weights_init_classifier


@pytest.mark.parametrize("name, epochs", [("sysu", 24), ("regdb", 36)])
def test_the_rates_of_every_epoch(name, epochs):
    """``optimizer.py`` and ``scheduler.py``: 3e-4; half for patch embedding and blocks; one floor.

    ``CosineLRScheduler(t_initial=epochs, lr_min=3e-6, warmup_lr_init=3e-6, warmup_t=3)``, stepped
    with the epochs 1, 2, ...
    """
    cfg = settings(name)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch=5)["lr_sched"]
    bases = {}
    for group in optimizer.param_groups:
        assert group["weight_decay"] == 1e-4
        bases.update({id(p): group["initial_lr"] for p in group["params"]})
    for word, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert word == "heads.bottleneck.0.bias"
            continue
        half = "embedding.proj" in word or ".block." in word
        assert bases[id(parameter)] == pytest.approx(1.5e-4 if half else 3e-4), word
    for epoch in range(epochs):
        for group, found in zip(optimizer.param_groups, schedule.rates(5 * epoch + 3)):
            base, t = group["initial_lr"], epoch + 1
            expected = 3e-6 + (base - 3e-6) * (1 + math.cos(math.pi * t / epochs)) / 2
            if t < 3:
                expected = 3e-6 + t * (base - 3e-6) / 3
            assert found == pytest.approx(3e-6 if t == epochs else expected, rel=1e-12)
    assert schedule.rates(5 * epochs - 1) == pytest.approx([3e-6] * len(optimizer.param_groups))


def test_the_rows_of_the_ablation_differ_in_what_they_name():
    rows = {row: settings(f"ablation/{row}") for row in ROWS}
    for row, cfg in rows.items():
        parts = (
            set()
            if row == "base"
            else {"pl", "msel", "dcl"}
            if row == "full"
            else set(row.split("_"))
        )
        names = set(cfg.MODEL.LOSSES.NAME)
        assert cfg.INPUT.GREY.ENABLED == ("pl" in parts)
        assert ("ModalitySharedEnhancementLoss" in names) == ("msel" in parts)
        assert ("DiscriminativeCenterLoss" in names) == ("dcl" in parts)
        assert cfg.MODEL.META_ARCHITECTURE == ("PMT" if parts else "DualStreamBaseline")
    allowed = {"MODEL.META_ARCHITECTURE", "MODEL.LOSSES.NAME", "INPUT.GREY.ENABLED", "OUTPUT_DIR"}
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


def test_it_works_on_the_network_of_agw(batch):
    model = build_model(settings("ablation/agw")).train()
    for model.phase in PMT.phases:
        terms = model({**batch, "images": batch["images"].float()})
        assert all(value.isfinite() for value in terms.values())
    base = build_model(settings("ablation/agw_base"))
    assert type(base) is DualStreamBaseline
    assert base.backbone.unshared == model.backbone.unshared == ("stem",)
