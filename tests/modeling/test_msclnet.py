"""MSCLNet. Oracles: Eq. (1)-(17) by loops over images, stripes and pairs; the baseline with the
same weights; the weights that each term may move (Eq. 8, 14-16); the paper's printed numbers."""

import copy

import pytest
import torch
from torch import nn

from vireid_plugins import Modality
from vireid_plugins.comparison.measure import flops_per_image
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modeling.heads import BNNeckHead
from vireid_plugins.modeling.layers import SynergyModule
from vireid_plugins.modeling.losses import (
    CascadedAggregationLoss,
    DiversityLoss,
    GlobalComplementLoss,
    LabelSmoothingCrossEntropyLoss,
    LocalComplementLoss,
)
from vireid_plugins.modeling.losses.build import LossTerms
from vireid_plugins.modeling.meta_arch import DualStreamBaseline, MSCLNet

from fastreid.modeling.meta_arch import build_model

from tests.engine.small import ROOT
from tests.modeling.small import Backbone

N, C, R = 4, 6, 2
SCALES = {"diversity": 0.5, "local": 0.8, "global": 1.5, "cascade": 1.0}
CASCADE = {"normalise": False, "dispersion": "literal"}
TERMS = {
    "loss_id",
    "loss_diversity",
    "loss_local",
    "loss_global",
    "loss_sub",
    "loss_intra",
    "loss_inter",
}


def make_head():
    return BNNeckHead(
        feat_dim=C,
        embedding_dim=0,
        num_classes=N,
        neck_feat="before",
        pool_type="GeneralizedMeanPooling",
        cls_type="Linear",
        scale=1,
        margin=0.0,
        with_bnneck=True,
        norm_type="BN",
    )


def make_model(scales=SCALES, synergy=None, feature="features", **arguments):
    """Two parts of 5 rows, float64; the literal forms, whose loops are short."""
    identity_loss = LabelSmoothingCrossEntropyLoss(0.0, per_modality=True)
    model = MSCLNet(
        backbone=Backbone(),
        heads=make_head(),
        loss_terms=LossTerms({"id": identity_loss}, {"id": 1.25}),
        pixel_mean=[120.0, 110.0, 100.0],
        pixel_std=[60.0, 50.0, 40.0],
        synergy=synergy or SynergyModule(C, R, rounds=3, rank=2),
        losses={
            "diversity": DiversityLoss(0.0),
            "local": LocalComplementLoss(literal=True),
            "global": GlobalComplementLoss(normalise=False),
            "cascade": CascadedAggregationLoss(feature=feature, **CASCADE),
        },
        scales={**SCALES, **scales},
        **arguments,
    ).double()
    nn.init.normal_(model.heads.weight)
    nn.init.normal_(model.synergy.norm.weight)
    nn.init.normal_(model.synergy.norm.bias)
    model.normalize = lambda images: images.double() / 255  # the base's works in float32
    return model


def make_batch(targets=(0, 2, 0, 2, 0, 2, 2, 0, 1), modalities=(0, 1, 0, 0, 1, 1, 0, 1, 0)):
    """Identities 0 and 2 with two images of each kind; of identity 1 a visible one only."""
    modalities = torch.tensor(modalities)
    rows = len(modalities)
    return {
        "images": torch.rand(rows, 3, 5, 4) * 255,
        "targets": torch.tensor(targets),
        "camids": torch.tensor([1, 3, 2, 1, 3, 4, 1, 3, 2, 1, 2, 3])[:rows],
        "modalities": modalities,
        "index": torch.randperm(rows) + 7,
    }


def take(batch, rows):
    return {name: value[rows] for name, value in batch.items()}


def outputs_of(model, batch):
    """Feature map and head outputs, in training mode, with the running statistics untouched."""
    kept = copy.deepcopy(model.state_dict())
    feature_map = model.extract(model.normalize(batch["images"]), batch["modalities"])
    outputs = model.heads(feature_map, batch["targets"], batch["modalities"])
    model.load_state_dict(kept)
    return {**outputs, "feature_map": feature_map}


