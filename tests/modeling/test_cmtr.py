"""CMTR. Oracles: f - phi_m(e^m) and L_overall by loops over images; the baseline with the same
weights; the weights that each term may move."""

import copy
import logging

import pytest
import torch
from torch import nn

from vireid_plugins.engine.setup import build_config
from vireid_plugins.merge import flat_values
from vireid_plugins.modeling.heads import BNNeckHead
from vireid_plugins.modeling.layers import ModalityRemoval
from vireid_plugins.modeling.losses import (
    LabelSmoothingCrossEntropyLoss,
    ModalityAwareCenterLoss,
    ModalityAwareIdentityLoss,
    WeightedTripletLoss,
)
from vireid_plugins.modeling.losses.build import LossTerms
from vireid_plugins.modeling.meta_arch import CMTR, DualStreamBaseline
from vireid_plugins.solver.build import parameter_groups

from fastreid.modeling.meta_arch import build_model

from tests.engine.small import ROOT
from tests.modeling.small import CHANNELS, Backbone, stand_still

N = 4
NAMES = ("id", "triplet", "ModalityAwareCenterLoss", "ModalityAwareIdentityLoss")
SCALES = {"ModalityAwareCenterLoss": 0.5, "ModalityAwareIdentityLoss": 3.0}
OWN = ("loss_modality_aware_center", "loss_modality_aware_id")


class Embedded(Backbone):
    """Adds each image's modality embedding to its map."""

    def __init__(self):
        super().__init__()
        self.modality_embedding = nn.Parameter(torch.randn(2, CHANNELS))

    def forward(self, images, modalities):
        return (
            super().forward(images, modalities)
            + self.modality_embedding[modalities][..., None, None]
        )


def make_head(**words):
    return BNNeckHead(
        feat_dim=CHANNELS,
        embedding_dim=0,
        num_classes=N,
        neck_feat="before",
        pool_type="GlobalAvgPool",
        cls_type="Linear",
        scale=1,
        margin=0.0,
        with_bnneck=True,
        norm_type="BN",
        **words,
    )


def make_model(kind=CMTR, names=NAMES, center="both", shared=False, backbone=Embedded, **words):
    torch.manual_seed(0)
    losses = {
        "id": LabelSmoothingCrossEntropyLoss(0.0),
        "triplet": WeightedTripletLoss(),
        "ModalityAwareCenterLoss": ModalityAwareCenterLoss(center),
        "ModalityAwareIdentityLoss": ModalityAwareIdentityLoss(N, CHANNELS, shared),
    }
    model = kind(
        backbone=backbone(),
        heads=words.pop("heads", None) or make_head(),
        loss_terms=LossTerms({n: losses[n] for n in names}, {n: SCALES.get(n, 1) for n in names}),
        pixel_mean=[120.0, 110.0, 100.0],
        pixel_std=[60.0, 50.0, 40.0],
        **words,
    ).double()
    for name, parameter in model.named_parameters():
        if name.startswith(("heads", "loss_terms", "removal")):  # nothing stays at a special value
            nn.init.normal_(parameter)
    return model


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "images": torch.rand(8, 3, 5, 4, generator=generator, dtype=torch.float64) * 255,
        "targets": torch.tensor([0, 2, 0, 2, 0, 2, 2, 0]),
        "modalities": torch.tensor([0, 1, 0, 0, 1, 1, 0, 1]),
    }


def outputs_of(model, batch):
    images = model.normalize(batch["images"])
    feature_map = model.extract(images, batch["modalities"])
    return model.heads(feature_map, batch["targets"], batch["modalities"])


def phi(model, form, modality):
    """The mapping of one modality's embedding, number by number."""
    embedding = model.backbone.modality_embedding[modality]
    if form == "identity":
        return embedding
    layer = model.removal.mappings[("visible", "infrared")[modality]]
    rows = [sum(w * e for w, e in zip(row, embedding)) for row in layer.weight]
    return torch.stack(rows) + (layer.bias if form == "affine" else 0)


def removed_by_a_loop(model, form, features, modalities):
    rows = zip(features, modalities.tolist())
    return torch.stack([f - phi(model, form, m) for f, m in rows])


