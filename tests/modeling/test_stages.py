"""Networks cut into stages. Oracle: FastReID's or torchvision's ordinary network, to 1e-9."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from vireid_plugins.errors import CheckpointError, UserError
from vireid_plugins.modeling.backbones import build_dual_stream_backbone
from vireid_plugins.modeling.backbones.dual_stream import STAGES
from vireid_plugins.modeling.backbones.stages import Stages, find_network
from vireid_plugins.modeling.maps import recorded_maps
from vireid_plugins.registry import NETWORK_REGISTRY

import fastreid
from fastreid.modeling.backbones import BACKBONE_REGISTRY

from tests.engine.small import ROOT
from tests.modeling.test_backbone import make_cfg

#: the smallest DEPTH of each network of FastReID, and the strides of its stages from the image
SMALLEST = {
    "mobilenetv2": ("0.1x", (2, 4, 8, 16, 32)),
    "mobilenetv3": ("Small", (2, 4, 8, 16, 32)),
    "osnet": ("x0_25", (4, 8, 16, 16, 16)),
    "regnet": ("200y", (2, 4, 8, 16, 32)),
    "repvgg": ("A0", (2, 4, 8, 16, 32)),
    "resnest": ("50x", (4, 4, 8, 16, 32)),
    "resnet": ("18x", (4, 4, 8, 16, 32)),
    "resnext": ("50x", (4, 4, 8, 16, 32)),
    "shufflenetv2": ("0.5x", (2, 4, 8, 16, 32)),
}
SLOW = ("repvgg", "resnest", "resnext")
IMAGES = torch.rand(4, 3, 64, 32, dtype=torch.float64)
MODALITIES = torch.tensor([1, 0, 1, 0])


def network_cfg(network, depth=None, **backbone):
    depth = depth or SMALLEST[network][0]
    own = {"NAME": "build_dual_stream_backbone", "NETWORK": network, "PRETRAIN": False}
    return make_cfg(depth, **{**own, **backbone})


def build(network, depth=None, **backbone):
    return build_dual_stream_backbone(network_cfg(network, depth, **backbone)).eval().double()


def unusual(network):
    """The network in evaluation, with statistics that are not special."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval().double()


def assert_same(backbone, plain):
    """One modality is half of the batch, which convolutions may sum in another order."""
    with torch.no_grad():
        found, expected = backbone(IMAGES, MODALITIES), plain(IMAGES)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_each_network_of_fastreid_stands_here():
    networks = {n for n, one in NETWORK_REGISTRY._obj_map.items() if not one.takes_variant}
    assert networks == set(SMALLEST)


@pytest.mark.parametrize(
    "network", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in SMALLEST]
)
def test_two_streams_with_equal_weights_are_the_ordinary_network(network, monkeypatch):
    """Also: the stages' channels and strides, and what a stride of 1 changes."""
    monkeypatch.chdir(Path(fastreid.__file__).parent.parent)  # where RegNet looks for its files
    depth, strides = SMALLEST[network]
    stride = 2 if strides[-1] == 32 else 1
    cfg = network_cfg(network, LAST_STRIDE=stride, UNSHARED_STAGES=2)
    plain = unusual(BACKBONE_REGISTRY.get(f"build_{network}_backbone")(cfg))
    backbone = build_dual_stream_backbone(cfg).eval().double()
    report = backbone.load_ordinary(plain.state_dict())
    assert not report.missing and not report.unexpected
    with recorded_maps(backbone, STAGES) as maps:
        assert_same(backbone, plain)
    for name, stage in backbone.network.stages.items():
        height = 64 // strides[STAGES.index(name)]
        assert maps[name].shape[1:3] == (stage.channels, height)
    assert backbone.feat_dim == maps["layer4"].shape[1]
    if stride == 2:
        higher = build(network, LAST_STRIDE=1)  # the same tensors fit
        assert higher.load_ordinary(plain.state_dict()).missing == ()
        assert higher(IMAGES, MODALITIES).shape == (4, backbone.feat_dim, 4, 2)


def test_a_file_of_torchvisions_mobilenet_fits():
    """Torchvision's features; its classifier has no place here."""
    from torchvision.models import mobilenet_v2

    theirs = unusual(mobilenet_v2(weights=None))
    backbone = build("mobilenetv2", "1.0x", LAST_STRIDE=2)
    report = backbone.load_ordinary(theirs.state_dict())
    assert report.missing == ()
    assert report.unexpected == ("classifier.1.weight", "classifier.1.bias")
    assert_same(backbone, theirs.features)