def pairs_of(batch):
    """Every visible image with every infrared one of its identity."""
    rows = list(enumerate(zip(batch["targets"].tolist(), batch["modalities"].tolist())))
    return [
        (i, j)
        for i, (t, m) in rows
        for j, (u, n) in rows
        if t == u and m == Modality.VISIBLE and n == Modality.INFRARED
    ]


def stripes(feature_map):
    """Means of the rows 0-2 and 3-4 of a map (C, 5, W)."""
    return [feature_map[:, :3].mean(dim=(1, 2)), feature_map[:, 3:].mean(dim=(1, 2))]


def synergy_by_loop(model, visible, infrared):
    """Eq. (1), (2) for two maps (C, H, W): the parts b^s and their mean f^s."""
    norm, cell, parts = model.synergy.norm, model.synergy.encoder.cell, []
    for feature_map in (visible, infrared):
        channels = []
        for values, gamma, beta in zip(feature_map, norm.weight, norm.bias):
            variance = (values - values.mean()).pow(2).mean()
            channels.append((values - values.mean()) / (variance + norm.eps).sqrt() * gamma + beta)
        parts.append(stripes(torch.stack(channels)))
    state, b = None, []
    for v, r in zip(*parts):  # v_1, r_1, v_2, r_2
        state = cell(r[None], cell(v[None], state))
        b.append(state[0][0])
    return b, sum(b) / len(b)


def cascade_by_loop(features, targets, subclass):
    """Eq. (10)-(12) of rows with these identities and sub-classes."""
    n = len(features)

    def mean(rows):
        return sum(features[i] for i in rows) / len(rows)

    def square(a, b):
        return (a - b).pow(2).sum()

    sub = intra = inter = 0.0
    for i in range(n):
        own = [j for j in range(n) if targets[j] == targets[i]]
        for s in {subclass[j] for j in own}:
            center = mean([j for j in own if subclass[j] == s])
            intra = intra + square(center, mean(own)) / n
            if s == subclass[i]:
                sub = sub + square(features[i], center) / n
        for j in range(n):
            other = mean([k for k in range(n) if targets[k] == targets[j]])
            inter = inter - 2 / (n * (n - 1)) * square(mean(own), other)
    return sub, intra, inter


def objective_by_loop(model, batch, pairs, with_diversity=True):
    """The seven terms of Eq. (17), each under its weight."""
    outputs = outputs_of(model, batch)
    f, p = outputs["features"], outputs["logits"].softmax(dim=1)
    targets, cameras = batch["targets"].tolist(), batch["camids"].tolist()
    kinds = batch["modalities"].tolist()
    terms = {"loss_id": 0.0, "loss_diversity": 0.0, "loss_local": 0.0, "loss_global": 0.0}
    for kind in Modality:  # Eq. (4)
        rows = [i for i, m in enumerate(kinds) if m == kind]
        terms["loss_id"] += 1.25 * sum(-p[i, targets[i]].log() for i in rows) / len(rows)
    fs = []
    for i, j in pairs:
        terms["loss_diversity"] -= 0.5 * (p[i] * (p[i] / p[j]).log()).sum() / len(pairs)  # Eq. (3)
        b_s, f_s = synergy_by_loop(model, outputs["feature_map"][i], outputs["feature_map"][j])
        fs.append(f_s)
        for v, s in zip(stripes(outputs["feature_map"][i]), b_s):  # Eq. (6)
            cos = (v @ s) / (v.norm() * s.norm())
            terms["loss_local"] += 0.8 * (cos + (2 - 2 * cos).sqrt()) / len(pairs)
    of_pair = [targets[i] for i, _ in pairs]
    for target in of_pair:  # Eq. (7)
        c_s = sum(x for x, t in zip(fs, of_pair) if t == target) / of_pair.count(target)
        own = [x for x, t, m in zip(f, targets, kinds) if (t, m) == (target, Modality.INFRARED)]
        terms["loss_global"] += 1.5 * (c_s - sum(own) / len(own)).pow(2).sum() / len(pairs)
    images = cascade_by_loop(f, targets, list(zip(kinds, cameras)))
    by_visible = cascade_by_loop(fs, of_pair, [cameras[i] for i, _ in pairs])
    by_infrared = cascade_by_loop(fs, of_pair, [cameras[j] for _, j in pairs])
    for name, a, v, r in zip(("sub", "intra", "inter"), images, by_visible, by_infrared):
        terms[f"loss_{name}"] = 2 / 3 * a + 1 / 3 * (v + r) / 2  # Eq. (16)
    if not with_diversity:
        del terms["loss_diversity"]
    return terms


