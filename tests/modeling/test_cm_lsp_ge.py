"""CM-LSP-GE (reconstruction). Oracles: the printed losses by loops over images, identities and
stripes; batch norm and pooling by their formulas; the ordinary ranking of whole distances."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vireid_plugins import Modality
from vireid_plugins.engine.setup import build_config
from vireid_plugins.evaluation import (
    SYSUMM01Protocol,
    VIReIDEvaluator,
    extract_features,
    rank_metrics_from_similarity,
)
from vireid_plugins.modeling.layers import path_distances
from vireid_plugins.modeling.losses import (
    BatchHardTripletLoss,
    HeteroCenterTripletLoss,
    LabelSmoothingCrossEntropyLoss,
    PathTripletLoss,
)
from vireid_plugins.modeling.losses.build import LossTerms
from vireid_plugins.modeling.maps import recorded_maps
from vireid_plugins.modeling.meta_arch import CMLSPGE
from vireid_plugins.modeling.meta_arch.cm_lsp_ge import (
    GLOBAL_ENHANCEMENT_REGISTRY,
    BatchNormEnhancement,
    CMLSPGEHead,
    StripeBranch,
    path_rescorer,
)

from fastreid.modeling.meta_arch import build_model

from tests.engine.small import ROOT
from tests.modeling.small import Backbone, stand_still

N, C, R, S = 4, 6, 3, 5
GLOBAL = ["loss_id_global", "loss_triplet_global"]
ENHANCED = ["loss_id_enhanced", "loss_triplet_enhanced"]
LOCAL = ["loss_id_local_visible", "loss_id_local_infrared"]
PATH = ["loss_path_triplet"]


def make_head(enhanced=True, local=True, shared=True):
    head = CMLSPGEHead(
        feat_dim=C,
        embedding_dim=0,
        num_classes=N,
        neck_feat="before",
        pool_type="GeneralizedMeanPooling",
        cls_type="Linear",
        scale=1,
        margin=0,
        with_bnneck=False,
        norm_type="BN",
        enhancement=BatchNormEnhancement(C) if enhanced else None,
        local=StripeBranch(C, N, R, S, shared) if local else None,
    )
    nn.init.normal_(head.weight)
    for module in head.modules():  # nothing at its initial value hides a slip
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight)
            if module.bias is not None:
                nn.init.normal_(module.bias)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return head


def make_model(head=None, losses=None, scales=None, rescorer=None):
    """Three stripes on 7 rows; batch norm stands still, so that loops see what the model sees."""
    losses = losses or {
        "LabelSmoothingCrossEntropyLoss": LabelSmoothingCrossEntropyLoss(0.0),
        "HeteroCenterTripletLoss": HeteroCenterTripletLoss(0.3),
        "PathTripletLoss": PathTripletLoss(0.3),
    }
    model = CMLSPGE(
        backbone=Backbone(),
        heads=head or make_head(),
        loss_terms=LossTerms(losses, {name: (scales or {}).get(name, 1.0) for name in losses}),
        pixel_mean=[120.0, 110.0, 100.0],
        pixel_std=[60.0, 50.0, 40.0],
        rescorer=rescorer,
    )
    return stand_still(model)


def make_batch(modalities=(0, 1, 0, 0, 1, 1, 0, 1, 0)):
    """Unequal counts (5 visible, 4 infrared), in no order."""
    modalities = torch.tensor(modalities)
    return {
        "images": torch.rand(len(modalities), 3, 7, 4) * 255,
        "targets": torch.tensor([0, 2, 0, 1, 0, 1, 2, 2, 1])[: len(modalities)],
        "camids": modalities + 1,
        "modalities": modalities,
        "index": torch.arange(len(modalities)),
    }


def take(batch, rows):
    return {name: value[rows] for name, value in batch.items()}


# ------------------------------------------------------------------------------------ the head


def gem(block):
    """(C, h, W) to (C,): the cubic mean."""
    return block.clamp(min=1e-6).pow(3).mean(dim=(1, 2)).pow(1 / 3)


def batch_norm(x, layer):
    return (x - layer.running_mean) / (layer.running_var + layer.eps).sqrt() * layer.weight + (
        layer.bias
    )


def head_by_loop(head, feature_map):
    """f^g, f^eg (B, C), stripes (B, R, S) and their logits, image by image."""
    found = {"features": [], "enhanced_features": [], "stripe_features": [], "stripe_logits": []}
    height = feature_map.shape[2]
    for image in feature_map:
        found["features"].append(gem(image))
        found["enhanced_features"].append(batch_norm(gem(image), head.enhancement))
        stripes, logits = [], []
        for r, classifier in enumerate(head.local.classifiers):
            rows = [h for h in range(height) if h * R // height == r]
            own = min(r, len(head.local.embeddings) - 1)
            conv, norm = head.local.embeddings[own][:2]
            pooled = gem(torch.stack([image[:, h] for h in rows], dim=1))
            stripes.append(batch_norm(conv.weight[:, :, 0, 0] @ pooled, norm).clamp(min=0))
            logits.append(classifier.weight @ stripes[-1] + classifier.bias)
        found["stripe_features"].append(torch.stack(stripes))
        found["stripe_logits"].append(torch.stack(logits))
    found = {name: torch.stack(rows) for name, rows in found.items()}
    found["logits"] = found["features"] @ head.classifier.weight.T
    found["enhanced_logits"] = found["enhanced_features"] @ head.weight.T
    return found


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("height", [3, 6, 7, 8])
def test_the_head_equals_the_loop(height, shared):
    """Also where the height is not a multiple of the stripes; test gives f^eg."""
    head = stand_still(make_head(shared=shared)).double()
    feature_map = torch.rand(3, C, height, 4, dtype=torch.float64)
    expected, found = head_by_loop(head, feature_map), head(feature_map)
    assert set(found) == set(head.outputs) == set(expected)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])
    torch.testing.assert_close(head.eval()(feature_map), expected["enhanced_features"])
    plain = make_head(enhanced=False).eval().double()
    torch.testing.assert_close(plain(feature_map), expected["features"])


def test_the_stripes_share_one_embedding_or_have_their_own():
    """Equal stripes of an image get equal features only where they share it."""
    feature_map = torch.rand(2, C, 1, 4).expand(-1, -1, R, -1)
    for shared, equal in ((True, True), (False, False)):
        head = make_head(shared=shared).eval()
        with recorded_maps(head, "stripe_features") as maps:
            head(feature_map)
        stripes = maps["stripe_features"]
        assert torch.allclose(stripes, stripes[:, :1].expand_as(stripes)) == equal


def test_the_local_branch_costs_nothing_at_test_unless_somebody_looks():
    model, batch = make_model(), make_batch()
    model.eval()
    seen = []
    model.heads.local.register_forward_hook(lambda *_: seen.append(1))
    features = model(batch)
    assert not seen and features.shape == (9, C)
    with recorded_maps(model, "stripe_features") as maps:
        assert torch.equal(model(batch), features)
    assert seen == [1] and maps["stripe_features"].shape == (9, R, S)


def test_the_sizes_of_the_config():
    """2048 channels, six stripes of 256, five identities; the bias of BN-GE does not learn."""
    head = build_model(method_cfg("sysu", "MODEL.BACKBONE.DEPTH", "50x")).heads
    assert head.classifier.weight.shape == head.weight.shape == (5, 2048)
    assert [c.weight.shape for c in head.local.classifiers] == [(5, 256)] * 6
    assert len(head.local.embeddings) == 1
    assert head.local.embeddings[0][0].weight.shape == (256, 2048, 1, 1)
    assert not head.enhancement.bias.requires_grad and head.enhancement.weight.requires_grad
    assert head.test_feature == "after BN-GE" and head.attention is None


@pytest.mark.parametrize(
    "enhanced,local,names",
    [
        (True, False, {"classifier.weight", "enhanced_classifier.weight"}),
        (False, False, {"classifier.weight"}),
        (True, True, {"classifier.weight", "enhanced_classifier.weight"}),
    ],
)
def test_checkpoints_name_each_classifier_by_its_feature(enhanced, local, names):
    """The names of the first checkpoints, when the head was no BNNeckHead; both ways."""
    head, other = make_head(enhanced, local).eval(), make_head(enhanced, local).eval()
    held = nn.ModuleDict({"heads": head}).state_dict()
    assert {n[6:] for n in held if re.fullmatch(r"heads\.\w*classifier\.weight", n)} == names
    assert "heads.weight" not in held and all(name.startswith("heads.") for name in held)
    last = "heads.enhanced_classifier.weight" if enhanced else "heads.classifier.weight"
    assert torch.equal(held[last], head.weight)
    nn.ModuleDict({"heads": other}).load_state_dict(held, strict=True)
    for (name, value), loaded in zip(head.named_parameters(), other.parameters()):
        assert torch.equal(value, loaded), name
    del held[last]
    with pytest.raises(RuntimeError, match="Missing key"):
        nn.ModuleDict({"heads": other}).load_state_dict(held, strict=True)


def test_the_initial_deviation_is_that_of_both_classifiers():
    head = small_model("synthetic", "MODEL.HEADS.CLASSIFIER_STD", 0.5).heads
    assert [round(w.std().item(), 1) for w in (head.weight, head.classifier.weight)] == [0.5, 0.5]


# ---------------------------------------------------------------------------------- the losses


def identity_by_loop(logits, targets):
    """-sum_i q_i log p_i, averaged over rows."""
    terms = [-(z[y] - z.exp().sum().log()) for z, y in zip(logits, targets.tolist())]
    return sum(terms) / len(terms)


def centers_by_loop(features, batch):
    """L_tri: over the 2P centers, with the hinge."""
    pairs = sorted(set(zip(batch["targets"].tolist(), batch["modalities"].tolist())))
    centers = {
        (p, m): features[(batch["targets"] == p) & (batch["modalities"] == m)].mean(0)
        for p, m in pairs
    }
    terms = []
    for p, m in pairs:
        to = {key: (centers[p, m] - center).norm() for key, center in centers.items()}
        nearest = min(d for (q, _), d in to.items() if q != p)
        terms.append((0.3 + to[p, 1 - m] - nearest).clamp(min=0))
    return sum(terms) / len(terms)


def path_by_loop(stripes, features, targets):
    """L_PA: hardest rows by the global features, distances along the shortest path."""
    paths, terms = path_distances(stripes, stripes), []
    for a, y in enumerate(targets.tolist()):
        order = [float((features[a] - f).norm().detach()) for f in features]
        same = [j for j, z in enumerate(targets.tolist()) if z == y and j != a]
        other = [j for j, z in enumerate(targets.tolist()) if z != y]
        p, n = max(same, key=order.__getitem__), min(other, key=order.__getitem__)
        terms.append((0.3 + paths[a, p] - paths[a, n]).clamp(min=0))
    return sum(terms) / len(terms)


def total_by_loop(model, batch):
    """The seven terms of L_total, in the order of the paper's sum."""
    images = model.normalize(batch["images"])
    outputs = head_by_loop(model.heads, model.extract(images, batch["modalities"]))
    y, modalities = batch["targets"], batch["modalities"]
    terms = {
        "loss_id_global": identity_by_loop(outputs["logits"], y),
        "loss_id_enhanced": identity_by_loop(outputs["enhanced_logits"], y),
        "loss_triplet_global": centers_by_loop(outputs["features"], batch),
        "loss_triplet_enhanced": centers_by_loop(outputs["enhanced_features"], batch),
    }
    for name, modality in zip(LOCAL, Modality):
        rows = modalities == modality
        logits = outputs["stripe_logits"][rows]
        terms[name] = sum(identity_by_loop(logits[:, r], y[rows]) for r in range(R))
    terms["loss_path_triplet"] = path_by_loop(outputs["stripe_features"], outputs["features"], y)
    return terms