def gradients_of(value, weights):
    found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found)]


@pytest.mark.parametrize("form", ["linear", "affine", "identity"])
@pytest.mark.parametrize("shared", [False, True])
def test_the_objective_equals_its_formula(form, shared, batch):
    """L_ID + L_WRT + lambda (L_MAC + L_MAID) on f = BN(V) - phi_m(e^m), with all gradients."""
    model = stand_still(make_model(phi=form, lambda_mae=0.25, shared=shared))
    outputs = outputs_of(model, batch)
    bare = removed_by_a_loop(model, form, outputs["bn_features"], batch["modalities"])
    center, identity = 0.0, 0.0
    own = model.heads.weight if shared else model.loss_terms["ModalityAwareIdentityLoss"].weight
    for g, target in zip(bare, batch["targets"].tolist()):
        c = bare[batch["targets"] == target].mean(0)  # all images of the identity
        center += torch.log(1 + torch.exp((g - c).norm())) / 8
        identity -= (own @ g).log_softmax(0)[target] / 8
    found, labels = model(batch), batch["targets"]
    expected = {
        "loss_id": nn.functional.cross_entropy(outputs["logits"], labels),
        "loss_weighted_triplet": WeightedTripletLoss()(outputs["features"], labels),
        "loss_modality_aware_center": 0.25 * 0.5 * center,
        "loss_modality_aware_id": 0.25 * 3.0 * identity,
    }
    assert list(found) == list(expected)
    weights = [p for p in model.parameters() if p.requires_grad]
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
        sides = [gradients_of(terms[name], weights) for terms in (found, expected)]
        torch.testing.assert_close(*sides)


def test_an_example_worked_by_hand():
    """e^vis = (1, 0) becomes (2, 3), e^ir = (0, 2) becomes (-2, 0)."""
    removal = ModalityRemoval("linear", 2, 2)
    with torch.no_grad():
        removal.mappings["visible"].weight.copy_(torch.tensor([[2.0, 9.0], [3.0, 9.0]]))
        removal.mappings["infrared"].weight.copy_(torch.tensor([[9.0, -1.0], [9.0, 0.0]]))
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    features = torch.tensor([[5.0, 5.0], [5.0, 5.0], [0.0, 1.0]])
    found = removal(features, embeddings, torch.tensor([0, 1, 1]))
    assert found.tolist() == [[3.0, 2.0], [7.0, 5.0], [2.0, 1.0]]


@pytest.mark.parametrize("form", ["linear", "affine"])
def test_what_is_removed_is_small_at_the_start(form):
    torch.manual_seed(0)
    removal = ModalityRemoval(form, 400, 300)
    for layer in removal.mappings.values():
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert (layer.bias is None) == (form == "linear")
        assert layer.bias is None or not layer.bias.any()
    assert removal.removed(torch.zeros(2, 400)).abs().max() == 0


def test_without_its_own_terms_it_is_the_baseline(batch):
    model = stand_still(make_model())
    plain = stand_still(make_model(DualStreamBaseline, names=NAMES[:2]))
    plain.load_state_dict(model.state_dict(), strict=False)
    found, expected = model(batch), plain(batch)
    assert set(found) == {*expected, *OWN}
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(model.eval()(batch), plain.eval()(batch))  # f is tested


def test_without_removal_both_losses_see_f(batch):
    model = stand_still(make_model(phi="none", backbone=Backbone))
    assert model.removal is None and model.measures() == {}
    features = outputs_of(model, batch)["bn_features"]
    expected = 0.5 * ModalityAwareCenterLoss()(features, batch["targets"])
    torch.testing.assert_close(model(batch)["loss_modality_aware_center"], expected)


def gradients(model, batch, term):
    model.zero_grad(set_to_none=True)
    model(batch)[term].backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("term", OWN)
def test_each_term_teaches_the_embedding_and_the_mappings(term, batch):
    found = gradients(stand_still(make_model()), batch, term)
    for modality in ("visible", "infrared"):
        assert found[f"removal.mappings.{modality}.weight"].abs().min() > 0
    assert found["backbone.modality_embedding"].abs().min() > 0


