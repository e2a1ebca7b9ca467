"""SPOT. Oracles: L_total by its four features, one after another; persons that are mirrored with
their key points, in a network whose kernels are symmetric; weights that a term may move."""

import copy

import pytest
import torch
from torch import nn

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.engine.checks import check_keypoints
from vireid_plugins.errors import NoKeyPointsError, UserError
from vireid_plugins.joints import JOINTS, OTHER_SIDE
from vireid_plugins.keypoints import heat_maps, mirrored_batch
from vireid_plugins.modeling.heads import BNNeckHead
from vireid_plugins.modeling.layers import AttendedStructure, PartInteraction, RelationNetwork
from vireid_plugins.modeling.losses import BatchHardTripletLoss, LabelSmoothingCrossEntropyLoss
from vireid_plugins.modeling.losses.build import LossTerms
from vireid_plugins.modeling.maps import map_names, recorded_maps
from vireid_plugins.modeling.meta_arch import SPOT, DualStreamBaseline, LearnedStructure

from tests.engine.small import small_cfg
from tests.every_key.narrow import NAME
from tests.modeling.small import CHANNELS, Backbone, some_points, stand_still
from tests.modeling.test_meta_arch import make_batch as batch_of_config
from tests.modeling.test_meta_arch import make_model as model_of_config
from tests.modeling.test_meta_arch import settings

N, C_S, SIZE = 4, 8, (8, 6)
BRANCHES = ("appearance", "structure", "parts")
CONFIG = "configs/spot/synthetic.yml"


def make_head():
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
    )


def make_terms():
    losses = {"id": LabelSmoothingCrossEntropyLoss(0.0), "tri": BatchHardTripletLoss(0.3)}
    return LossTerms(losses, {"id": 1.0, "tri": 2.0})


def make_model(asr=True, tpi=True, kind=SPOT, **words):
    torch.manual_seed(0)
    scales = {"structure": 0.5 * asr, "parts": 3.0 * tpi}
    branches = ["appearance", *(name for name, scale in scales.items() if scale)]
    model = kind(
        structure_map=RelationNetwork(17, C_S) if kind is SPOT else nn.Conv2d(CHANNELS, C_S, 1),
        attended=AttendedStructure(CHANNELS, C_S, 2) if asr else None,
        interaction=PartInteraction(CHANNELS, C_S, parts=3, heads=2, dropout=0.0) if tpi else None,
        fusion=nn.Linear(CHANNELS * (1 + tpi), CHANNELS, bias=False),
        branches={name: make_head() for name in branches},
        branch_losses={name: make_terms() for name in branches},
        scales=scales,
        backbone=Backbone(),
        heads=make_head(),
        loss_terms=make_terms(),
        pixel_mean=[120.0, 110.0, 100.0],
        pixel_std=[60.0, 50.0, 40.0],
        **words,
    )
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    if tpi:  # maps that differ from one position to the next
        with torch.no_grad():
            model.interaction.part_maps.weight.mul_(20)
    return model


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "images": torch.rand(8, 3, *SIZE, generator=generator) * 255,
        "keypoints": some_points(8, SIZE),
        "targets": torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]),
        "modalities": torch.tensor([0, 1] * 4),
        "index": torch.arange(8),
    }


def described(model, batch):
    """F_I pooled, F_IS, F_IP and F_IF, each made here of the parts, for all images."""
    appearance = model.backbone(model.normalize(batch["images"]), batch["modalities"])
    size = [4 * side for side in appearance.shape[2:]]
    structure = model.structure_map(heat_maps(batch["keypoints"], SIZE, size, model.sigma))
    pooled = model.attended(appearance, structure).mean((2, 3))
    parts = model.interaction(appearance, structure).sum(1) / 3
    fused = torch.cat([pooled, parts], 1) @ model.fusion.weight.T
    return {
        "appearance": appearance.mean((2, 3)),
        "structure": pooled,
        "parts": parts,
        "": fused,
    }


