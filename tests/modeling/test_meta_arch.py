"""Every registered meta-architecture and every config file: the contract all methods share.

A new method is tested here by being registered and by having a config; its own file adds only
its equations.
"""

import copy
import functools
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import vireid_plugins  # noqa: F401
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modality import Modality
from vireid_plugins.modeling.meta_arch import DualStreamBaseline
from vireid_plugins.solver.build import parameter_groups

from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from tests.every_key.narrow import NAME as NARROW

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "configs").glob("*/**/*.yml")
    if not path.name.startswith("Base-") and not path.name.endswith(("plan.yml", "setting.yml"))
)
P, K, NUM_CLASSES = 3, 2, 5
_OPTIONS = "MODEL.BACKBONE.TIMM_OPTIONS"
SIZE = [96, 48]  # pixels; a map of 6 x 3, a row for each of the six parts that some methods cut


@functools.cache
def settings(config, *opts):
    """The config with five identities and random weights on the CPU; shared, so never changed."""
    small = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    return build_config(str(ROOT / config), [*small, "MODEL.HEADS.NUM_CLASSES", "5", *opts])


def on_a_small_network(config):
    """Words that put ResNet-18, a tenth of the work, in the place of ResNet-50, or a tiny ViT.

    Hi-CMD, which passes eight images through its networks for each one of a batch, gets a narrow
    network.
    """
    model, backbone = settings(config).MODEL, settings(config).MODEL.BACKBONE
    if model.META_ARCHITECTURE == "HiCMD":
        widths = ("MODEL.HICMD.MLP_WIDTH", "8", "MODEL.HICMD.DISCRIMINATOR_WIDTH", "4")
        return ("MODEL.BACKBONE.NAME", NARROW, *widths)
    if backbone.TIMM_NAME.startswith("vit_"):
        sizes = "['depth=2','embed_dim=32','num_heads=2']"
        return ("MODEL.BACKBONE.TIMM_NAME", "vit_tiny_patch16_224", _OPTIONS, sizes)
    if backbone.TIMM_NAME.startswith("convnext_"):
        return ("MODEL.BACKBONE.TIMM_NAME", "convnext_atto")
    if backbone.TIMM_NAME.startswith("crossvit_"):
        sizes = "['depth=((1,1,0),(1,1,0))','embed_dim=(24,48)','num_heads=(2,2)']"
        return ("MODEL.BACKBONE.TIMM_NAME", "crossvit_tiny_240", _OPTIONS, sizes)
    if backbone.DEPTH not in ("50x", "101x"):
        return ()
    non_local = [min(blocks, 1) for blocks in backbone.NL_BLOCKS]
    return ("MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.NL_BLOCKS", str(non_local))


def of_models(cfg):
    """The part of a config that a model is built of; its builders are given nothing else."""
    found = of_networks(cfg)
    # how long an identity takes to return, for a memory
    found.SOLVER.ACCUMULATION = cfg.SOLVER.ACCUMULATION
    found.SOLVER.IMS_PER_BATCH = cfg.SOLVER.IMS_PER_BATCH
    found.DATALOADER = CfgNode({"NUM_INSTANCE": cfg.DATALOADER.NUM_INSTANCE})
    return found


def of_networks(cfg):
    """That part without the size of a batch."""
    return CfgNode(
        {
            "MODEL": cfg.MODEL.clone(),
            "INPUT": {
                "GREY": cfg.INPUT.GREY.clone(),  # when the stages of PMT change
                "NUM_VIEWS": cfg.INPUT.NUM_VIEWS.clone(),
                "SIZE_TRAIN": SIZE,
                "SIZE_TEST": SIZE,
            },
            "SOLVER": {"MAX_EPOCH": cfg.SOLVER.MAX_EPOCH},
            "TEST": {
                "FEATURE": cfg.TEST.FEATURE,
                "METRIC": cfg.TEST.METRIC,
                "RERANK": cfg.TEST.RERANK.clone(),
                "AQE": cfg.TEST.AQE.clone(),
            },
        }
    )


def distinct_models(words_of=lambda config: ()):
    """The configs, but one only of several that make the same model of the same views.

    The configs of one method for three datasets, or an ablation's full row, would repeat each
    other's test to the last bit.
    """
    found = {of_networks(settings(config, *words_of(config))).dump(): config for config in CONFIGS}
    return sorted(found.values())


def make_model(config, *opts):
    """The config's model from random weights on the CPU."""
    if settings(config).MODEL.BACKBONE.TIMM_NAME:
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return build_model(of_models(settings(config, *opts)))