def test_the_seven_terms_and_their_gradient():
    model, batch = make_model(), make_batch()
    expected, found = total_by_loop(model, batch), model(batch)
    assert found.keys() == expected.keys() == {*GLOBAL, *ENHANCED, *LOCAL, *PATH}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
        assert value > 0, name
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    gradients = [
        torch.autograd.grad(sum(terms.values()), list(parameters.values()))
        for terms in (expected, found)
    ]
    for name, loop, ours in zip(parameters, *gradients):
        torch.testing.assert_close(ours, loop, rtol=1e-3, atol=1e-5, msg=name)
        assert ours.abs().sum() > 0, name


def test_each_loss_has_its_weight_and_others_may_join():
    losses = {
        "LabelSmoothingCrossEntropyLoss": LabelSmoothingCrossEntropyLoss(0.0),
        "HeteroCenterTripletLoss": HeteroCenterTripletLoss(0.3),
        "PathTripletLoss": PathTripletLoss(0.3),
        "BatchHardTripletLoss": BatchHardTripletLoss(0.3),
    }
    head, batch = make_head(), make_batch()
    scales = dict(zip(losses, (2.0, 3.0, 5.0, 7.0)))
    plain, scaled = make_model(head, losses), make_model(head, losses, scales)
    scaled.load_state_dict(plain.state_dict())
    expected, found = plain(batch), scaled(batch)
    factors = {"loss_id": 2, "loss_triplet": 3, "loss_path": 5, "loss_batch": 7}
    for name, value in found.items():
        factor = next(f for start, f in factors.items() if name.startswith(start))
        torch.testing.assert_close(value, factor * expected[name])
    features = head_by_loop(
        head, plain.extract(plain.normalize(batch["images"]), batch["modalities"])
    )["features"]
    torch.testing.assert_close(
        expected["loss_batch_hard"], BatchHardTripletLoss(0.3)(features, batch["targets"])
    )


