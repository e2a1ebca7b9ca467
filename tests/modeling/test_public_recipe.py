"""The reference configs of AGW and CAJ against the public code, in training and in tests.

Recorded from mangye16/Cross-Modal-Re-ID-baseline (``train.py --method agw``, and
``ICCV21_CAJ/train_ext.py --method adp --square 1``) with PyTorch 2.13, in float64: ``embed_net(5)``
whose initial weights and images are the waves below, two optimizer steps with the rates of the
epochs 3 and 4 (from 0), then the features of two test images; and, with the initial weights, those
of the images and of their mirror images (``testa.py``). Only the arguments of ``addmm_`` were
changed there, which PyTorch no longer accepts. Networks are whole ResNet-50s; images are small,
48 x 32.
"""

import zlib

import pytest
import torch

from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.evaluation import extract_features, flip_options
from vireid_plugins.solver import build_lr_scheduler, build_optimizer

CLASSES = 5
STEM = "visible_module.visible."
SHARED = "base_resnet.base."
OURS = {
    f"{STEM}conv1.weight": "backbone.visible.stem.conv1.weight",
    "thermal_module.thermal.bn1.bias": "backbone.infrared.stem.bn1.bias",
    f"{SHARED}layer1.0.downsample.0.weight": "backbone.shared.layer1.0.downsample.0.weight",
    f"{SHARED}layer3.5.conv2.weight": "backbone.shared.layer3.5.conv2.weight",
    f"{SHARED}layer4.2.bn3.weight": "backbone.shared.layer4.2.bn3.weight",
    "bottleneck.weight": "heads.bottleneck.0.weight",
    "classifier.weight": "heads.weight",
    "NL_2.0.theta.weight": "backbone.shared.layer2.non_local.2.theta.weight",
    "NL_3.2.W.1.weight": "backbone.shared.layer3.non_local.5.W.1.weight",
    "NL_3.0.g.0.bias": "backbone.shared.layer3.non_local.3.g.bias",
}
# losses of both steps, sums of (weight after - weight before) * wave, sums of feature * wave
RECORDED = {
    "agw": {
        "loss_id": [3.683323255607313, 12.597952529566488],
        "loss_weighted_triplet": [3.7889827871661805, 7.314505871849473],
        f"{STEM}conv1.weight": -0.37017609836901333,
        "thermal_module.thermal.bn1.bias": -0.0784871687011073,
        f"{SHARED}layer1.0.downsample.0.weight": 0.5004471106888964,
        f"{SHARED}layer3.5.conv2.weight": -0.534106276630971,
        f"{SHARED}layer4.2.bn3.weight": 0.06076126099961049,
        "bottleneck.weight": 0.3596351250489169,
        "classifier.weight": -7.6913572072328,
        "NL_2.0.theta.weight": 0.35265496052333056,
        "NL_3.2.W.1.weight": -0.18913278258805996,
        "NL_3.0.g.0.bias": -0.02049375608223759,
        "visible": 1.0947074439719795,
        "infrared": 1.0792204424503362,
    },
    "caj": {
        "loss_id": [3.818794490312408, 11.982233739358508],
        "loss_weighted_triplet": [43.24758202040655, 45.864166300472796],
        f"{STEM}conv1.weight": 2.4651593516287345,
        "thermal_module.thermal.bn1.bias": -0.38097512212207324,
        f"{SHARED}layer1.0.downsample.0.weight": 9.305278137069784,
        f"{SHARED}layer3.5.conv2.weight": 1.0802376274193228,
        f"{SHARED}layer4.2.bn3.weight": -0.04843029255309661,
        "bottleneck.weight": 0.5522724991369315,
        "classifier.weight": -3.6803745116091275,
        "NL_2.0.theta.weight": -0.24078205393797258,
        "NL_3.2.W.1.weight": 0.09116462642141729,
        "NL_3.0.g.0.bias": 0.008825795470575444,
        "visible": 2.160735460911318,
        "infrared": 2.1617414618866206,
    },
}