def mark_slow(configs, is_slow=lambda config: False):
    """Parameters of a test; rows of ablations, and what ``is_slow`` names, are marked slow."""
    return [
        pytest.param(
            config, marks=[pytest.mark.slow] if is_slow(config) or config.count("/") > 2 else []
        )
        for config in configs
    ]


@pytest.fixture(scope="module", params=mark_slow(distinct_models(on_a_small_network)))
def built(request):
    """(config, its model on a small network), built once for the tests below."""
    return request.param, make_model(request.param, *on_a_small_network(request.param))


@pytest.fixture
def config(built):
    return built[0]


@pytest.fixture
def model(built):
    """A copy of its own for each test."""
    return copy.deepcopy(built[1])


def make_batch(size=SIZE):
    """P identities x (K visible + K infrared), in no order, as the loader gives it."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(2 * P * K, generator=generator)
    targets = torch.arange(P).repeat_interleave(2 * K)[rows] + 1
    modalities = torch.tensor([0, 1]).repeat(P * K)[rows]
    return {
        "images": torch.rand(2 * P * K, 3, *size, generator=generator) * 255,
        "targets": targets,
        "camids": modalities * 2 + 1,
        "modalities": modalities,
        "index": rows + 10,
        "img_paths": [f"{i}.jpg" for i in rows.tolist()],
        "keypoints": torch.rand(2 * P * K, 17, 3, generator=generator)
        * torch.tensor([size[1], size[0], 1.0]),
    }


def take(batch, rows):
    """The batch with its rows in another order."""
    return {
        key: value[rows] if torch.is_tensor(value) else [value[i] for i in rows.tolist()]
        for key, value in batch.items()
    }


def make_views(config, batch):
    """The batch with the rows that the config makes of each image: view n is n + 1 times darker."""
    counts = settings(config).INPUT.NUM_VIEWS
    if max(counts.values()) == 1:
        return batch
    views = [range(counts[Modality(m).name]) for m in batch["modalities"].tolist()]
    rows = torch.tensor([row for row, own in enumerate(views) for _ in own])
    views = torch.tensor([view for own in views for view in own])
    batch = dict(take(batch, rows), views=views)
    return dict(batch, images=batch["images"] / (views + 1).view(-1, 1, 1, 1))


def statistics_free(model):
    """Training mode without batch norm's dependence on rounding order: statistics stand still.

    Nor is anything dropped or drawn: what is dropped depends on the place of a row, and so does
    which rows are NFormer's landmarks. All are.
    """
    model.train()
    for module in model.modules():
        if hasattr(module, "num_landmarks"):
            module.num_landmarks = sys.maxsize
        norm = isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
        if norm or isinstance(module, nn.Dropout) or type(module).__name__ == "DropPath":
            module.eval()
    return model


def has_frozen_network(model):
    """Whether the network is that of a trained model, and never changes (NFormer's encoder)."""
    return getattr(model, "trains_on_features", False)


def test_every_parameter_has_the_rate_of_its_part(config, model):
    """That of the backbone, of everything else, or its own."""
    words = ("SOLVER.BACKBONE_LR_FACTOR", 0.25, "SOLVER.HEADS_LR_FACTOR", 4.0)
    cfg = settings(config, "SOLVER.BASE_LR", 0.5, "SOLVER.BIAS_LR_FACTOR", 1.0, *words)
    found = {id(p): group["lr"] for group in parameter_groups(cfg, model) for p in group["params"]}
    own = {
        id(parameter): module.param_group_overrides["lr"]
        for module in model.modules()
        if "lr" in getattr(module, "param_group_overrides", {})
        for parameter in module.parameters(recurse=False)
    }
    new = {f"backbone.{name}" for name in getattr(model.backbone, "new_parameters", ())}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            of_heads = name in new or any(re.match(p, name) for p in cfg.SOLVER.HEADS_LR_LAYERS)
            parts = tuple(f"{part}." for part in getattr(model, "backbones", ("backbone",)))
            rate = 0.125 if name.startswith(parts) and not of_heads else 2.0
            assert found.pop(id(parameter)) == own.get(id(parameter), rate), name
    assert not found


def test_every_method_has_a_config():
    ours = {
        name
        for name, cls in META_ARCH_REGISTRY._obj_map.items()
        if cls.__module__.startswith("vireid_plugins")
    }
    used = {settings(config).MODEL.META_ARCHITECTURE for config in CONFIGS}
    assert ours and ours <= used


def gradients_by_phase(model, batch, half=False):
    """Phase to the names of parameters with a gradient in it; all gradients are finite."""
    found = {}
    for phase in model.phases:
        model.phase = phase
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            terms = model(batch)
        assert terms and all("loss" in name and term.dim() == 0 for name, term in terms.items())
        sum(terms.values()).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        found[phase] = set(gradients)
    return found


@pytest.mark.parametrize("config", mark_slow(distinct_models(), is_slow=on_a_small_network))
def test_each_trainable_parameter_gets_a_finite_gradient_in_some_phase(config):
    """At the size of the config: widths that do not fit each other stop here.

    A method whose optimizers take turns has the maps of all turns in memory: of smaller images.
    """
    model = make_model(config).train()
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    batch = make_batch([48, 24] if hasattr(model, "turns_at") else SIZE)
    by_phase = gradients_by_phase(model, make_views(config, batch))
    assert set.union(*by_phase.values()) == trainable
    left_out = any(names != trainable for names in by_phase.values())
    assert model.may_leave_parameters_unused == left_out  # or else DDP stops, or waits in vain


def test_every_epoch_has_a_declared_phase_and_the_first_holds_at_the_start(model):
    seen = {model.phase_of(epoch) for epoch in range(80)}
    assert seen == set(model.phases) and model.phase == model.phase_of(0)


def test_a_shuffled_batch_gives_the_same_losses_and_features(config, model):
    batch = make_views(config, make_batch())
    rows = torch.randperm(len(batch["targets"]))
    with torch.no_grad():
        for phase in model.phases:
            model.phase = phase
            statistics_free(model)
            expected, found = model(batch), model(take(batch, rows))
            for name in expected:
                torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
        model.eval()
        torch.testing.assert_close(
            model(take(batch, rows)), model(batch)[rows], rtol=1e-3, atol=1e-4
        )


def test_labels_with_other_rows_than_images_are_named(config, model):
    model, batch = model.train(), make_views(config, make_batch())
    for name in ("targets", "modalities", "camids", "index"):
        with pytest.raises(ValueError, match=f"'{name}' the shape.*one row for each image"):
            model(dict(batch, **{name: batch[name][:-1]}))
    del batch["targets"]
    with pytest.raises(ValueError, match="'targets'"):
        model(batch)


def test_what_is_of_training_only_names_parts_that_features_do_not_need(config, model):
    """Other values in them change no feature; an ablation may leave them out.

    The parts have the names that they have in files.
    """
    model, batch = model.eval(), make_batch()
    features, tensors = model(batch), model.state_dict()
    for part in model.training_only:
        own = [name for name in tensors if name.startswith(f"{part}.")]
        assert own or "ablation" in config, part
        for name in own:
            tensors[name].zero_()
    assert torch.equal(model(batch), features)


def test_the_batch_is_never_changed_and_one_modality_is_normal(config, model):
    batch = make_views(config, make_batch())
    kept = copy.deepcopy(batch)
    model.train()(batch)
    for modality in Modality:
        rows = torch.nonzero(batch["modalities"] == modality)[:1, 0]
        with torch.no_grad():
            features = model.eval()(take(batch, rows))
        assert features.shape[0] == 1 and features.dim() == 2 and features.isfinite().all()
    assert all(
        torch.equal(batch[k], kept[k]) if torch.is_tensor(kept[k]) else batch[k] == kept[k]
        for k in kept
    )


@pytest.mark.parametrize(
    "config", [c for c in distinct_models(on_a_small_network) if c.count("/") == 2]
)
def test_bfloat16_is_finite_and_near_float32(config):
    """In every phase: terms in float32, near those without mixed precision.

    Gradients are finite and reach the same parameters, with the batch's own statistics.
    """
    model = make_model(config, *on_a_small_network(config))
    batch = make_views(config, make_batch())
    for phase in model.phases:
        model.phase = phase
        statistics_free(model)
        with torch.no_grad():
            plain = model(batch)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                terms = model(batch)
        assert terms.keys() == plain.keys()
        for name, value in plain.items():
            assert terms[name].dtype is torch.float32
            torch.testing.assert_close(terms[name], value, rtol=0.02, atol=0.02)
    if torch.__version__.startswith("1.") and any(type(m) is nn.ReLU6 for m in model.modules()):
        pytest.skip("PyTorch 1 has no gradient of ReLU6 in bfloat16 on a CPU")
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    by_phase = gradients_by_phase(model.train(), batch, half=True)
    assert set.union(*by_phase.values()) == trainable


SYNTHETIC = "configs/agw/synthetic.yml"


def test_the_head_takes_the_backbones_feature_size():
    model = make_model(SYNTHETIC)
    assert model.heads.weight.shape == (NUM_CLASSES, 512)


def test_a_batch_without_modalities_names_the_feature_extractor():
    model = make_model(SYNTHETIC).eval()
    with pytest.raises(ValueError, match="FeatureExtractor"):
        model({"images": torch.zeros(1, 3, 96, 48)})


@pytest.mark.parametrize("head", ["BNNeckHead", "EmbeddingHead"])
@pytest.mark.parametrize("backbone", ["build_dual_stream_resnet_backbone", "build_resnet_backbone"])
def test_heads_and_backbones_of_either_side_fit(head, backbone):
    """FastReID's parts work beside ours; its head gives what ours gives."""
    opts = ["MODEL.HEADS.NAME", head, "MODEL.BACKBONE.NAME", backbone]
    opts += ["MODEL.BACKBONE.WITH_NL", "False"]  # FEAT_DIM stays at the host's 2048
    model, batch = make_model(SYNTHETIC, *opts), make_batch()
    assert model.train()(batch).keys() == {"loss_id", "loss_weighted_triplet"}
    assert model.eval()(batch).shape == (2 * P * K, 512)


def test_our_head_equals_the_hosts():
    ours = make_model(SYNTHETIC)
    host = make_model(SYNTHETIC, "MODEL.HEADS.NAME", "EmbeddingHead")
    host.load_state_dict(ours.state_dict())
    batch = make_batch()
    for name, term in statistics_free(ours)(batch).items():
        torch.testing.assert_close(term, statistics_free(host)(batch)[name])


@pytest.mark.parametrize(
    "pool", ["GlobalAvgPool", "GlobalMaxPool", "GeneralizedMeanPooling", "GeneralizedMeanPoolingP"]
)
def test_poolings_against_their_formulas(pool):
    model = make_model(SYNTHETIC, "MODEL.HEADS.POOL_LAYER", pool)
    maps = torch.rand(2, 512, 3, 2)
    flat = maps.flatten(2)
    expected = {
        "GlobalAvgPool": flat.mean(2),
        "GlobalMaxPool": flat.amax(2),
        "GeneralizedMeanPooling": (flat.clamp(min=1e-6) ** 3).mean(2) ** (1 / 3),
    }
    expected["GeneralizedMeanPoolingP"] = expected["GeneralizedMeanPooling"]
    found = model.heads.train()(maps, torch.tensor([0, 1]))["features"]
    torch.testing.assert_close(found, expected[pool])


def test_metric_losses_see_the_feature_that_neck_feat_names():
    for where, name in (("before", "features"), ("after", "bn_features")):
        head = make_model(SYNTHETIC, "MODEL.HEADS.NECK_FEAT", where).heads.train()
        outputs = head(torch.rand(4, 512, 3, 2), torch.tensor([0, 0, 1, 1]))
        assert torch.equal(outputs["features"], outputs["bn_features"]) == (name == "bn_features")
    with pytest.raises(ValueError, match="NECK_FEAT is 'middle'"):
        make_model(SYNTHETIC, "MODEL.HEADS.NECK_FEAT", "middle")


def test_normalization_is_exact_and_out_of_place():
    model, images = make_model(SYNTHETIC), torch.full((1, 3, 4, 2), 200.0)
    found = model.normalize(images)
    assert images.unique().tolist() == [200.0]
    pixel_mean, pixel_std = model.pixel_mean.flatten(), model.pixel_std.flatten()
    expected = (200 - pixel_mean) / pixel_std
    torch.testing.assert_close(found[0, :, 0, 0], expected)


def test_bytes_are_normalized_to_the_bits_of_floats():
    """Each gray level, against one subtraction and one division in float32."""
    model, levels = make_model(SYNTHETIC), torch.arange(256, dtype=torch.uint8)
    images = levels.view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    expected = (images.float() - model.pixel_mean) / model.pixel_std
    assert torch.equal(model.normalize(images), expected)
    assert torch.equal(model.normalize(images.float()), expected)
    assert torch.equal(model.normalize(images.double()), expected)
    assert images[0, 0].flatten().tolist() == list(range(256))


def test_a_float64_model_sees_float64_images():
    """Rounded to float32, they would move its features by 1e-7 of what the images do."""
    model = make_model(SYNTHETIC).double()
    images = torch.rand(2, 3, 4, 5, dtype=torch.float64) * 255
    expected = (images - model.pixel_mean) / model.pixel_std
    assert torch.equal(model.normalize(images), expected) and expected.dtype is torch.float64


def test_a_subclass_may_write_its_own_sum():
    class Doubled(DualStreamBaseline):
        def losses(self, outputs, batch):
            return {k: 2 * v for k, v in super().losses(outputs, batch).items()}

    model, batch = statistics_free(make_model(SYNTHETIC)), make_batch()
    plain = model(batch)
    model.__class__ = Doubled
    for name, term in model(batch).items():
        torch.testing.assert_close(term, 2 * plain[name])