@pytest.mark.parametrize("per_modality", [False, True])
def test_label_smoothing_reaches_every_identity_loss(per_modality):
    """PER_MODALITY is the same for terms that see one modality only."""
    losses = {
        "LabelSmoothingCrossEntropyLoss": LabelSmoothingCrossEntropyLoss(0.2, per_modality),
        "HeteroCenterTripletLoss": HeteroCenterTripletLoss(0.3),
    }
    model, batch = make_model(losses=losses), make_batch()
    found = model(batch)
    images = model.normalize(batch["images"])
    outputs = head_by_loop(model.heads, model.extract(images, batch["modalities"]))
    y = batch["targets"]

    def smooth(logits, rows):
        return F.cross_entropy(logits[rows], y[rows], label_smoothing=0.2)

    sides = [batch["modalities"] == m for m in Modality]
    for name, rows in zip(LOCAL, sides):
        expected = sum(smooth(outputs["stripe_logits"][:, r], rows) for r in range(R))
        torch.testing.assert_close(found[name], expected)
    whole = sides if per_modality else [torch.ones_like(sides[0])]
    expected = sum(smooth(outputs["logits"], rows) for rows in whole)
    torch.testing.assert_close(found["loss_id_global"], expected)


@pytest.mark.parametrize("modality", list(Modality))
def test_one_modality_trains_and_tests(modality):
    """No center has its twin and the other modality no stripe: zeros in the graph."""
    model, whole = make_model(), make_batch()
    batch = take(whole, whole["modalities"] == modality)
    terms = model(batch)
    sum(terms.values()).backward()
    zero = {"loss_triplet_global", "loss_triplet_enhanced", LOCAL[1 - modality]}
    assert {name for name, value in terms.items() if value == 0} == zero
    assert model.heads.local.classifiers[0].weight.grad.abs().sum() > 0
    features = model.eval()(batch)
    torch.testing.assert_close(features, model(whole)[whole["modalities"] == modality])