@pytest.mark.parametrize("joint", [False, True])
def test_the_objective_term_by_term(joint):
    model, batch = make_model(joint=joint), make_batch()
    pairs = pairs_of(batch)
    assert len(pairs) == 8
    expected = objective_by_loop(model, batch, pairs)
    found = model(batch)
    assert found.keys() == expected.keys() == TERMS
    for name, value in expected.items():
        assert abs(value) > 1e-4
        torch.testing.assert_close(found[name], value)


def test_the_cascade_gathers_the_feature_that_is_named():
    """Before or after batch norm; f^s has no batch norm."""
    model, batch = make_model(feature="bn_features"), make_batch()
    outputs = outputs_of(model, batch)
    targets, kinds, cameras = (batch[name].tolist() for name in ("targets", "modalities", "camids"))
    pairs = pairs_of(batch)
    maps = outputs["feature_map"]
    fs = [synergy_by_loop(model, maps[i], maps[j])[1] for i, j in pairs]
    of_pair = [targets[i] for i, _ in pairs]
    images = cascade_by_loop(outputs["bn_features"], targets, list(zip(kinds, cameras)))
    by_visible = cascade_by_loop(fs, of_pair, [cameras[i] for i, _ in pairs])
    by_infrared = cascade_by_loop(fs, of_pair, [cameras[j] for _, j in pairs])
    found = model(batch)
    for name, a, v, r in zip(("sub", "intra", "inter"), images, by_visible, by_infrared):
        torch.testing.assert_close(found[f"loss_{name}"], 2 / 3 * a + 1 / 3 * (v + r) / 2)


# -------------------------------------------------------------------------- who is updated


def moved_by(model, batch):
    """Term to the parts (first word of the name) whose parameters it gives a gradient."""
    terms, moved = model(batch), {}
    for name, term in terms.items():
        model.zero_grad(set_to_none=True)
        term.backward(retain_graph=True)
        moved[name] = {
            n.split(".")[0]
            for n, p in model.named_parameters()
            if p.grad is not None and p.grad.abs().sum() > 0
        }
    return moved


def test_each_loss_moves_what_the_paper_says():
    """Eq. (14): theta_v, theta_r; Eq. (15): theta_s only; Eq. (16): all; ``joint`` opens (15)."""
    extractors = {"backbone", "heads"}
    expected = {
        "loss_id": extractors,
        "loss_diversity": extractors,
        "loss_local": {"synergy"},
        "loss_global": {"synergy"},
        "loss_sub": {"backbone", "synergy"},
        "loss_intra": {"backbone", "synergy"},
        "loss_inter": {"backbone", "synergy"},
    }
    batch = make_batch()
    assert moved_by(make_model(), batch) == expected
    for name in ("loss_local", "loss_global"):  # Eq. (6), (7)
        expected[name] = {"backbone", "synergy"}
    assert moved_by(make_model(joint=True), batch) == expected


def test_the_complement_alone_cannot_change_what_is_tested():
    """Eq. (15) without cascaded aggregation: the extractors' gradients are the baseline's."""
    batch = make_batch()
    with_mc, joint = (make_model({"diversity": 0, "cascade": 0}, joint=j) for j in (False, True))
    without = make_model({"diversity": 0, "local": 0, "global": 0, "cascade": 0})
    gradients = []
    for model in (without, with_mc, joint):
        model.load_state_dict(without.state_dict())
        sum(model(batch).values()).backward()
        gradients.append([p.grad for p in model.backbone.parameters()])
    for plain, mc, both in zip(*gradients):
        assert torch.equal(plain, mc) and not torch.allclose(plain, both)


