"""CAJ and CAJ+. Oracles: values that the public code (mangye16/Cross-Modal-Re-ID-baseline, commit
e817a26, PAMI23_Supervised/loss.py and train_ext.py) gave for the same tensors, loops from the
formulas, and the configs against that code's numbers."""

import math

import pytest
import torch
from torch import nn

from vireid_plugins import Modality
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modeling.heads import BNNeckHead
from vireid_plugins.modeling.losses import LabelSmoothingCrossEntropyLoss, WeightedTripletLoss
from vireid_plugins.modeling.losses.build import LossTerms
from vireid_plugins.modeling.meta_arch import CAJ
from vireid_plugins.modeling.meta_arch.caj import co_refinement, modality_divergence

from fastreid.modeling.meta_arch import build_model

from tests.engine.small import ROOT
from tests.modeling.small import Backbone, stand_still

N = 5


def waves(rows, columns, scale):
    """The tensor that the public code was given, float64; it comes from no generator."""
    i = torch.arange(rows, dtype=torch.float64).unsqueeze(1)
    j = torch.arange(columns, dtype=torch.float64)
    return scale * torch.sin(3.7 * i + 1.3 * j + 0.5 * i * j)


def three_views(targets):
    """Labels of [originals; exchanged; infrared], the row order of the public code."""
    count = len(targets)
    return {
        "targets": torch.tensor(targets).repeat(3),
        "modalities": torch.tensor([0, 0, 1]).repeat_interleave(count),
        "views": torch.tensor([0, 1, 0]).repeat_interleave(count),
        "index": torch.cat([torch.arange(count).repeat(2), torch.arange(count) + count]),
    }


# ---------------------------------------------------------------------------------- the losses

# scale of the features, alpha, gamma, TripletLoss_ADP(square=1) of two identities x 3 images in
# three views, and the sum of its gradient times 0, 1, 2, ...: un-normalized features. At scale 20
# the negatives' legacy weights are nothing, every difference is cut at 88, and no gradient is left.
SIGNED_SQUARE = [
    (0.5, 1.0, 1.0, 0.69650171, 0.3276322),
    (0.5, 2.0, 0.5, 0.70114485, 0.42484703),
    (2.0, 1.0, 1.0, 1.84458849, 25.33364245),
    (5.0, 1.0, 1.0, 27.43437644, 170.55808916),
    (5.0, 2.0, 0.5, 79.08338877, -71.9655342),
    (20.0, 1.0, 1.0, 88.0, 0.0),
]


@pytest.mark.parametrize("scale, alpha, gamma, expected, gradient", SIGNED_SQUARE)
def test_signed_square_on_three_views_equals_the_public_code(
    scale, alpha, gamma, expected, gradient
):
    labels, order = three_views([0, 0, 0, 1, 1, 1]), torch.randperm(18)
    features = waves(18, 5, scale)[order].requires_grad_()
    loss = WeightedTripletLoss("signed_square", alpha=alpha, gamma=gamma, legacy_weights=True)
    value = loss(features, labels["targets"][order])
    value.backward()
    assert value.item() == pytest.approx(expected, abs=2e-6 * expected)
    places = torch.arange(90, dtype=torch.float64).view(18, 5)[order]
    assert (features.grad * places).sum().item() == pytest.approx(gradient, rel=1e-4, abs=1e-6)


# KLDivLoss()(originals, infrared) and CoRefineLoss()(originals, exchanged) of the logits
# waves(12, 6, 4), four identities with one image each; and the gradient of the first row.
KL = (6.31409199765682, [0.06501929, 0.26291396, -0.00350037, -0.26576678, -0.12978144, 0.07111534])
REFINE = (
    4.84657750211092,
    [-0.15588387, 0.20118901, -0.02999614, -0.00100566, -0.02009717, 0.00579384],
)


@pytest.mark.parametrize("shuffled", [False, True])
def test_divergence_and_refinement_equal_the_public_code(shuffled):
    order = torch.randperm(12) if shuffled else torch.arange(12)
    labels = {name: values[order] for name, values in three_views([0, 1, 2, 3]).items()}
    for expected, gradient, compute in (
        (
            *KL,
            lambda z: modality_divergence(
                z, labels["targets"], labels["modalities"], labels["views"], 3.0
            ),
        ),
        (
            *REFINE,
            lambda z: co_refinement(z, labels["index"], labels["modalities"], labels["views"]),
        ),
    ):
        logits = waves(12, 6, 4.0)[order].requires_grad_()
        value = compute(logits)
        value.backward()
        assert value.item() == pytest.approx(expected, rel=1e-9)
        in_place = logits.grad[torch.argsort(order)]
        torch.testing.assert_close(
            in_place[0], torch.tensor(gradient, dtype=torch.float64), rtol=0, atol=1e-8
        )
        assert in_place[:4].abs().sum(dim=1).min() > 0  # only the originals learn
        assert in_place[4:].abs().sum() == 0