def test_order_means_nothing():
    model, batch = make_model(), make_batch()
    rows = torch.randperm(9)
    expected, found = model(batch), model(take(batch, rows))
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


# ------------------------------------------------------------------------------- re-scoring


def test_rescoring_ranks_by_both_distances():
    """All gallery images are candidates, so the order is that of the whole distance."""
    model, rescorer = make_model(), path_rescorer(top=50, weight=0.6)
    model.rescorer = rescorer
    images, targets = torch.rand(24, 3, 7, 4) * 255, torch.arange(24) % 4
    camids = torch.tensor([3] * 8 + [1, 2] * 8)
    modalities = (camids == 3).long()
    index = torch.arange(24)
    batch = {
        "images": images,
        "targets": targets,
        "camids": camids,
        "modalities": modalities,
        "index": index,
    }
    features = extract_features(model, [take(batch, index[:10]), take(batch, index[10:])])
    items = [(str(i), int(targets[i]), int(camids[i]), int(modalities[i])) for i in index]
    dataset = type("Dataset", (), {"query": items[:8], "gallery": items[8:]})
    protocol = SYSUMM01Protocol("all", 10, trials=1)
    table = VIReIDEvaluator([protocol], dataset, dataset_name="Any").evaluate(features)
    assert "path distance × 0.6, top 50" in table.format_table()
    assert "after BN-GE, cosine" in table.format_table()

    with recorded_maps(model.eval(), "stripe_features") as maps, torch.no_grad():
        unit = F.normalize(model(batch))
    stripes = maps["stripe_features"]
    whole = 1 - unit[:8] @ unit[8:].T + 0.6 * path_distances(stripes[:8], stripes[8:])
    trial = next(iter(protocol.trials(dataset)))
    expected = rank_metrics_from_similarity(
        -whole,
        targets[:8],
        targets[8:],
        camids[:8],
        camids[8:],
        cmc="identity",
        gallery_rows=np.asarray(trial.gallery) - 8,
        skip_camera_pairs=[(3, 2)],
    )
    assert table.metrics["Any/all/multi/mAP"] == pytest.approx(expected.mAP)
    assert table.metrics["Any/all/multi/Rank-1"] == pytest.approx(expected.cmc[0])
    model.rescorer = None
    plain = extract_features(model, [batch])
    assert plain.local is None
    assert torch.allclose(plain.features, features.features)