# ------------------------------------------------------------------------------- inference


def method_cfg(name, *opts):
    """A config of the method, on the CPU, from random weights, with 5 identities."""
    words = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    words += ["MODEL.HEADS.NUM_CLASSES", "5", *map(str, opts)]
    return build_config(str(ROOT / f"configs/msclnet/{name}.yml"), words)


def test_the_synergy_module_costs_nothing_at_test():
    """Features, operations and modules run are those of the baseline with the same weights."""
    model = build_model(method_cfg("ablation/eq8"))
    words = ("MODEL.META_ARCHITECTURE", "DualStreamBaseline")
    baseline = build_model(method_cfg("ablation/eq8", *words))
    assert type(baseline) is DualStreamBaseline
    left = baseline.load_state_dict(model.state_dict(), strict=False)
    assert not left.missing_keys and all(k.startswith("synergy.") for k in left.unexpected_keys)
    calls = []
    for module in [*model.synergy.modules(), *model.pair_losses.values()]:
        module.register_forward_hook(lambda module, *_: calls.append(module))
    batch = take(make_batch(), torch.tensor([0, 1, 2, 4]))
    batch["images"] = torch.rand(4, 3, 96, 48) * 255
    with torch.no_grad():
        features = model.eval()(batch)
        assert torch.equal(features, baseline.eval()(batch))
        assert flops_per_image(model, (96, 48)) == flops_per_image(baseline, (96, 48))
        assert not calls
        model.train()(batch)  # with L_Com, which must not reach the extractors, and L_cascaded
        assert calls.count(model.synergy) == 2
        model.synergy = None  # at test it need not even be there
        model.load_state_dict(baseline.state_dict())  # the running statistics have moved
        assert torch.equal(model.eval()(batch), features)


def test_the_mean_of_a_normalized_map_says_nothing():
    """Why classifier and test see the plain map: of the other they would get beta."""
    norm = make_model().synergy.norm
    means = norm(torch.rand(3, C, 5, 4, dtype=torch.float64)).mean(dim=(2, 3))
    torch.testing.assert_close(means, norm.bias.expand(3, C))


# ------------------------------------------------------------------------------ parts and S


def test_learned_masks_in_the_place_of_stripes():
    module = SynergyModule(C, R, partition="masks", rounds=0, rank=0).double()
    maps = torch.randn(2, 3, C, 5, 4, dtype=torch.float64, requires_grad=True)
    normalized, plain = module.cut(*maps)
    conv = module.masks
    for image in range(3):
        for part in range(R):
            weight = torch.einsum("c,chw->hw", conv.weight[part, :, 0, 0], maps[0, image])
            mask = (weight + conv.bias[part]).sigmoid()
            for found, source in ((normalized, maps[0]), (plain, maps[1])):
                expected = (mask * source[image]).sum(dim=(1, 2)) / 20
                torch.testing.assert_close(found[image, part], expected)
    plain.sum().backward()
    assert conv.weight.grad is None  # what guides does not move the masks
    model = make_model(synergy=SynergyModule(C, R, partition="masks", rank=2))
    sum(model(make_batch()).values()).backward()
    assert model.synergy.masks.weight.grad.abs().sum() > 0


# ------------------------------------------------------------------- order, absence, precision


def test_order_means_nothing():
    model, batch = make_model(), make_batch()
    rows = torch.randperm(9)
    expected, found = model(batch), model(take(batch, rows))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("modality", list(Modality))