def test_the_mappings_learn_nothing_of_centers_per_modality(batch):
    """phi_m(e^m) is the same in a feature and in its center."""
    found = gradients(stand_still(make_model(center="per_modality")), batch, OWN[0])
    assert all(found[n].abs().max() < 1e-12 for n in found if n.startswith("removal"))


def test_a_weight_of_zero_takes_both_terms_away(batch):
    terms = stand_still(make_model(lambda_mae=0.0))(batch)
    assert [terms[name].item() for name in OWN] == [0, 0] and terms["loss_id"] > 0


def test_features_without_modality_can_be_tested(batch):
    model = make_model(test_removed=True).eval()
    plain = make_model().eval()
    expected = removed_by_a_loop(model, "linear", plain(batch), batch["modalities"])
    torch.testing.assert_close(model(batch), expected)
    assert model.training_only == () and plain.training_only == ("removal",)
    assert (model.test_feature, plain.test_feature) == (
        "after BNNeck, modality removed",
        "after BNNeck",
    )


def test_the_log_has_the_lengths_of_what_is_removed():
    model = make_model()
    visible, infrared = (phi(model, "linear", modality).detach() for modality in (0, 1))
    found = {name: value.item() for name, value in model.measures().items()}
    assert found == pytest.approx(
        {
            "removed_visible": visible.norm().item(),
            "removed_infrared": infrared.norm().item(),
            "removed_difference": (visible - infrared).norm().item(),
        }
    )


def test_the_least_value_of_the_center_loss_is_said(caplog):
    with caplog.at_level(logging.INFO, "vireid_plugins"):
        make_model(lambda_mae=2.0)
    assert "loss_modality_aware_center" in caplog.text and "below 0.693" in caplog.text
    caplog.clear()
    make_model(names=("id", "ModalityAwareIdentityLoss"))
    assert "below" not in caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"backbone": Backbone}, "MODALITY_EMBEDDING patches.*PHI none"),
        ({"names": NAMES[:2]}, "MODEL.LOSSES.NAME names none of ModalityAwareCenterLoss and"),
        ({"phi": "none", "test_removed": True}, "TEST_REMOVED is True.*PHI none"),
        ({"test_removed": True, "heads": "both"}, "TEST.FEATURE is 'both'.*set TEST.FEATURE bn"),
        ({"phi": "cubic"}, "MODEL.CMTR.PHI"),
        ({"lambda_mae": -1.0}, "MODEL.CMTR.LAMBDA"),
    ],
)
def test_mistakes_are_named(words, message):
    if "heads" in words:
        words = {**words, "heads": make_head(evaluated=words["heads"])}
    with pytest.raises(ValueError, match=message):
        make_model(**words)


def test_a_head_without_the_feature_or_the_classifier_is_named():
    class Host(nn.Module):
        outputs = ("features", "logits")

    with pytest.raises(ValueError, match="after the BNNeck, which Host.*BNNeckHead"):
        make_model(heads=Host())
    Host.outputs = ("features", "bn_features", "logits")
    with pytest.raises(ValueError, match="SHARED is True, and the classifier of Host"):
        make_model(heads=Host(), shared=True, phi="none")


def test_an_embedding_of_another_width_than_the_feature_is_named():
    with pytest.raises(ValueError, match="PHI is 'identity'.*3 numbers and the feature 5"):
        ModalityRemoval("identity", 3, 5)


def test_the_batch_is_not_changed(batch):
    kept = copy.deepcopy(batch)
    make_model().train()(batch)
    assert all(torch.equal(batch[name], kept[name]) for name in kept)