def test_half_the_path_is_the_sum_of_alignedreid():
    """The default weight: twice the whole distance is ||f - f'||^2 + S, for unit features."""
    f, g = F.normalize(torch.randn(2, 7, dtype=torch.float64))
    path = 1.7
    whole = 1 - f @ g + path_rescorer(1).weight * path
    torch.testing.assert_close(2 * whole, (f - g).square().sum() + path)


def test_candidates_are_those_that_are_asked_for():
    x, y = torch.rand(3, R, S), torch.rand(5, R, S)
    candidates = torch.tensor([[4, 0], [1, 1], [2, 3]])
    found = path_rescorer(2).distances(x, y, candidates)
    torch.testing.assert_close(found, path_distances(x, y).gather(1, candidates))


# ---------------------------------------------------------------------------------- configs


def method_cfg(name, *opts):
    """A config of the method, on the CPU, from random weights, with 5 identities."""
    words = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    words += ["MODEL.HEADS.NUM_CLASSES", "5", *map(str, opts)]
    return build_config(str(ROOT / f"configs/cm_lsp_ge/{name}.yml"), words)


def small_model(name, *opts):
    return build_model(method_cfg(name, "MODEL.BACKBONE.WITH_NL", "False", *opts))


@pytest.mark.parametrize(
    "row,terms,feature",
    [
        ("baseline", GLOBAL, "pooled"),
        ("stripes", GLOBAL + LOCAL + PATH, "pooled"),
        ("path", GLOBAL + LOCAL + PATH, "pooled"),
        ("full", GLOBAL + ENHANCED + LOCAL + PATH, "after BN-GE"),
        ("rescored", GLOBAL + ENHANCED + LOCAL + PATH, "after BN-GE"),
        ("hetero_center_02_baseline", GLOBAL, "pooled"),
        ("hetero_center_02", GLOBAL + ENHANCED + LOCAL + PATH, "after BN-GE"),
    ],
)
def test_the_rows_of_the_ablation(row, terms, feature):
    model = stand_still(small_model(f"ablation/{row}"))
    scale = 0.2 if row.startswith("hetero_center_02") else 1.0
    assert method_cfg(f"ablation/{row}").MODEL.LOSSES.HETERO_CENTER.SCALE == scale
    batch = make_batch()
    batch["images"] = torch.rand(9, 3, 96, 16) * 255
    assert model(batch).keys() == set(terms)
    assert model.test_feature == feature
    assert (model.rescorer is not None) == (row == "rescored")
    if row == "stripes":
        path = model.loss_terms["PathTripletLoss"]
        assert (path.distance, path.mining) == ("stripes", "local")


def test_the_margins_and_the_rescorer_of_the_config():
    model = small_model("ablation/rescored", "MODEL.CM_LSP_GE.RESCORE_WEIGHT", 0.25)
    assert model.rescorer == path_rescorer(top=20, weight=0.25)
    assert model.loss_terms["HeteroCenterTripletLoss"].margin == 0.3
    path = model.loss_terms["PathTripletLoss"]
    assert (path.margin, path.distance, path.mining, path.reduction) == (
        0.3,
        "path",
        "global",
        "mean",
    )
    cbam = small_model("synthetic", "MODEL.CM_LSP_GE.CBAM", True).heads
    feature_map = torch.rand(2, 512, 6, 3)
    expected = cbam.eval().enhancement(cbam.pool_layer(cbam.attention(feature_map))[..., 0, 0])
    torch.testing.assert_close(cbam(feature_map), expected)