def test_without_a_pair_the_terms_of_pairs_are_zeros_in_the_graph(modality):
    model, whole = make_model(), make_batch()
    batch = take(whole, whole["modalities"] == modality)
    terms = model(batch)
    assert terms.keys() == TERMS
    assert all(terms[f"loss_{name}"] == 0 for name in ("diversity", "local", "global"))
    sum(terms.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.synergy.parameters())
    f, targets = outputs_of(model, batch)["features"], batch["targets"].tolist()
    expected = cascade_by_loop(f, targets, batch["camids"].tolist())
    for name, value in zip(("sub", "intra", "inter"), expected):
        torch.testing.assert_close(terms[f"loss_{name}"], 2 / 3 * value)


# ----------------------------------------------------------------------- schedule and switches


def test_l_div_starts_at_its_epoch():
    model, batch = make_model(diversity_start=3), make_batch()
    assert model.phases == ("plain", "diverse") and model.phase == "plain"
    assert [model.phase_of(e) for e in range(5)] == ["plain"] * 3 + ["diverse"] * 2
    expected = objective_by_loop(model, batch, pairs_of(batch), with_diversity=False)
    assert model(batch).keys() == expected.keys()
    model.phase = "diverse"
    assert model(batch).keys() == TERMS
    assert make_model().phases == ("diverse",)
    assert make_model({"diversity": 0.0}, diversity_start=3).phases == ("plain",)
    model.phase = "late"
    with pytest.raises(ValueError, match="phase is 'late'; expected one of"):
        model(batch)


def test_l_div_over_channels_takes_the_features():
    model, batch = make_model(diversity_of="channels"), make_batch()
    p, pairs = outputs_of(model, batch)["features"].softmax(dim=1), pairs_of(batch)
    expected = -0.5 * sum((p[i] * (p[i] / p[j]).log()).sum() for i, j in pairs) / len(pairs)
    torch.testing.assert_close(model(batch)["loss_diversity"], expected)


MS, MC, CA = {"diversity"}, {"local", "global"}, {"sub", "intra", "inter"}
ROWS = {  # Table 1: the losses of each row beside B and L_t, which is a part of the identity loss
    "baseline": set(),
    "div": MS,
    "t": set(),
    "global": {"global"},
    "local": {"local"},
    "sub": {"sub"},
    "intra": {"intra"},
    "inter": {"inter"},
    "ms": MS,
    "mc": MC,
    "ca": CA,
    "ms_mc": MS | MC,
    "ms_ca": MS | CA,
    "mc_ca": MC | CA,
    "full": MS | MC | CA,
}
WITH_L_T = {"t", "ms", "ms_mc", "ms_ca", "full"}


@pytest.mark.parametrize("row", ROWS)
def test_the_rows_of_table_1(row):
    """B = identity loss (a mean over all rows) and weighted triplet in each; L_t with MS."""
    cfg = method_cfg(f"ablation/{row}")
    nodes, cascade = cfg.MODEL.LOSSES, cfg.MODEL.LOSSES.CASCADED_AGGREGATION
    scales = {
        "diversity": nodes.DIVERSITY.SCALE,
        "local": nodes.LOCAL_COMPLEMENT.SCALE,
        "global": nodes.GLOBAL_COMPLEMENT.SCALE,
        **{name: cascade.SCALE * cascade[f"{name.upper()}_SCALE"] for name in CA},
    }
    printed = {"diversity": 0.5, "local": 0.8, "global": 1.5, "sub": 1, "intra": 1, "inter": 1}
    assert scales == {name: printed[name] * (name in ROWS[row]) for name in printed}
    assert list(nodes.NAME) == ["LabelSmoothingCrossEntropyLoss", "WeightedTripletLoss"]
    assert nodes.LABEL_SMOOTHING.PER_MODALITY  # half of the sum of two means is B's mean
    assert nodes.LABEL_SMOOTHING.SCALE == 0.5 + 1.25 * (row in WITH_L_T)
    assert cfg.MODEL.MSCLNET.JOINT