def transformer(**backbone):
    """CMTR on a vision transformer of two blocks, by its config; embeddings and phi not small."""
    tiny = pytest.importorskip("tests.modeling.tiny_vit")
    cfg = tiny.vit_cfg(
        UNSHARED_STAGES=0, **{"MODALITY_EMBEDDING": "patches", "STRIDE_SIZE": (4, 8), **backbone}
    )
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "CMTR", "cpu"
    cfg.MODEL.HEADS.NAME, cfg.MODEL.HEADS.NUM_CLASSES = "BNNeckHead", N
    cfg.MODEL.HEADS.WITH_BNNECK, cfg.MODEL.HEADS.POOL_LAYER = True, "GlobalAvgPool"
    cfg.MODEL.LOSSES.NAME = ["LabelSmoothingCrossEntropyLoss", *NAMES[2:]]
    torch.manual_seed(0)
    model = build_model(cfg)
    for name, parameter in model.named_parameters():
        if "modality_embedding" in name or "removal" in name:
            nn.init.normal_(parameter)
    return model, cfg


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(2)
    return {
        "images": torch.rand(4, 3, 32, 16, generator=generator) * 255,
        "targets": torch.tensor([1, 1, 3, 3]),
        "modalities": torch.tensor([1, 0, 0, 1]),
    }