def wave(shape, key):
    """Return numbers in -1..1 that depend on ``key`` alone, on every machine."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    phase = zlib.crc32(key.encode()) % 1000
    return torch.sin(0.7 * i + 0.01 * (i * i % 997) + phase).reshape(shape)


def initial(name, shape):
    """Return the initial value of a tensor by its public name; both stems have the same one."""
    numbers = wave(shape, name)
    if len(shape) == 4:
        return numbers * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
    if len(shape) == 2:
        return 0.05 * numbers
    if name.endswith("weight"):
        small = "bn3" in name or "W.1" in name
        return (0.1 if small else 0.3 if "downsample" in name else 1.0) * (1 + 0.2 * numbers)
    return 0.02 * numbers


def public_name(name):
    """Return the public name of a parameter of our model; ``infrared`` has that of ``visible``."""
    if name.startswith("heads."):
        return {"heads.weight": "classifier.weight"}.get(name, f"bottleneck.{name.split('.')[-1]}")
    _, _, stage, rest = name.split(".", 3)
    if stage == "stem":
        return STEM + rest
    if not rest.startswith("non_local."):
        return f"{SHARED}{stage}.{rest}"
    _, block, rest = rest.split(".", 2)
    first = {"layer2": 2, "layer3": 3}[stage]  # [0, 2, 3, 0] of [3, 4, 6, 3] blocks
    return f"NL_{stage[-1]}.{int(block) - first}.{rest.replace('g.', 'g.0.')}"


def config(method, *pairs):
    words = f"MODEL.DEVICE cpu MODEL.BACKBONE.PRETRAIN False MODEL.HEADS.NUM_CLASSES {CLASSES} "
    words += "MODEL.PIXEL_MEAN [0.,0.,0.] MODEL.PIXEL_STD [1.,1.,1.]"  # the waves are normalized
    return build_config(f"configs/{method}/reference.yml", [*words.split(), *pairs])


def batch_of(step, views):
    """Return a training batch: the visible views, one after the other, then infrared images."""
    keys = [*(f"visible {step} {view}" for view in range(views)), f"infrared {step}"]
    return {
        "images": torch.cat([wave((4, 3, 48, 32), key).float() for key in keys]),
        "targets": torch.tensor([0, 0, 3, 3] * (views + 1)),
        "modalities": torch.tensor([0] * 4 * views + [1] * 4),
        "views": torch.arange(views + 1).remainder(views).repeat_interleave(4),
        "camids": torch.tensor([1] * 4 * views + [3] * 4),
        "index": torch.tensor([*[0, 1, 2, 3] * views, 4, 5, 6, 7]),
    }


def images_to_test(modality):
    return {
        "images": wave((2, 3, 48, 32), "test").float(),
        "modalities": torch.full((2,), modality),
        "targets": torch.tensor([0, 1]),
        "camids": torch.tensor([1, 1]),
        "index": torch.tensor([0, 1]),
    }


def public_model(cfg):
    model = build_model(cfg).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(initial(public_name(name), parameter.shape))
        model.heads.bottleneck[0].bias.zero_()
    return model


def unit_probe(features):
    """Return the sum of features of length 1, (2, 2048), times a wave."""
    unit = torch.nn.functional.normalize(features.double())
    return (unit * wave((2, 2048), "probe")).sum().item()


@pytest.mark.slow
@pytest.mark.parametrize("method", RECORDED)
def test_two_steps_and_the_features_equal_the_public_code(method):
    expected, cfg = RECORDED[method], config(method)
    model = public_model(cfg)
    begin = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch=1)["lr_sched"]
    model.train()
    for step, epoch in enumerate((3, 4)):
        schedule.set(epoch)
        terms = model(batch_of(step, cfg.INPUT.NUM_VIEWS.VISIBLE))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        for name, term in terms.items():
            assert term.item() == pytest.approx(expected[name][step], rel=1e-9)
    now = dict(model.named_parameters())
    for public, name in OURS.items():
        moved = ((now[name] - begin[name]) * wave(now[name].shape, "probe")).sum().item()
        assert moved == pytest.approx(expected[public], rel=1e-7), name
    assert not model.heads.bottleneck[0].bias.any()
    model.eval()
    for modality, name in enumerate(("visible", "infrared")):
        with torch.no_grad():
            found = unit_probe(model(images_to_test(modality)))
        assert found == pytest.approx(expected[name], rel=1e-9)


@pytest.mark.slow
def test_features_and_those_of_mirror_images_equal_the_public_code():
    """Channels that are 0 everywhere are among them, which GEM_EPS decides."""
    cfg = config("caj")
    model, batch = public_model(cfg).eval(), images_to_test(0)
    with torch.no_grad():
        assert unit_probe(model(batch)) == pytest.approx(11.984443147883999, rel=1e-12)
        feature_map = model.extract(batch["images"].double(), batch["modalities"])
        assert model.heads.pool(feature_map).min().item() == pytest.approx(1e-4, rel=1e-9)
    found = extract_features(model, [batch], **flip_options(cfg))
    assert unit_probe(found.features) == pytest.approx(11.995716886947234, rel=1e-6)  # float32


@pytest.mark.parametrize("method, epochs", [("agw", 81), ("caj", 100)])
def test_the_rates_of_every_epoch(method, epochs):
    """``adjust_learning_rate``: 0.1 for neck and classifier, a tenth for all of the rest."""
    cfg = config(method, "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.NL_BLOCKS", "[0,1,1,0]")
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    schedule = build_lr_scheduler(cfg, optimizer, iters_per_epoch=7)["lr_sched"]
    assert cfg.SOLVER.MAX_EPOCH == epochs
    heads = {id(parameter) for parameter in model.heads.parameters()}
    kinds = [{id(p) in heads for p in group["params"]} for group in optimizer.param_groups]
    assert all(len(kind) == 1 for kind in kinds)
    for epoch in range(epochs):
        rate = 0.1 * (epoch + 1) / 10 if epoch < 10 else 0.1
        rate = rate if epoch < 20 else 0.01 if epoch < 50 else 0.001
        for iteration in (7 * epoch, 7 * epoch + 6):  # it is the same within an epoch
            for kind, found in zip(kinds, schedule.rates(iteration)):
                assert found == pytest.approx(rate if kind == {True} else 0.1 * rate, rel=1e-12)
    for group in optimizer.param_groups:
        words = ("momentum", "nesterov", "weight_decay", "dampening")
        assert [group[word] for word in words] == [0.9, True, 5e-4, 0]
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert [n for n, p in model.named_parameters() if id(p) not in trained] == [
        "heads.bottleneck.0.bias"
    ]