@pytest.mark.parametrize("row", ["baseline", "ms", "mc", "sub"])
def test_a_row_trains_what_it_lists(row):
    """The synergy module is there only for the losses that need it."""
    model = build_model(method_cfg(f"ablation/{row}", "MODEL.MSCLNET.PARTS", "2"))
    batch = make_batch()
    batch["images"] = torch.rand(9, 3, 32, 16) * 255  # a map of 2 x 1
    terms = {name: float(value) for name, value in model.train()(batch).items()}
    wanted = {f"loss_{name}" for name in ROWS[row] | (CA if row == "sub" else set())}
    assert terms.keys() == {"loss_id", "loss_weighted_triplet"} | wanted
    if row == "sub":  # one node has the three terms of the cascade; the others weigh nothing
        assert (terms["loss_intra"], terms["loss_inter"]) == (0, 0) and terms["loss_sub"] > 0
    assert (model.synergy is None) == (row in ("baseline", "ms"))


def test_the_method_has_b_and_eq17_has_not():
    """Table 1 ticks B in every row, also in the last; Eq. (8) trains S only."""
    full, default, eq17 = (
        method_cfg(name) for name in ("ablation/full", "synthetic", "ablation/eq17")
    )
    assert full.MODEL == default.MODEL and default.MODEL.MSCLNET.JOINT
    model = build_model(eq17)
    assert list(model.loss_terms) == ["LabelSmoothingCrossEntropyLoss"] and not model.joint
    assert model.loss_terms.scales == {"LabelSmoothingCrossEntropyLoss": 1.25}
    assert model.scales == SCALES
    eq8 = method_cfg("ablation/eq8")
    assert not eq8.MODEL.MSCLNET.JOINT and eq8.MODEL.LOSSES == default.MODEL.LOSSES


def test_rows_with_and_without_erasing_differ_in_nothing_else():
    """Like with like: the method and B, each with both augmentations."""
    for row, plain in (
        ("full", "plain_augmentation"),
        ("baseline", "baseline_plain_augmentation"),
    ):
        with_erasing, without = method_cfg(f"ablation/{row}"), method_cfg(f"ablation/{plain}")
        assert with_erasing.MODEL == without.MODEL
        assert with_erasing.INPUT.CHANNEL_ERASING.ENABLED
        with_erasing.INPUT.CHANNEL_ERASING.ENABLED = False
        assert with_erasing.INPUT == without.INPUT


def test_all_convolution_blocks_can_be_unshared():
    """Fig. 3; S and the head are one for both modalities."""
    model = build_model(method_cfg("ablation/unshared"))
    shared = [n for n, _ in model.backbone.named_parameters() if "visible" not in n]
    assert not any("layer" in name for name in shared if "infrared" not in name)


def test_the_numbers_of_the_paper():
    small = ("MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.NL_BLOCKS", "[0, 1, 1, 0]")
    cfg = method_cfg("sysu", *small)
    model = build_model(cfg)
    assert model.scales == SCALES and model.synergy.num_parts == 6
    cascade, cell = model.pair_losses["cascade"], model.synergy.encoder.cell
    assert (cascade.sub_scale, cascade.intra_scale, cascade.inter_scale) == (1.0, 1.0, 1.0)
    assert cell.hidden_size == 512 and len(cell.gates) == 5  # as wide as the map: here ResNet-18's
    assert cell.gates[0][0].weight.shape == (256, 512)
    solver, erasing = cfg.SOLVER, cfg.INPUT.CHANNEL_ERASING
    assert (solver.OPT, solver.BASE_LR, solver.MOMENTUM) == ("SGD", 0.1, 0.9)
    assert (solver.MAX_EPOCH, list(solver.STEPS)) == (200, [20, 50, 100])
    assert list(solver.STEP_FACTORS) == [0.5, 0.1, 0.01]
    assert (solver.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE) == (64, 4)
    assert list(cfg.INPUT.SIZE_TRAIN) == [288, 144]
    assert (erasing.ENABLED, erasing.PROB, list(erasing.AREA)) == (True, 0.8, [0.2, 0.8])