def test_the_objective_is_the_sum_of_four():
    """L_B + lambda_1 L_IS + lambda_2 L_IP + L_IF; L = L_id + 2 L_tri, of a head each."""
    model, batch = stand_still(make_model()), make_batch()
    terms = model(batch)
    assert set(terms) == set(model.weight_keys) and len(terms) == 8
    weights = {"appearance": 1.0, "structure": 0.5, "parts": 3.0, "": 1.0}
    for branch, features in described(model, batch).items():
        head = model.branches[branch] if branch else model.heads
        logits = head.bottleneck(features[..., None, None])[..., 0, 0] @ head.weight.T
        identity = nn.functional.cross_entropy(logits, batch["targets"])
        triplet = BatchHardTripletLoss(0.3)(features, batch["targets"])
        end = f"_{branch}" if branch else ""
        torch.testing.assert_close(terms[f"loss_id{end}"], weights[branch] * identity)
        expected = 2 * weights[branch] * triplet
        torch.testing.assert_close(terms[f"loss_batch_hard{end}"], expected)


def test_the_test_feature_is_the_fused_one_after_batch_norm():
    model, batch = make_model().eval(), make_batch()
    fused = described(model, batch)[""]
    expected = model.heads.bottleneck(fused[..., None, None])[..., 0, 0]
    torch.testing.assert_close(model(batch), expected)
    assert model.test_feature == model.heads.test_feature == "after BNNeck"