def test_the_embedding_that_is_removed_is_that_of_the_tokens(images):
    """Oracle: the tokens before the first block, with and without the embedding."""
    model, _ = transformer(MODALITY_SCALE=3.0)
    backbone = model.backbone
    pixels, modalities = model.normalize(images["images"]), images["modalities"]
    tokens = backbone.forward_stages(pixels, modalities, backbone.stages[:1])
    with torch.no_grad():
        kept = model.embeddings.clone()
        backbone.modality_embedding.zero_()
    plain = backbone.forward_stages(pixels, modalities, backbone.stages[:1])
    difference = (tokens - plain)[:, 1:]
    expected = kept[modalities].unsqueeze(1).expand_as(difference)
    torch.testing.assert_close(difference, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(tokens[:, 0], plain[:, 0])  # the class token gets none


def test_the_embedding_learns_at_the_rate_of_the_head():
    model, cfg = transformer()
    cfg.SOLVER.BACKBONE_LR_FACTOR, cfg.SOLVER.BASE_LR = 0.25, 1.0
    rates = {id(p): g["lr"] for g in parameter_groups(cfg, model) for p in g["params"]}
    assert rates[id(model.backbone.modality_embedding)] == 1.0
    assert rates[id(model.backbone.shared["block1"].block.mlp.fc1.weight)] == 0.25


@pytest.mark.parametrize("tested", [False, True])
def test_a_graph_gives_the_features_of_the_model(tested, images):
    """Its images have another size than in training: positions are resized in the graph."""
    pytest.importorskip("onnxruntime")
    compare = pytest.importorskip("vireid_plugins.onnx_export.compare")
    graph = pytest.importorskip("vireid_plugins.onnx_export.graph")
    model, _ = transformer()
    model.eval().test_removed = tested
    session = compare.open_session(graph.record(model, (40, 16)), threads=1)
    labels = torch.rand(3, 3, 40, 16) * 255, images["modalities"][:3]
    expected = compare.pytorch_features(model, *labels)
    torch.testing.assert_close(
        *(torch.as_tensor(f) for f in (compare.onnx_features(session, *labels), expected)),
        atol=2e-6,
        rtol=0,
    )


def test_the_place_where_it_looks_can_be_drawn(images):
    from vireid_plugins.plots.rollout import rollout_map

    model, _ = transformer()
    maps = rollout_map(model.eval(), images).maps
    assert maps.shape == (4, 7, 2) and maps.min() > 0
    other = rollout_map(model, {**images, "modalities": 1 - images["modalities"]}).maps
    assert abs(maps - other).max() > 1e-4  # the modality changes where it looks


def config_of(name):
    return build_config(f"configs/cmtr/{name}.yml", ["MODEL.DEVICE", "cpu"])


def test_the_config_says_what_the_paper_file_says():
    for name, epochs in (("sysu", 24), ("regdb", 36), ("llcm", 24)):
        assert config_of(name).SOLVER.MAX_EPOCH == epochs
    cfg = config_of("sysu")
    node, losses, solver = cfg.MODEL.BACKBONE, cfg.MODEL.LOSSES, cfg.SOLVER
    assert node.TIMM_NAME == "vit_base_patch16_224" and node.UNSHARED_STAGES == 0
    assert (list(node.STRIDE_SIZE), list(cfg.INPUT.SIZE_TRAIN)) == ([12, 12], [256, 128])
    assert (node.MODALITY_EMBEDDING, node.MODALITY_SCALE) == ("patches", 1.0)
    assert (node.DROP_RATIO, node.DROP_PATH_RATIO) == (0.03, 0.1)
    own = "ModalityAwareCenterLoss", "ModalityAwareIdentityLoss"
    assert list(losses.NAME) == ["LabelSmoothingCrossEntropyLoss", "WeightedTripletLoss", *own]
    assert (losses.LABEL_SMOOTHING.SMOOTHING, losses.WEIGHTED_TRIPLET.REDUCTION) == (0, "softplus")
    assert (losses.MODALITY_AWARE_CENTER.CENTER, losses.MODALITY_AWARE_ID.SHARED) == ("both", False)
    assert (cfg.MODEL.CMTR.PHI, cfg.MODEL.CMTR.LAMBDA) == ("linear", 1.0)
    assert (solver.OPT, solver.BASE_LR, solver.BACKBONE_LR_FACTOR) == ("AdamW", 3e-4, 0.5)
    assert (cfg.MODEL.HEADS.NECK_FEAT, cfg.TEST.FEATURE) == ("before", "bn")


_KIND, _NAMES = "MODEL.META_ARCHITECTURE", "MODEL.LOSSES.NAME"
_EMBEDDING, _PHI = "MODEL.BACKBONE.MODALITY_EMBEDDING", "MODEL.CMTR.PHI"
ROWS = {  # each key that differs from the whole, and its value if it is one word
    "full": {},
    "baseline": {_KIND: "DualStreamBaseline", _NAMES: 2, _EMBEDDING: "none"},
    "me": {_KIND: "DualStreamBaseline", _NAMES: 2},
    "mac": {_NAMES: 3},
    "maid": {_NAMES: 3},
    "unshared": {
        _KIND: "DualStreamBaseline",
        _NAMES: 2,
        _EMBEDDING: "none",
        "MODEL.BACKBONE.UNSHARED_STAGES": 1,
    },
    "no_removal": {_PHI: "none"},
    "no_embedding": {_PHI: "none", _EMBEDDING: "none"},
    "phi_affine": {_PHI: "affine"},
    "phi_identity": {_PHI: "identity"},
    "all_tokens": {_EMBEDDING: "all"},
    "lambda_01": {"MODEL.CMTR.LAMBDA": 0.1},
    "test_removed": {"MODEL.CMTR.TEST_REMOVED": True},
    "center_per_modality": {"MODEL.LOSSES.MODALITY_AWARE_CENTER.CENTER": "per_modality"},
    "shared_classifier": {"MODEL.LOSSES.MODALITY_AWARE_ID.SHARED": True},
}


def test_the_rows_of_the_ablation_differ_in_what_they_name():
    def flat(name):
        values = flat_values(config_of(name))
        values[_NAMES] = len(values[_NAMES])
        return values

    files = {path.stem for path in (ROOT / "configs/cmtr/ablation").glob("*.yml")}
    assert files == set(ROWS)
    full = flat("ablation/full")
    for row, expected in ROWS.items():
        found = flat(f"ablation/{row}")
        differing = {key: value for key, value in found.items() if value != full[key]}
        differing.pop("OUTPUT_DIR", None)
        assert differing == expected, row
    assert "ModalityAwareCenterLoss" in config_of("ablation/mac").MODEL.LOSSES.NAME
    assert "ModalityAwareIdentityLoss" in config_of("ablation/maid").MODEL.LOSSES.NAME


def test_an_untrained_mapping_fits_a_file_without_it(images):
    """What only training needs may be absent in an evaluation: ``training_only`` names it."""
    model, _ = transformer()
    needless = [n for n in model.state_dict() if n.startswith("removal.")]
    assert len(needless) == 2 and model.training_only == ("removal",)
    features = model.eval()(images)
    nn.init.zeros_(model.removal.mappings["visible"].weight)
    assert torch.equal(model(images), features)