def test_every_key_reaches_what_it_names():
    """Values that are no default anywhere; keys of the losses: losses/test_registered.py."""
    node, diversity = "MODEL.MSCLNET.", "MODEL.LOSSES.DIVERSITY."
    words = (node + "PARTITION", "masks", node + "ROUNDS", 3)
    words += (node + "RANK", 8, node + "PARTS", 4, node + "JOINT", True)
    words += (diversity + "OF", "channels", diversity + "START_EPOCH", 7)
    words += (diversity + "CLAMP", 2.5, "MODEL.LOSSES.LOCAL_COMPLEMENT.LITERAL", True)
    words += ("MODEL.LOSSES.GLOBAL_COMPLEMENT.NORMALISE", False)
    words += ("MODEL.LOSSES.CASCADED_AGGREGATION.DISPERSION", "hinge")
    words += ("MODEL.LOSSES.CASCADED_AGGREGATION.FEATURE", "features")
    model = build_model(method_cfg("synthetic", *map(str, words)))
    synergy, cell, losses = model.synergy, model.synergy.encoder.cell, model.pair_losses
    assert synergy.masks.out_channels == synergy.num_parts == 4
    assert len(cell.gates) == 3 and cell.gates[0][0].weight.shape == (8, cell.hidden_size)
    assert model.joint
    assert (model.diversity_tensor, model.diversity_start) == ("features", 7)
    assert (losses["diversity"].clamp, losses["local"].literal) == (2.5, True)
    assert (losses["global"].normalise, losses["cascade"].dispersion) == (False, "hinge")
    assert losses["cascade"].feature == "features"


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "arguments,words",
    [
        ({"diversity_of": "pixels"}, "OF is 'pixels'; expected 'classes' or 'channels'"),
        ({"diversity_start": -1}, "START_EPOCH is -1; expected 0 or more"),
        ({"scales": {"local": -0.1}}, "LOCAL_COMPLEMENT.SCALE is -0.1; expected 0 or more"),
    ],
)
def test_what_is_out_of_range_names_its_key(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_model(**arguments)


def test_missing_labels_and_losses_named_twice_are_refused():
    model, batch = build_model(method_cfg("synthetic", "MODEL.MSCLNET.PARTS", 2)), make_batch()
    batch["images"] = torch.rand(9, 3, 32, 16)
    del batch["camids"]
    with pytest.raises(ValueError, match="MSCLNet needs camids"):
        model.train()(batch)
    words = ("MODEL.LOSSES.NAME", '("CascadedAggregationLoss",)')
    with pytest.raises(ValueError, match="take CascadedAggregationLoss out"):
        build_model(method_cfg("synthetic", *words))


def test_a_head_without_the_feature_of_the_cascade_is_refused():
    words = "MODEL.LOSSES.CASCADED_AGGREGATION.FEATURE is 'bn_features', which EmbeddingHead does"
    with pytest.raises(ValueError, match=words):
        build_model(method_cfg("synthetic", "MODEL.HEADS.NAME", "EmbeddingHead"))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="MODEL.MSCLNET.RANK is 6; .*map's 6 channels"):
        SynergyModule(C, R, rank=6)
    with pytest.raises(ValueError, match="PARTITION is '.*'; expected 'stripes' or 'masks'"):
        SynergyModule(C, R, partition="rows", rank=2)
    with pytest.raises(ValueError, match="PARTS is 0; expected 1 or more"):
        SynergyModule(C, 0, rank=2)
    with pytest.raises(ValueError, match="5 rows cannot be cut into 6 .*MODEL.MSCLNET.PARTS"):
        SynergyModule(C, 6, rank=2)(torch.rand(1, C, 5, 4), *2 * [torch.tensor([0])])
    with pytest.raises(ValueError, match="set MODEL.BACKBONE.NAME to build_dual_stream_resnet"):
        build_model(
            method_cfg(
                "synthetic",
                "MODEL.BACKBONE.NAME",
                "build_resnet_backbone",
                "MODEL.BACKBONE.WITH_NL",
                "False",
            )
        )