def symmetric(model):
    """The model with kernels that do not change when left and right of the image change places.

    The first convolution of N_r does not change either when left and right joints do.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_((module.weight + module.weight.flip(3)) / 2)
        first = model.structure_map[0].weight
        first.copy_((first + first[:, list(OTHER_SIDE)]) / 2)
    return model


def test_a_mirrored_person_has_mirrored_part_maps_and_the_same_feature():
    model, batch = symmetric(make_model()).double().eval(), make_batch()
    names = ["part_maps", "structure_attention", "heat_maps"]
    with torch.no_grad(), recorded_maps(model, names) as maps:
        features = model(batch)
        plain = dict(maps)
        mirrored = model(mirrored_batch(batch))
    heat = plain["heat_maps"][:, list(OTHER_SIDE)].flip(3)
    torch.testing.assert_close(maps["heat_maps"], heat, rtol=1e-5, atol=1e-6)
    for name in names[:2]:
        found, expected = maps[name], plain[name].flip(-1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert (found - plain[name]).abs().amax() > 1e-4
    torch.testing.assert_close(mirrored, features, rtol=1e-4, atol=1e-5)
    pixels_alone = dict(batch, images=batch["images"].flip(3))
    with torch.no_grad():
        assert (model(pixels_alone) - features).abs().amax() > 1e-4


def test_a_joint_that_is_unknown_has_no_influence_wherever_it_is():
    model, batch = make_model().eval(), make_batch()
    batch["keypoints"][:, 5, 2] = 0
    moved = dict(batch, keypoints=batch["keypoints"].clone())
    moved["keypoints"][:, 5, :2] = 1e6
    with torch.no_grad():
        expected = model(batch)
        torch.testing.assert_close(model(moved), expected)
        moved["keypoints"][:, 5] = torch.tensor([2.0, 3.0, 1.0])
        assert (model(moved) - expected).abs().amax() > 1e-5
        nobody = dict(batch, keypoints=torch.zeros(8, 17, 3))
        assert model(nobody).isfinite().all()


def test_confidence_weighs_the_maps_and_can_be_required():
    batch = make_batch()
    batch["keypoints"][..., 2] = torch.linspace(0.1, 0.9, len(JOINTS))
    tallest = {}
    for words in ({}, {"weighted": False}, {"least": 0.5}, {"sigma": 9.0}):
        model = make_model(**words).eval()
        with torch.no_grad(), recorded_maps(model, "heat_maps") as maps:
            model(batch)
        tallest[str(words)] = maps["heat_maps"].amax((0, 2, 3)), maps["heat_maps"].mean()
    plain, wide = tallest["{}"], tallest["{'sigma': 9.0}"]
    assert (plain[0] <= batch["keypoints"][0, :, 2] + 1e-6).all()
    assert (tallest["{'weighted': False}"][0] > plain[0]).all() and wide[1] > plain[1]
    required = tallest["{'least': 0.5}"][0]
    assert (required > 0).tolist() == (batch["keypoints"][0, :, 2] > 0.5).tolist()


def test_without_key_points_it_refuses_and_names_what_needs_none():
    model, batch = make_model(), make_batch()
    points = batch.pop("keypoints")
    for mode in (True, False):
        with pytest.raises(UserError, match="SPOT needs key points.*spot/learned_structure.yml"):
            model.train(mode)(batch)
    with pytest.raises(UserError, match="8 images, and key points of 7"):
        model(dict(batch, keypoints=points[:7]))
    cfg = settings(CONFIG, "INPUT.KEYPOINTS.READ", "train")
    with pytest.raises(UserError, match="KEYPOINTS.READ is train. Set it to all.*learned_struc"):
        check_keypoints(cfg, model)
    check_keypoints(cfg, make_model(kind=LearnedStructure))
    check_keypoints(settings(CONFIG), model)


def test_a_training_without_the_file_says_what_writes_it_and_what_needs_none(datasets, tmp_path):
    words = {"INPUT__KEYPOINTS__FILE": "nowhere.npz", "MODEL__BACKBONE__NAME": NAME}
    cfg = small_cfg(tmp_path / "run", CONFIG, **words)
    for build in (VIReIDTrainer.build_train_loader, build_test_loader_of_first):
        with pytest.raises(NoKeyPointsError) as caught:
            build(cfg)
        said = str(caught.value)
        assert "nowhere.npz" in said and "vireid pose" in said and "synthvi/index.csv" in said
        assert said.endswith("learns a structure map of its own; it is not SPOT.")
    plain = small_cfg(tmp_path / "run", "configs/agw/synthetic.yml", **words)
    plain.defrost()
    plain.INPUT.KEYPOINTS.READ = "all"
    with pytest.raises(NoKeyPointsError) as caught:
        VIReIDTrainer.build_train_loader(plain)
    assert "SPOT" not in str(caught.value)


def build_test_loader_of_first(cfg):
    return VIReIDTrainer.build_test_loader(cfg, cfg.DATASETS.TESTS[0])


def test_a_learned_structure_looks_at_no_key_point_and_is_called_otherwise():
    model, batch = make_model(kind=LearnedStructure).eval(), make_batch()
    expected = model(batch)
    assert torch.equal(model(dict(batch, keypoints=batch["keypoints"] + 1)), expected)
    batch.pop("keypoints")
    assert torch.equal(model(batch), expected) and not model.needs_keypoints
    assert "heat_maps" not in map_names(model) and "part_maps" in map_names(model)
    for config in (
        "configs/spot/learned_structure.yml",
        "configs/spot/ablation/learned_structure.yml",
    ):
        cfg = settings(config)
        assert cfg.MODEL.META_ARCHITECTURE == "LearnedStructure"
        assert cfg.INPUT.KEYPOINTS.READ == "none" and "spot" not in cfg.OUTPUT_DIR.split("/")[-1]


def test_parts_that_are_left_out():
    batch = make_batch()
    for asr, tpi, branches in ((True, False, BRANCHES[:2]), (False, True, BRANCHES[::2])):
        model = stand_still(make_model(asr, tpi))
        assert set(model.branches) == set(branches)
        assert len(model(batch)) == 2 * (1 + len(branches))
    alone = stand_still(make_model(asr=False))
    appearance = alone.backbone(alone.normalize(batch["images"]), batch["modalities"])
    maps = alone.described(appearance, alone.structure_of(appearance, batch))
    torch.testing.assert_close(maps["structure"][..., 0, 0], appearance.mean((2, 3)))
    with pytest.raises(UserError, match="ASR and MODEL.STRUCTURE.TPI are False"):
        model_of_config(CONFIG, "MODEL.STRUCTURE.ASR", "False", "MODEL.STRUCTURE.TPI", "False")


def test_each_term_reaches_the_network_and_the_parts_that_its_feature_passes():
    """By the gradients of the backbone, N_r, ASR, TPI and W_gamma."""
    model, batch = stand_still(make_model()), make_batch()
    own = {
        "appearance": [],
        "structure": ["structure_map", "attended"],
        "parts": ["structure_map", "interaction"],
        "": ["structure_map", "attended", "interaction", "fusion"],
    }
    terms = model(batch)
    for branch, expected in own.items():
        model.zero_grad(set_to_none=True)
        terms[f"loss_id_{branch}" if branch else "loss_id"].backward(retain_graph=True)
        with_gradient = {
            name.split(".")[0]
            for name, value in model.named_parameters()
            if value.grad is not None and value.grad.any()
        }
        assert with_gradient - {"heads", "branches"} == {"backbone", *expected}, branch


def test_the_config_gives_each_term_its_own_weight():
    words = {"MODEL__BACKBONE__NAME": NAME, "MODEL__HEADS__NUM_CLASSES": N}
    words.update(MODEL__STRUCTURE__LAMBDA_IS=2.0, MODEL__STRUCTURE__LAMBDA_IP=5.0)
    model = SPOT(small_cfg("unused", CONFIG, **words))
    assert model.scales == {"appearance": 1.0, "structure": 2.0, "parts": 5.0}
    keys = {name: key for name, key in model.weight_keys.items() if "LAMBDA" in key}
    assert len(keys) == 4
    for name, key in keys.items():
        assert key.endswith("LAMBDA_IS") == name.endswith("_structure")
        assert key.endswith("LAMBDA_IP") == name.endswith("_parts")


def test_centers_of_the_branches_are_for_training_only():
    words = {"MODEL__BACKBONE__NAME": NAME, "MODEL__HEADS__NUM_CLASSES": N}
    assert SPOT(small_cfg("unused", CONFIG, **words)).training_only == ("branches",)
    words["MODEL__LOSSES__NAME"] = "('LabelSmoothingCrossEntropyLoss', 'CenterLoss')"
    model = SPOT(small_cfg("unused", CONFIG, **words))
    assert model.training_only == ("branches", "branch_losses")


def test_the_losses_of_all_features_act_after_a_step(monkeypatch):
    model, acted = make_model(), []
    monkeypatch.setattr(LossTerms, "after_step", lambda terms: acted.append(terms))
    model.after_step()
    assert acted == [model.loss_terms, *model.branch_losses.values()]


def test_each_loss_moves_its_own_head():
    model, batch = stand_still(make_model()), make_batch()
    for branch in (*BRANCHES, ""):
        model.zero_grad(set_to_none=True)
        terms = model(batch)
        sum(t for n, t in terms.items() if n.split("loss_")[1].endswith(branch or "d")).backward(
            retain_graph=True
        )
        heads = {name: model.branches[name].weight.grad is not None for name in BRANCHES}
        if branch:
            assert heads == {name: name == branch for name in BRANCHES}


def test_the_configs_baseline_is_the_same_network_with_l_b_alone():
    """The weights of the baseline, put into SPOT, give its losses as L_B."""
    plain = model_of_config("configs/spot/ablation/baseline.yml")
    spot = model_of_config(CONFIG)
    assert type(plain) is DualStreamBaseline
    spot.backbone.load_state_dict(plain.backbone.state_dict())
    spot.branches["appearance"].load_state_dict(plain.heads.state_dict())
    batch = batch_of_config()
    expected = stand_still(plain)(copy.deepcopy(batch))
    found = stand_still(spot)(batch)
    for name, term in expected.items():
        torch.testing.assert_close(found[f"{name}_appearance"], term)


def test_pooling_of_the_config_is_that_of_the_appearance_map_alone():
    words = ["MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPooling", "MODEL.HEADS.GEM_EXPONENT", "4.0"]
    model = model_of_config(CONFIG, *words)
    assert model.branches["appearance"].pool_layer.p == 4
    for head in (model.heads, model.branches["parts"], model.branches["structure"]):
        vector = torch.randn(2, 512, 1, 1)
        assert torch.equal(head.pool(vector), vector)  # negative values stay