def test_a_file_whose_last_convolution_is_feature_18_fits():
    plain = unusual(BACKBONE_REGISTRY.get("build_mobilenetv2_backbone")(network_cfg("mobilenetv2")))
    state = {
        f"features.18.{n[5:]}" if n.startswith("conv.") else n: t
        for n, t in plain.state_dict().items()
    }
    backbone = build("mobilenetv2", LAST_STRIDE=2)
    report = backbone.load_ordinary(state)
    assert report.missing == report.unexpected == ()
    assert_same(backbone, plain)


def test_the_padded_pooling_is_torchvisions():
    from torchvision.models import resnet18

    theirs = unusual(resnet18(weights=None))
    theirs.avgpool = theirs.fc = nn.Identity()
    for pool, same in (("padded", True), ("host", False)):
        backbone = build("resnet", LAST_STRIDE=2, STEM_POOL=pool)
        backbone.load_ordinary(theirs.state_dict())
        with torch.no_grad():
            found, expected = backbone(IMAGES, MODALITIES).flatten(1), theirs(IMAGES)
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9) == same


@pytest.mark.parametrize("cut", range(6))
def test_a_network_runs_in_two_parts(cut):
    backbone = build("shufflenetv2", UNSHARED_STAGES=cut)
    with torch.no_grad():
        first = backbone.forward_stages(IMAGES, MODALITIES, STAGES[:cut])
        second = backbone.forward_stages(first, MODALITIES, STAGES[cut:])
        assert torch.equal(second, backbone(IMAGES, MODALITIES))


