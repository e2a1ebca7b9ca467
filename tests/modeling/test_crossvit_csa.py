"""CrossViT with CSA. Oracles: parts called by hand, the losses by loops, the printed recipe."""

import math

import pytest
import torch
from PIL import Image

from vireid_plugins.data.transforms.chains import build_transforms
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality
from vireid_plugins.modeling import recorded_maps
from vireid_plugins.solver.schedule import build_lr_scheduler

from fastreid.modeling.meta_arch import build_model

from tests.modeling.test_meta_arch import ROOT, make_batch, statistics_free, take

tiny = pytest.importorskip("tests.modeling.tiny_crossvit", reason="timm is not installed")

FOLDER = ROOT / "configs/crossvit_csa"
SMALL = [
    *("MODEL.BACKBONE.TIMM_OPTIONS", str(tiny.OPTIONS), "MODEL.BACKBONE.DROP_PATH_RATIO", "0.0"),
    *("MODEL.CROSSVIT_CSA.REDUCTION", "4", "MODEL.HEADS.NUM_CLASSES", "5"),
]
CPU = ["MODEL.DEVICE", "cpu"]
CONV = ["MODEL.BACKBONE.NAME", "build_dual_stream_resnet_backbone", "MODEL.BACKBONE.DEPTH", "18x"]
CONV += ["MODEL.BACKBONE.TIMM_NAME", "", "MODEL.BACKBONE.TIMM_OPTIONS", "[]"]
VIT = ["MODEL.BACKBONE.NAME", "build_dual_stream_timm_backbone"]
VIT += ["MODEL.BACKBONE.TIMM_NAME", "vit_tiny_patch16_224"]
VIT += ["MODEL.BACKBONE.TIMM_OPTIONS", "['depth=1','embed_dim=16','num_heads=2']"]


def model_of(*words, config="synthetic"):
    torch.manual_seed(0)
    return build_model(build_config(str(FOLDER / f"{config}.yml"), [*SMALL, *words]))


def parts(model, batch):
    """Class token and pooled M'' of each branch, by the parts themselves."""
    images = model.normalize(batch["images"])
    found = []
    for tokens, attention in zip(
        model.backbone.branches(images, batch["modalities"]), model.attention
    ):
        refined = attention.spatial(attention.channel(tokens.maps))
        found.append((tokens.class_token, refined.flatten(2).mean(2)))
    return found


@pytest.mark.parametrize("joined", ["concat", "add", "none"])
def test_the_feature_is_both_branches_side_by_side(joined):
    model, batch = model_of("MODEL.CROSSVIT_CSA.CLASS_TOKEN", joined).eval(), make_batch()
    with torch.no_grad():
        (fine, small), (coarse, large) = parts(model, batch)
        expected = {
            "concat": [fine, small, coarse, large],
            "add": [fine + small, coarse + large],
            "none": [small, large],
        }[joined]
        found = model.extract(model.normalize(batch["images"]), batch["modalities"])
        features = model(batch)
    torch.testing.assert_close(found[..., 0, 0], torch.cat(expected, dim=1))
    torch.testing.assert_close(features, model.heads.neck(found))  # what is evaluated
    assert found.shape == (len(batch["images"]), 40 if joined == "concat" else 20, 1, 1)


@pytest.mark.parametrize("form, kernel", [("concat", (1, 2, 3, 3)), ("sum", (1, 1, 3, 3))])
def test_the_reading_of_equation_12_and_its_window_come_from_the_config(form, kernel):
    model = model_of("MODEL.CROSSVIT_CSA.SPATIAL", form, "MODEL.CROSSVIT_CSA.KERNEL", "3")
    assert [tuple(one.spatial.conv.weight.shape) for one in model.attention] == [kernel] * 2
    assert [one.channel.mlp[0].out_channels for one in model.attention] == [2, 3]  # D_i / 4


@pytest.mark.parametrize("attention", ["channel", "spatial", "none"])
def test_parts_of_the_attention_can_be_left_out(attention):
    model = model_of("MODEL.CROSSVIT_CSA.ATTENTION", attention)
    for one in model.attention:
        held = {name.split(".")[0] for name, _ in one.named_parameters()}
        assert held == ({attention} - {"none"})


def test_the_maps_of_both_branches_can_be_seen():
    model, batch = model_of().eval(), make_batch()
    with recorded_maps(model) as maps:
        features = model(batch)
    assert maps["feature_map"].shape[1:] == (12, 6, 3)
    assert maps["feature_map_0"].shape[1:] == (8, 8, 4)
    branches = model.backbone.branches(model.normalize(batch["images"]), batch["modalities"])
    names = ("feature_map_0", "feature_map")
    for name, tokens, attention in zip(names, branches, model.attention):
        torch.testing.assert_close(maps[name], attention(tokens.maps))  # M'', behind CSA
    for name in names:  # Grad-CAM needs the graph
        assert torch.autograd.grad(features.sum(), maps[name], retain_graph=True)[0].any()


@pytest.mark.parametrize(
    "words, dims, length", [(CONV, [512], 512), (VIT, [16], 32)], ids=["ResNet", "ViT"]
)
def test_other_backbones_are_one_branch(words, dims, length):
    model, batch = model_of(*words), make_batch()
    assert [one.channel.mlp[0].in_channels for one in model.attention] == dims
    assert model.eval()(batch).shape == (len(batch["images"]), length)
    assert sum(model.train()(batch).values()).isfinite()


def test_fastreids_own_backbones_too():
    name = ["MODEL.BACKBONE.NAME", "build_shufflenetv2_backbone", "MODEL.BACKBONE.DEPTH", "0.5x"]
    model, batch = model_of(*CONV, *name), make_batch()
    assert model.eval()(batch).shape[1] == model.heads.weight.shape[1]