def softmax(scores):
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def ragged(rows=40):
    """Logits and labels without any balance: views, identities and repeated images at random."""
    labels = {
        "targets": torch.randint(0, 3, (rows,)),
        "modalities": torch.randint(0, 2, (rows,)),
        "views": torch.randint(0, 3, (rows,)),
        "index": torch.randint(0, 4, (rows,)),
    }
    return torch.randn(rows, N, dtype=torch.float64), labels


@pytest.mark.parametrize("seed", range(4))
def test_divergence_by_loop(seed):
    """Mean over the original visible rows of the mean over the infrared rows of the identity."""
    torch.manual_seed(seed)
    logits, labels = ragged()
    rows = list(
        zip(logits.tolist(), *(labels[n].tolist() for n in ("targets", "modalities", "views")))
    )
    terms = []
    for z, y, modality, view in rows:
        if modality == Modality.VISIBLE and view == 0:
            own = []
            for other, w, other_modality, _ in rows:
                if other_modality == Modality.INFRARED and w == y:
                    p, q = (softmax([v / 2.5 for v in scores]) for scores in (other, z))
                    own.append(2.5**2 * sum(a * math.log(a / b) for a, b in zip(p, q)))
            terms += [sum(own) / len(own)] if own else []
    assert terms
    found = modality_divergence(
        logits, labels["targets"], labels["modalities"], labels["views"], 2.5
    )
    assert found.item() == pytest.approx(sum(terms) / len(terms), abs=1e-4)  # 1e-7 per class


@pytest.mark.parametrize("seed", range(4))
def test_refinement_by_loop(seed):
    """Each original row against the mean prediction of the exchanged rows of its image."""
    torch.manual_seed(seed)
    logits, labels = ragged()
    predictions = [softmax(z) for z in logits.tolist()]
    modalities, views, index = (labels[n].tolist() for n in ("modalities", "views", "index"))
    visible = [row for row, m in enumerate(modalities) if m == Modality.VISIBLE]
    terms = []
    for row in (r for r in visible if views[r] == 0):
        partners = [predictions[r] for r in visible if views[r] == 1 and index[r] == index[row]]
        if partners:
            wanted = [sum(column) / len(partners) for column in zip(*partners)]
            terms.append(-sum(w * math.log(p) for w, p in zip(wanted, predictions[row])))
    assert terms
    found = co_refinement(logits, labels["index"], labels["modalities"], labels["views"])
    assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-9)


def test_refinement_of_an_image_drawn_twice_by_loop():
    """``draw``: the k-th row of view 0 with the k-th of view 1, whatever stands between them."""
    torch.manual_seed(0)
    logits = torch.randn(8, N, dtype=torch.float64)
    index = torch.tensor([5, 5, 5, 2, 5, 2, 7, 9])
    views = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1])
    modalities = torch.zeros(8, dtype=torch.int64)
    pairs = [(0, 1), (2, 4), (3, 5)]  # 7 has no view 1, 9 no view 0
    predictions = [softmax(z) for z in logits.tolist()]
    terms = [
        -sum(w * math.log(p) for w, p in zip(predictions[strong], predictions[weak]))
        for weak, strong in pairs
    ]
    found = co_refinement(logits, index, modalities, views, "draw")
    assert found.item() == pytest.approx(sum(terms) / 3, rel=1e-12)
    assert co_refinement(logits, index, modalities, views).item() != pytest.approx(sum(terms) / 3)


def test_no_pair_gives_a_zero_in_its_graph():
    labels = three_views([0, 1, 2])
    for rows in (labels["modalities"] == 0, labels["modalities"] == 1):  # one modality
        part = {name: values[rows] for name, values in labels.items()}
        logits = torch.randn(int(rows.sum()), N, requires_grad=True)
        value = modality_divergence(logits, part["targets"], part["modalities"], part["views"], 3.0)
        value.backward()
        assert value.item() == 0 and logits.grad.abs().sum() == 0
    logits = torch.randn(9, N, requires_grad=True)
    alone = torch.zeros(9, dtype=torch.int64)  # no image has a view 1
    co_refinement(logits, labels["index"], labels["modalities"], alone).backward()
    assert logits.grad.abs().sum() == 0


# ---------------------------------------------------------------------------------- the model