@pytest.mark.parametrize("network", ["mobilenetv2", "shufflenetv2", "osnet"])
def test_what_is_computed_again_changes_no_number(network):
    backbone = build(network, WITH_NL=True, NL_BLOCKS=[0, 1, 0, 0], UNSHARED_STAGES=2).train()
    state = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    found = []
    for on in (False, True):
        backbone.load_state_dict(state)
        backbone.zero_grad()
        backbone.checkpoint_activations(on)
        backbone(IMAGES, MODALITIES).square().sum().backward()
        gradients = [p.grad.clone() for p in backbone.parameters()]
        found.append(gradients + [b.clone() for b in backbone.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_frozen_stages_of_a_mobilenet_stand_still():
    backbone = build("mobilenetv2", FROZEN_STAGES=3, UNSHARED_STAGES=2).train()
    before = {n: b.clone() for n, b in backbone.named_buffers()}
    backbone(IMAGES, MODALITIES).sum().backward()
    for name, parameter in backbone.named_parameters():
        frozen = any(stage in name for stage in STAGES[:3])
        assert (parameter.grad is None) == frozen
    moved = {n for n, b in backbone.named_buffers() if not torch.equal(b, before[n])}
    assert moved and not any(stage in name for name in moved for stage in STAGES[:3])


def test_non_local_blocks_have_the_width_of_the_block_before():
    """MobileNetV2's layer4 ends with a convolution, which is no block."""
    backbone = build("mobilenetv2", "1.0x", WITH_NL=True, NL_BLOCKS=[0, 0, 4, 1])
    widths = {
        stage: {
            name: layer.W[0].out_channels
            for name, layer in backbone.shared[stage].non_local.items()
        }
        for stage in ("layer3", "layer4")
    }
    assert widths == {"layer3": {"10": 64, "11": 96, "12": 96, "13": 96}, "layer4": {"17": 320}}
    with torch.no_grad():
        assert backbone(IMAGES, MODALITIES).shape == (4, 1280, 4, 2)


def test_the_stages_of_a_large_mobilenetv3_begin_with_its_strides():
    backbone = build("mobilenetv3", "Large", LAST_STRIDE=2)
    with recorded_maps(backbone, STAGES) as maps:
        backbone(IMAGES, MODALITIES)
    assert [maps[stage].shape[2] for stage in STAGES] == [32, 16, 8, 4, 2]
    for stage in STAGES[1:]:
        first_block = next(backbone.network.stages[stage].children())
        strides = [m.stride for m in first_block.modules() if isinstance(m, nn.Conv2d)]
        assert (2, 2) in strides


def test_an_x_that_is_built_after_a_y_has_no_squeeze_and_excitation(monkeypatch):
    """What FastReID's settings were, they are again."""
    from fastreid.modeling.backbones.regnet.regnet import regnet_cfg

    before = regnet_cfg.dump()
    names = {depth: set(build("regnet", depth).state_dict()) for depth in ("200y", "200x")}
    assert any(".se." in name for name in names["200y"])
    assert not any(".se." in name for name in names["200x"])
    assert regnet_cfg.dump() == before
    monkeypatch.setitem(regnet_cfg.REGNET, "SE_ON", True)  # as FastReID's own builder leaves it
    assert set(build("regnet", "200x").state_dict()) == names["200x"]


@pytest.mark.parametrize(
    "network, others, message",
    [
        ("mobilenetv2", {"DEPTH": "50x"}, "DEPTH is '50x'; expected one of 1.0x, 0.75x, .*0.1x"),
        ("mobilenetv2", {"WITH_IBN": True}, "WITH_IBN .*mobilenetv2 does not .*: osnet, resnet, r"),
        ("resnext", {"STEM_POOL": "padded"}, "STEM_POOL .*Set it to 'host', .*reads it: resnet\\."),
        ("osnet", {"LAST_STRIDE": 2}, "LAST_STRIDE is 2, which .*osnet does not read. Set it to 1"),
        ("resnet", {"NETWORK": "MobileNetV2"}, "'MobileNetV2'.*Did you mean 'mobilenetv2' or"),
        ("resnet", {"NETWORK": "resnet/18"}, "is 'resnet/18'; expected 'resnet' alone.*18x, 34x"),
        (
            "shufflenetv2",
            {"WITH_NL": True, "NL_BLOCKS": [1, 0, 0, 0]},
            "NL_BLOCKS of layer1 is 1; expected 0, because layer1 of this network has no block",
        ),
        (
            "osnet",
            {"WITH_NL": True, "NL_BLOCKS": [0, 2, 3, 0]},
            "NL_BLOCKS of layer3 is 3; expected 0 to 2",
        ),
    ],
)
def test_what_a_network_cannot_do_is_named(network, others, message):
    with pytest.raises(UserError, match=message):
        depth = others.pop("DEPTH", None)
        build(network, depth, **others)


def test_weights_that_nobody_publishes_are_named():
    with pytest.raises(CheckpointError, match="for the network osnet, .*PRETRAIN_PATH to a file"):
        build("osnet", PRETRAIN=True)


@pytest.mark.parametrize(
    "network, depth, keys, file",
    [
        ("resnet", "18x", {}, "resnet18-5c106cde"),
        ("resnet", "50x", {"WITH_IBN": True}, "resnet50_ibn_a-d9d0bb7b"),
        ("resnet", "101x", {"WITH_SE": True, "WITH_IBN": True}, "se_resnet101_ibn_a-fabed4e2"),
        ("resnext", "101x", {"WITH_IBN": True}, "resnext101_ibn_a-6ace051d"),
        ("resnest", "50x", {}, "resnest50-528c19ca"),
        ("regnet", "1600y", {}, "RegNetY-1.6GF_dds_8gpu"),
        ("mobilenetv3", "Large", {}, "mobilenet_v3_large-8738ca79"),
    ],
)
def test_weights_without_a_path_are_fastreids(monkeypatch, network, depth, keys, file):
    asked = []
    module = "vireid_plugins.modeling.backbones.pretrained"
    monkeypatch.setattr(f"{module}.fetch_url", lambda url: asked.append(url) or "none")
    monkeypatch.setattr(f"{module}._tensors_in", lambda path: {})
    cfg = network_cfg(network, depth, **keys)
    assert find_network(cfg).fetch(cfg) == {}
    assert len(asked) == 1 and file in asked[0]


def test_an_address_of_another_size_is_not_used():
    """FastReID has that of RegNetX-200MF for 800x."""
    cfg = network_cfg("regnet", "800x")
    with pytest.raises(CheckpointError, match="known for the network regnet, .*DEPTH 800x"):
        find_network(cfg).fetch(cfg)


def plain_state(network, depth):
    builder = BACKBONE_REGISTRY.get(f"build_{network}_backbone")
    return builder(network_cfg(network, depth)).state_dict()


def test_a_file_of_another_width_is_refused():
    """Less than half fits: blocks whose widths round to the same number."""
    state = plain_state("mobilenetv2", "0.25x")
    with pytest.raises(CheckpointError, match="a.pth lacks .* of the .*NETWORK and MODEL.BACKB"):
        build("mobilenetv2", "0.35x").load_ordinary(state, "a.pth")


@pytest.mark.parametrize("depth, level", [("18x", "INFO"), ("34x", "WARNING")])
def test_a_file_of_another_depth_is_a_warning(depth, level, caplog):
    with caplog.at_level("INFO", logger="vireid_plugins"):
        build("resnet").load_ordinary(plain_state("resnet", depth), "a.pth")
    assert [record.levelname for record in caplog.records] == [level]
    assert ("such as layer1.2.conv1.weight. Do MODEL" in caplog.text) == (level == "WARNING")


def test_non_local_blocks_are_not_expected_in_a_file(caplog):
    report = build("resnet", WITH_NL=True, NL_BLOCKS=[0, 1, 0, 0]).load_ordinary(
        plain_state("resnet", "18x")
    )
    assert all(".non_local." in name for name in report.missing) and report.missing
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_every_norm_of_a_mobilenet_is_the_one_that_is_asked_for():
    """FastReID ends each block with batch norm whatever NORM is."""
    backbone = build("mobilenetv2", NORM="FrozenBN")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


def test_group_norm_that_does_not_fit_is_named():
    with pytest.raises(UserError, match="NORM GN does not fit .*osnet: num_channels .*must be"):
        build("osnet", NORM="GN")


def test_another_error_of_a_network_is_not_explained_by_its_norm(monkeypatch):
    def fail(cfg):
        raise ValueError("of another kind")

    monkeypatch.setattr(NETWORK_REGISTRY.get("osnet"), "from_config", fail)
    with pytest.raises(ValueError, match="^of another kind$"):
        build("osnet", NORM="GN")


def test_parts_of_one_stage_with_equal_last_names_are_told_apart():
    network = nn.ModuleDict({name: nn.Sequential(nn.Conv2d(3, 3, 1)) for name in "ab"})
    cut = Stages(network, {**dict.fromkeys(STAGES, ()), "layer1": ("a.0", "b.0")})
    assert sorted(name for name, _ in cut.stages["layer1"].named_parameters()) == [
        "a_0.bias", "a_0.weight", "b_0.bias", "b_0.weight",
    ]  # fmt: skip
    assert cut.place("b.0.weight") == "layer1.b_0.weight"


def test_the_parts_of_a_stem_are_no_blocks():
    stages = build("resnet").network.stages
    assert [len(stage.blocks) for stage in stages.values()] == [0, 2, 2, 2, 2]


def test_checkpointing_keeps_the_inputs_of_the_stem_and_of_each_block(monkeypatch):
    kept = []

    def recomputed(run, stage, feature_map):
        kept.append(stage)
        return run(feature_map)

    monkeypatch.setattr("vireid_plugins.modeling.backbones.stages.base.recomputed", recomputed)
    backbone = build("resnet", UNSHARED_STAGES=0)
    backbone.checkpoint_activations()
    backbone(IMAGES, MODALITIES)
    assert [kept.count(stage) for stage in backbone.network.stages.values()] == [1, 2, 2, 2, 2]


@pytest.mark.slow
def test_the_graph_of_a_shufflenet_takes_any_number_of_images():
    """FastReID's shuffling of channels would fix the number at that of the recording."""
    pytest.importorskip("onnxruntime")
    from vireid_plugins.onnx_export.compare import onnx_features, open_session, pytorch_features
    from vireid_plugins.onnx_export.graph import record

    from tests.onnx_export.small import small_model

    words = {"NAME": "build_dual_stream_backbone", "NETWORK": "shufflenetv2", "DEPTH": "0.5x"}
    overrides = {f"MODEL__BACKBONE__{key}": value for key, value in words.items()}
    cfg, model = small_model("configs/baseline/synthetic.yml", **overrides)
    session = open_session(record(model, cfg.INPUT.SIZE_TEST), threads=1)
    for count in (1, 3):
        images = torch.rand(count, 3, *cfg.INPUT.SIZE_TEST) * 255
        expected = pytorch_features(model, images, MODALITIES[:count])
        found = torch.from_numpy(onnx_features(session, images, MODALITIES[:count]))
        torch.testing.assert_close(found, torch.as_tensor(expected), rtol=0, atol=2e-5)


def test_the_network_of_the_documentation_works(monkeypatch):
    """Oracle: its modules, one after another."""
    monkeypatch.setattr(NETWORK_REGISTRY, "_obj_map", dict(NETWORK_REGISTRY._obj_map))
    text = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8")
    example = re.search(r"example: my_network.py -->\n```python\n(.*?)```", text, re.S).group(1)
    exec(example, {"__name__": "my_network"})
    backbone = build("mine", "8", LAST_STRIDE=1, WITH_NL=True, NL_BLOCKS=[0, 0, 1, 0])
    assert backbone.feat_dim == 8 and list(backbone.shared["layer3"].non_local) == ["2"]
    feature_map = backbone.visible["stem"].conv(IMAGES)
    for number, stage in enumerate(STAGES[1:]):
        feature_map = backbone.shared[stage]._modules[str(number)](feature_map)
    found = backbone(IMAGES, MODALITIES)  # both streams begin with the same weights
    torch.testing.assert_close(found, feature_map)
    with pytest.raises(UserError, match="NORM is 'GN', which MODEL.BACKBONE.NETWORK mine does not"):
        build("mine", "8", NORM="GN")