def test_the_losses_are_equations_13_and_15():
    model, batch = statistics_free(model_of()), make_batch()
    with torch.no_grad():
        feature_map = model.extract(model.normalize(batch["images"]), batch["modalities"])
        outputs = model.heads(feature_map, batch["targets"], batch["modalities"])
        terms = model(batch)
    x, logits = outputs["features"].double(), outputs["logits"].double()
    targets, rows, xi, alpha = batch["targets"].tolist(), range(len(x)), 0.1, 1.0
    identity = triplet = 0.0
    for a in rows:
        p = logits[a].softmax(0).tolist()
        count = len(p)
        for i in range(count):
            q = 1 - (count - 1) / count * xi if targets[a] == i else xi / count
            identity += -q * math.log(p[i]) / len(x)  # Eq. (13)
        d = [math.dist(x[a].tolist(), x[b].tolist()) for b in rows]
        positives = [d[b] for b in rows if b != a and targets[b] == targets[a]]
        negatives = [d[b] for b in rows if targets[b] != targets[a]]
        near = sum(math.exp(one) * one for one in positives) / sum(map(math.exp, positives))
        far = [math.exp(-one) for one in negatives]
        away = sum(w * one for w, one in zip(far, negatives)) / sum(far)
        triplet += max(0.0, near - away + alpha) / len(x)  # Eq. (15), with its hinge
    assert terms["loss_id"].item() == pytest.approx(identity, rel=1e-4)
    assert terms["loss_weighted_triplet"].item() == pytest.approx(triplet, rel=1e-4)


def test_modalities_share_all_weights():
    model, batch = model_of().eval(), make_batch()
    with torch.no_grad():
        other = dict(batch, modalities=1 - batch["modalities"])
        assert torch.equal(model(batch), model(other))


def test_an_unshared_embedding_keeps_rows_in_order():
    model, batch = model_of("MODEL.BACKBONE.UNSHARED_STAGES", "1").eval(), make_batch()
    rows = torch.randperm(len(batch["images"]))
    with torch.no_grad():
        torch.testing.assert_close(model(take(batch, rows)), model(batch)[rows])


def test_a_visible_image_has_a_gray_copy_and_an_infrared_one_has_none():
    cfg = build_config(str(FOLDER / "sysu.yml"), [*CPU, "INPUT.REA.PROB", "0.0"])
    chains = build_transforms(cfg, is_train=True)
    pixels = torch.randint(0, 256, (60, 30, 3), dtype=torch.uint8).numpy()
    views = chains(Image.fromarray(pixels), Modality.VISIBLE)
    assert views.shape == (2, 3, 288, 144)
    assert (views[1] == views[1][:1]).all() and not (views[0] == views[0][:1]).all()
    assert chains(Image.fromarray(pixels), Modality.INFRARED).shape == (1, 3, 288, 144)
    words = chains.describe()
    assert words.count("TrivialAugment") == 3 and words.count("RandomGray") == 1


def test_the_printed_recipe_is_that_of_sgd_paper():
    cfg = build_config(str(FOLDER / "sgd_paper.yml"), CPU)
    solver = cfg.SOLVER
    assert (solver.OPT, solver.BASE_LR, solver.MOMENTUM) == ("SGD", 0.1, 0.9)
    assert (solver.WEIGHT_DECAY, solver.MAX_EPOCH, solver.IMS_PER_BATCH) == (5e-4, 100, 16)
    assert (solver.WEIGHT_DECAY_BIAS, solver.WEIGHT_DECAY_NORM) == (5e-4, 5e-4)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=solver.BASE_LR)
    schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch=7)["lr_sched"]
    found = [schedule.rates(7 * epoch)[0] for epoch in (0, 19, 20, 49, 50, 99)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert solver.BACKBONE_LR_FACTOR == 1.0
    assert list(cfg.INPUT.SIZE_TRAIN) == [288, 144] and cfg.INPUT.REA.PROB == 0.5
    assert cfg.MODEL.LOSSES.WEIGHTED_TRIPLET.MARGIN == 1.0


@pytest.mark.parametrize("recipe", ["sysu", "sgd_paper", "synthetic"])
def test_the_centers_of_table_4_move_by_plain_sgd_whatever_moves_the_network(recipe):
    """With AdamW, a group with the rate LR / SCALE would take steps of 1000 in each coordinate."""
    row, base = FOLDER / "ablation/center.yml", FOLDER / f"{recipe}.yml"
    center = build_config(str(row), CPU, str(base)).MODEL.LOSSES.CENTER
    assert center.OWN_STEP and center.LR == 0.5


@pytest.mark.parametrize(
    "words, message",
    [
        (["MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPooling"], "Set it to GlobalAvgPool"),
        ([*CONV, "MODEL.HEADS.POOL_LAYER", "GeneralizedMeanPoolingP"], "features of either sign"),
        (["MODEL.CROSSVIT_CSA.REDUCTION", "9"], "REDUCTION is 9, and the maps .* 8 and 12"),
    ],
)
def test_what_does_not_fit_is_named(words, message):
    with pytest.raises(UserError, match=message):
        model_of(*words)


@pytest.mark.parametrize(
    "key, value",
    [
        ("ATTENTION", "cbam"),
        ("SPATIAL", "both"),
        ("CLASS_TOKEN", "mean"),
        ("KERNEL", "4"),
        ("KERNEL", "0"),
        ("REDUCTION", "0"),
        ("REDUCTION", "2.5"),
    ],
)
def test_values_out_of_range_name_their_key(key, value):
    with pytest.raises(UserError, match=f"MODEL.CROSSVIT_CSA.{key}"):
        build_config(str(FOLDER / "synthetic.yml"), [f"MODEL.CROSSVIT_CSA.{key}", value])