def small_model(**arguments):
    """Two losses under the names of the configs; batch norm stands still."""
    losses = {
        "id": LabelSmoothingCrossEntropyLoss(0.0),
        "triplet": WeightedTripletLoss("signed_square"),
    }
    head = BNNeckHead(
        feat_dim=6,
        embedding_dim=0,
        num_classes=N,
        neck_feat="before",
        pool_type="GlobalAvgPool",
        cls_type="Linear",
        scale=1,
        margin=0,
        with_bnneck=True,
        norm_type="BN",
    )
    nn.init.normal_(head.weight)  # predictions far from uniform
    model = CAJ(
        backbone=Backbone(),
        heads=head,
        loss_terms=LossTerms(losses, {"id": 1.0, "triplet": 1.0}),
        pixel_mean=[120.0, 110.0, 100.0],
        pixel_std=[60.0, 50.0, 40.0],
        **arguments,
    )
    return stand_still(model)


def make_batch():
    labels = three_views([0, 0, 1, 2])
    return {"images": torch.rand(12, 3, 7, 4) * 255, **labels}


def test_the_terms_and_their_weights():
    torch.manual_seed(0)
    model, batch = small_model(kl_scale=0.7, temperature=2.0, refine_scale=1.3), make_batch()
    feature_map = model.extract(model.normalize(batch["images"]), batch["modalities"])
    outputs = model.heads(feature_map)
    logits, targets = outputs["logits"], batch["targets"]
    triplet = model.loss_terms["triplet"](outputs["features"], targets)
    expected = {
        "loss_id": -logits.log_softmax(1)[torch.arange(12), targets].mean(),  # over all 12 rows
        "loss_weighted_triplet": triplet,
        "loss_kl": 0.7
        * modality_divergence(logits, targets, batch["modalities"], batch["views"], 2.0),
        "loss_refine": 1.3
        * co_refinement(logits, batch["index"], batch["modalities"], batch["views"]),
    }
    found = model(batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
        assert value > 0


def test_without_the_two_scales_it_is_the_baseline_on_more_rows():
    model, batch = small_model(), make_batch()
    assert model(batch).keys() == {"loss_id", "loss_weighted_triplet"}
    without = {name: value for name, value in batch.items() if name not in ("views", "index")}
    assert all(torch.equal(model(batch)[n], v) for n, v in model(without).items())


def test_without_views_every_visible_row_is_an_original():
    batch = make_batch()
    rows = batch["views"] == 0
    plain = {name: value[rows] for name, value in batch.items()}
    without = {name: value for name, value in plain.items() if name != "views"}
    model = small_model(kl_scale=1.0)
    assert torch.equal(model(plain)["loss_kl"], model(without)["loss_kl"])


@pytest.mark.parametrize("missing", [("views",), ("index",), ("views", "index")])
def test_refinement_without_views_says_what_is_missing(missing):
    batch = {name: value for name, value in make_batch().items() if name not in missing}
    with pytest.raises(ValueError, match=f"no {' and no '.join(missing)} .*NUM_VIEWS.VISIBLE 2"):
        small_model(refine_scale=1.0)(batch)


def test_bfloat16_is_finite_and_near_float32():
    model, batch = small_model(kl_scale=1.0, refine_scale=1.0), make_batch()
    plain = model(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = model(batch)
    sum(terms.values()).backward()
    for name, value in plain.items():
        assert terms[name].dtype is torch.float32
        torch.testing.assert_close(terms[name], value, rtol=0.05, atol=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("kl_scale", -0.1, "MODEL.CAJ.KL_SCALE is -0.1"),
        ("refine_scale", float("nan"), "MODEL.CAJ.REFINE_SCALE is nan"),
        ("temperature", 0.0, "MODEL.CAJ.TEMPERATURE is 0.0"),
    ],
)
def test_a_number_out_of_range_names_its_key(name, value, expected):
    with pytest.raises(ValueError, match=expected):
        small_model(**{name: value})


def test_every_key_reaches_what_it_names():
    words = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    words += ["MODEL.HEADS.NUM_CLASSES", str(N), "MODEL.CAJ.KL_SCALE", "0.3"]
    words += ["MODEL.CAJ.TEMPERATURE", "5.0", "MODEL.CAJ.REFINE_SCALE", "0.4"]
    model = build_model(build_config(str(ROOT / "configs/caj/synthetic.yml"), words))
    assert (model.kl_scale, model.temperature, model.refine_scale) == (0.3, 5.0, 0.4)


def test_a_head_without_logits_is_refused_where_a_term_needs_them():
    class Bare(nn.Module):
        outputs = ("features",)

    arguments = dict(
        backbone=Backbone(),
        heads=Bare(),
        loss_terms=LossTerms({}, {}),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )
    CAJ(**arguments)
    for name in ("kl_scale", "refine_scale"):
        with pytest.raises(ValueError, match=f"{name.upper()} is 1.0.*Bare gives none"):
            CAJ(**arguments, **{name: 1.0})


# ---------------------------------------------------------------------------------- configs


def caj_cfg(name, *opts):
    """A config of the method, on the CPU, from random weights, with 5 identities."""
    words = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    words += ["MODEL.HEADS.NUM_CLASSES", str(N), *map(str, opts)]
    return build_config(str(ROOT / f"configs/caj/{name}.yml"), words)


@pytest.mark.parametrize("name", ["sysu", "regdb", "llcm"])
def test_the_numbers_of_the_public_code(name):
    cfg = caj_cfg(name)
    solver, node = cfg.SOLVER, cfg.MODEL.LOSSES.WEIGHTED_TRIPLET
    assert (cfg.INPUT.NUM_VIEWS.VISIBLE, cfg.INPUT.NUM_VIEWS.INFRARED) == (2, 1)
    assert (solver.IMS_PER_BATCH, cfg.DATALOADER.NUM_INSTANCE) == (64, 4)  # 96 rows in all
    assert list(cfg.INPUT.SIZE_TRAIN) == [288, 144] and cfg.INPUT.PADDING.SIZE == 10
    assert (solver.MAX_EPOCH, list(solver.STEPS), solver.WARMUP_EPOCHS) == (100, [20, 50], 10)
    assert (solver.BASE_LR, solver.BACKBONE_LR_FACTOR) == (0.1, 0.1)
    assert (solver.MOMENTUM, solver.NESTEROV, solver.WEIGHT_DECAY) == (0.9, True, 5e-4)
    assert (node.REDUCTION, node.ALPHA, node.GAMMA) == ("signed_square", 1.0, 1.0)
    assert cfg.MODEL.LOSSES.LABEL_SMOOTHING.SMOOTHING == 0.0
    assert (cfg.MODEL.CAJ.KL_SCALE, cfg.MODEL.CAJ.REFINE_SCALE) == (0.0, 0.0)


def test_the_legacy_switches_are_on_in_reference_alone():
    for name, legacy in (("sysu", False), ("reference", True)):
        cfg = caj_cfg(name, "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.NL_BLOCKS", "[0,1,1,0]")
        model = build_model(cfg)
        assert isinstance(model, CAJ)
        assert model.loss_terms["WeightedTripletLoss"].legacy_weights == legacy
        assert (model.backbone.shared["layer2"].non_local["1"].inter_channels == 1) == legacy


def pieces(row):
    """Views of a visible image, and whether exchange, gray and erasing are on; the loss."""
    cfg = caj_cfg(f"ablation/{row}")
    inputs, losses = cfg.INPUT, cfg.MODEL.LOSSES
    triplet = losses.NAME[1]
    return (
        inputs.NUM_VIEWS.VISIBLE,
        inputs.CHANNEL_EXCHANGE.ENABLED,
        inputs.ADAPTIVE_GREY.ENABLED,
        inputs.CHANNEL_ERASING.ENABLED,
        losses.WEIGHTED_TRIPLET.REDUCTION if triplet == "WeightedTripletLoss" else triplet,
    )


def test_the_rows_of_the_ablation_add_one_piece_each():
    """Baseline without any; then exchange, erasing, signed square, each with and without."""
    assert pieces("baseline") == (1, False, False, False, "softplus")
    assert pieces("exchange") == (2, True, True, False, "softplus")
    assert pieces("softplus") == (2, True, True, True, "softplus")
    assert pieces("no_erasing") == (2, True, True, False, "signed_square")
    assert pieces("full") == (2, True, True, True, "signed_square")
    assert pieces("baseline_same_augmentation") == (2, True, True, True, "BatchHardTripletLoss")


@pytest.mark.parametrize(
    ("row", "other"),
    [
        ("softplus", "full"),
        ("baseline_same_augmentation", "full"),
        ("plus_softplus", "plus"),
        ("plus_baseline_same_augmentation", "plus"),
    ],
)
def test_rows_with_other_losses_have_the_same_images(row, other):
    cfg, method = caj_cfg(f"ablation/{row}"), caj_cfg(f"ablation/{other}")
    assert cfg.INPUT == method.INPUT and cfg.MODEL.BACKBONE == method.MODEL.BACKBONE
    assert cfg.MODEL.HEADS == method.MODEL.HEADS and cfg.SOLVER == method.SOLVER
    assert cfg.MODEL.LOSSES != method.MODEL.LOSSES


def test_refinement_with_one_view_is_refused_when_built():
    cfg = caj_cfg("ablation/plus", "INPUT.NUM_VIEWS.VISIBLE", 1)
    with pytest.raises(ValueError, match=r"set INPUT.NUM_VIEWS.VISIBLE 2 \(now 1\)"):
        build_model(cfg)