def test_the_embedding_of_the_config_is_shared_or_not():
    head = small_model("synthetic", "MODEL.CM_LSP_GE.SHARED_EMBEDDING", False).heads
    assert len(head.local.embeddings) == 6


def test_the_enhancement_can_be_replaced():
    """By any registered module from (B, C) to (B, C); a wrong name gives the nearest."""

    class Doubling(nn.Module):
        def __init__(self, in_channels):
            super().__init__()
            self.factor = nn.Parameter(torch.full((in_channels,), 2.0))

        def forward(self, features):
            return features * self.factor

    GLOBAL_ENHANCEMENT_REGISTRY.register(Doubling)
    try:
        head = small_model("synthetic", "MODEL.CM_LSP_GE.ENHANCEMENT", "Doubling").heads.eval()
    finally:
        del GLOBAL_ENHANCEMENT_REGISTRY._obj_map["Doubling"]
    feature_map = torch.rand(2, 512, 6, 3)
    torch.testing.assert_close(head(feature_map), 2 * head.pool_layer(feature_map)[..., 0, 0])
    with pytest.raises(KeyError, match="ENHANCEMENT names 'BatchNorm'.*BatchNormEnhancement"):
        small_model("synthetic", "MODEL.CM_LSP_GE.ENHANCEMENT", "BatchNorm")


RESCORED = ("MODEL.CM_LSP_GE.RESCORE_TOP", 5)
TWO_LOSSES = ("LabelSmoothingCrossEntropyLoss", "HeteroCenterTripletLoss")


@pytest.mark.parametrize(
    "opts,said",
    [
        ((*RESCORED, "TEST.RERANK.ENABLED", True), "TEST.RERANK.ENABLED False .now True"),
        ((*RESCORED, "TEST.METRIC", "euclidean"), "TEST.METRIC cosine .now euclidean"),
        ((*RESCORED, "MODEL.CM_LSP_GE.RESCORE_WEIGHT", -1.0), "RESCORE_WEIGHT is -1.0"),
        (
            ("MODEL.CM_LSP_GE.RESCORE_TOP", -3),
            "RESCORE_TOP is -3; expected 0 or more, a whole number: nearest images re-scored",
        ),
        ((*RESCORED, "TEST.AQE.ENABLED", True), "TEST.AQE.ENABLED False .now True"),
        (("MODEL.HEADS.EMBEDDING_DIM", 64), "set MODEL.HEADS.EMBEDDING_DIM 0 .now 64"),
        (("MODEL.HEADS.NECK_FEAT", "after"), "set MODEL.HEADS.NECK_FEAT before .now after"),
        (("MODEL.HEADS.NECK_STD", 0.01), "set MODEL.HEADS.NECK_STD 0.0 .now 0.01"),
        (("MODEL.HEADS.CLS_LAYER", "CircleSoftmax"), "CLS_LAYER Linear .now CircleSoftmax"),
        (("MODEL.HEADS.POOL_LAYER", "Identity"), "POOL_LAYER must be one of .*; got 'Identity'"),
        (("MODEL.HEADS.WITH_BNNECK", True), "set MODEL.HEADS.WITH_BNNECK False"),
        (
            ("MODEL.HEADS.NAME", "StripeHead", "MODEL.LOSSES.NAME", TWO_LOSSES),
            "MODEL.HEADS.NAME CMLSPGEHead; got StripeHead",
        ),
        (("MODEL.HEADS.POOL_LAYER", "Mean"), "POOL_LAYER must be one of .*; got 'Mean'"),
        (("MODEL.HEADS.NUM_STRIPES", 0), "MODEL.HEADS.NUM_STRIPES is 0"),
        (("MODEL.CM_LSP_GE.LOCAL", False), "PathTripletLoss, which needs stripe_features"),
        (("MODEL.LOSSES.NAME", ("PathTripletLoss",)), "missing: LabelSmoothing.*HeteroCenter"),
    ],
)
def test_impossible_configs_are_refused_when_built(opts, said):
    with pytest.raises(ValueError, match=said):
        small_model("synthetic", *opts)


def test_rescoring_without_stripes_is_refused():
    with pytest.raises(ValueError, match="RESCORE_TOP is 5, but there are no stripes"):
        small_model("ablation/baseline", *RESCORED)
