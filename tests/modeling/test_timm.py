"""Networks of timm in two streams. Oracle: timm's own ``forward_features``."""

import builtins
import re
import sys
from types import SimpleNamespace
from urllib.parse import urlparse

import pytest
import torch
from torch import nn

import vireid_plugins  # noqa: F401
from vireid_plugins.errors import CheckpointError, MissingLibraryError, UserError
from vireid_plugins.modeling.backbones import build_dual_stream_backbone
from vireid_plugins.modeling.backbones.dual_stream import STAGES
from vireid_plugins.modeling.backbones.stages.efficientnet_names import own_names
from vireid_plugins.modeling.backbones.stages.timm_weights import _cached, _check_host
from vireid_plugins.modeling.maps import recorded_maps

from tests.modeling.test_backbone import make_cfg

timm = pytest.importorskip("timm", reason="timm is not installed: pip install timm")

from tests.modeling.tiny_timm import CONVNEXT, SWIN  # noqa: E402

MODALITIES = torch.tensor([1, 0, 1, 0])
#: a network of each kind that is cut in another way, and what it is built with
KINDS = {
    CONVNEXT: {"LAST_STRIDE": 1},  # four feature maps
    "tf_efficientnet_lite0": {"LAST_STRIDE": 1},  # five, and a convolution after the last
    SWIN: {},  # one size of images, channels last
    "mobilenetv3_small_050": {},
    "resnet10t": {"LAST_STRIDE": 1},
    "regnetx_002": {},
    "cspresnet50": {},  # stages that do not open
    "mambaout_femto": {},  # channels last
    "pvt_v2_b0": {},  # channels last after the stem alone
}
FOUR_MAPS = (CONVNEXT, SWIN, "mambaout_femto", "pvt_v2_b0")  # the stem has none of its own
SLOW = ("cspresnet50", "mambaout_femto", "pvt_v2_b0")


def timm_cfg(network, size=(64, 32), **backbone):
    backbone = {"NETWORK": f"timm/{network}", "PRETRAIN": False, "LAST_STRIDE": 2, **backbone}
    cfg = make_cfg("50x", **{"NAME": "build_dual_stream_backbone", **backbone})
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = list(size)
    return cfg


def build(network, size=(64, 32), **backbone):
    torch.manual_seed(0)
    return build_dual_stream_backbone(timm_cfg(network, size, **backbone))


def ordinary(network, **options):
    """timm's network without classifier, with statistics that are not special."""
    torch.manual_seed(1)
    if network == SWIN:
        options["img_size"] = (64, 32)
    plain = timm.create_model(network, num_classes=0, **options)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return plain.double()


def expected_map(plain, images, channels):
    found = plain.forward_features(images)
    return found if found.shape[1] == channels else found.permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "network", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in KINDS]
)
def test_two_streams_with_equal_weights_are_timms_network(network):
    """In evaluation and, with all weights shared, in training."""
    keys = KINDS[network]
    options = {"output_stride": 16} if "LAST_STRIDE" in keys else {}
    plain = ordinary(network, **options)
    images = torch.rand(4, 3, 64, 32, dtype=torch.float64)
    for unshared in (2, 0):
        backbone = build(network, UNSHARED_STAGES=unshared, **keys).double().train(unshared == 0)
        assert not backbone.load_ordinary(plain.state_dict()).missing
        with recorded_maps(backbone, STAGES) as maps, torch.no_grad():
            torch.manual_seed(2)  # Swin drops paths at random
            found = backbone(images, MODALITIES)
            torch.manual_seed(2)
            expected = expected_map(plain.train(unshared == 0), images, backbone.feat_dim)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        heights = [maps[stage].shape[2] for stage in STAGES]
        stem = 16 if network in FOUR_MAPS else 32
        assert heights == [stem, 16, 8, 4, 4 if options else 2]
        for name, stage in backbone.network.stages.items():
            assert maps[name].shape[1] == stage.channels
            assert maps[name].shape[3] == maps[name].shape[2] // 2


def test_blocks_are_those_of_the_network():
    stages = build(CONVNEXT).network.stages
    assert [len(stage.blocks) for stage in stages.values()] == [0, 1, 2, 2, 1]
    assert list(stages["layer2"].blocks.values()) == [12, 12]
    names = set(stages["layer2"].state_dict())
    assert "0.stages_1_downsample.1.weight" in names and "1.stages_1_blocks_1.norm.bias" in names
    blocks = build("mobilenetv3_small_050").network.stages["layer3"].blocks
    assert blocks == {"0": 24, "1": 24, "2": 24, "3": 24, "4": 24}


def test_non_local_blocks_follow_blocks_and_nothing_else():
    """At the start they pass their input on, so that the map does not change."""
    images = torch.rand(4, 3, 64, 32)
    for network in (CONVNEXT, SWIN):
        plain = build(network).eval()
        more = build(network, WITH_NL=True, NL_BLOCKS=[0, 2, 1, 0]).eval()
        own = dict(plain.state_dict())
        assert sum(".non_local." in name for name in more.state_dict()) > 0
        more.load_state_dict({n: own.get(n, t) for n, t in more.state_dict().items()})
        torch.testing.assert_close(more(images, MODALITIES), plain(images, MODALITIES))
    with pytest.raises(UserError, match="NL_BLOCKS of layer1 is 2; expected 0 to 1"):
        build(CONVNEXT, WITH_NL=True, NL_BLOCKS=[2, 0, 0, 0])


@pytest.mark.parametrize("network", [CONVNEXT, SWIN, "mobilenetv3_small_050"])
def test_checkpointed_activations_change_no_number(network):
    images = torch.rand(4, 3, 64, 32)
    found = []
    for on in (False, True):
        backbone = build(network).train()
        backbone.checkpoint_activations(on)
        backbone(images, MODALITIES).square().sum().backward()
        found.append([*(p.grad for p in backbone.parameters()), *backbone.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found)) and found[0][0].abs().sum() > 0


def test_frozen_stages_and_synchronized_norms():
    backbone = build("mobilenetv3_small_050", NORM="syncBN", FROZEN_STAGES=2).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms and not any(type(m) is nn.BatchNorm2d for m in backbone.modules())
    frozen = {n.split(".")[1] for n, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"stem", "layer1"}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
def test_a_file_in_timms_names_fills_both_streams(suffix, tmp_path):
    """Oracle: the tensors in the file. A file of safetensors is known by its content too."""
    from safetensors.torch import save_file

    state = timm.create_model(CONVNEXT, num_classes=5).state_dict()
    path = str(tmp_path / f"weights{suffix}")
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    found = build(CONVNEXT, PRETRAIN=True, PRETRAIN_PATH=path).state_dict()
    for stream in ("visible", "infrared"):
        weight = found[f"{stream}.stem.0.stem.0.weight"]
        assert torch.equal(weight, state["stem.0.weight"])
    assert torch.equal(
        found["shared.layer4.0.stages_3_downsample.1.bias"], state["stages.3.downsample.1.bias"]
    )


def test_the_file_of_another_network_names_the_keys_of_timms():
    state = timm.create_model("convnext_femto").state_dict()
    with pytest.raises(CheckpointError, match="x.pth fits.*in MODEL.BACKBONE.TIMM_NAME, or NETWOR"):
        build(CONVNEXT).load_ordinary(state, "x.pth")


@pytest.mark.parametrize("content", [b"", b"\x09\0\0\0\0\0\0\0{}", b"no weights"])
def test_a_damaged_file_of_safetensors_is_named(content, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.safetensors was not loaded .*intact copy"):
        build(CONVNEXT, PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "w.safetensors"))


def lukemelas_names():
    """The names of EfficientNet-Lite0 in EfficientNet-PyTorch, in its modules' order."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = ["_conv_stem.weight", *(f"_bn0.{one}" for one in norm)]
    for block in range(16):  # 1 + 2 + 2 + 3 + 3 + 4 + 1; the first does not expand
        for layer in ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2"):
            if block or layer not in ("_expand_conv", "_bn0"):
                kinds = norm if "bn" in layer else ("weight",)
                names += [f"_blocks.{block}.{layer}.{one}" for one in kinds]
    return [*names, "_conv_head.weight", *(f"_bn1.{one}" for one in norm), "_fc.weight", "_fc.bias"]


def test_efficientnet_pytorchs_names_have_a_place_in_order():
    """Both packages make their modules in the order of running. Equality with the wheel's own
    network, on random images in float64, was seen: the largest difference was 0."""
    plain = timm.create_model("tf_efficientnet_lite0")
    names = lukemelas_names()
    translated = own_names(names, [name for name, _ in plain.named_modules()])
    assert [translated[name] for name in names] == list(plain.state_dict())
    others = ["_blocks.0._se_reduce.bias", "other.weight", "_blocks.1._bn1.bias"]
    found = own_names(others, ["blocks.0.0"])  # which has no second block
    assert list(found.values()) == ["blocks.0.0.se.conv_reduce.bias", *others[1:]]
    state = dict(zip(names, plain.state_dict().values()))
    report = build("tf_efficientnet_lite0").load_ordinary(state)
    assert report.missing == () and report.unexpected == ("_fc.weight", "_fc.bias")


def test_a_last_layer_beside_the_stages_is_no_reason_for_a_warning(caplog):
    state = timm.create_model("mobilenetv3_small_050").state_dict()
    report = build("mobilenetv3_small_050").load_ordinary(state)
    assert "conv_head.weight" in report.unexpected
    assert not [record for record in caplog.records if record.levelname != "INFO"]
    build("mobilenetv3_small_050").load_ordinary({**state, "more.weight": torch.ones(1, 1, 1, 1)})
    assert "Convolutions are among them, such as more.weight" in caplog.text


REFUSED = {
    "unknown": ("convnext_ato", {}, "no network 'convnext_ato'. Did you mean timm/convnext_atto"),
    "capitals": ("ConvNext_Atto", {}, "Did you mean timm/convnext_atto"),
    "a family": ("ConvNeXt", {}, "Did you mean timm/convnext_tiny or timm/convnext_"),
    "transformers": ("ViT-Small", {}, "Did you mean timm/vit_small_patch16_224 or timm/vit_small_"),
    "no name": ("", {}, "no network ''. Expected timm/NAME"),
    "unknown weights": ("resnet18.a9", {}, r"no weights of that name. Known: .*resnet18\.a1_in1k"),
    "transformer": ("vit_tiny_patch16_224", {"LAST_STRIDE": 1}, "cannot be cut .*16, 16, 16, 16"),
    "branches": ("hrnet_w18_small", {}, "cannot be cut into stages: its modules do not simply"),
    "three maps": ("levit_128s", {}, "cannot be cut into stages: it has 3 feature maps"),
    "no stride of 1": ("mobilenetv3_small_050", {"LAST_STRIDE": 1}, "Set .*LAST_STRIDE 2"),
    "norm": (CONVNEXT, {"NORM": "GhostBN"}, "NORM is 'GhostBN', .*'BN' .*or 'syncBN'"),
    "IBN": (CONVNEXT, {"WITH_IBN": True}, "WITH_IBN is True, which .*timm does not read"),
    "square images": ("nest_tiny", {}, "cannot build nest_tiny .*64, 32.*square"),
}


@pytest.mark.parametrize("network,keys,message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_built_is_named(network, keys, message):
    with pytest.raises(UserError, match=message):
        build(network, **keys)


def test_a_network_of_one_size_takes_one_size():
    cfg = timm_cfg(SWIN)
    cfg.INPUT.SIZE_TRAIN = [64, 64]
    with pytest.raises(UserError, match=r"SIZE_TRAIN is \[64, 64\], INPUT.SIZE_TEST \[64, 32\]"):
        build_dual_stream_backbone(cfg)


@pytest.mark.parametrize(
    ("absent", "command"),
    [
        ("timm", "pip install 'vireid_plugins[timm]'"),
        ("requests", "requests, which it imports, is not: pip install requests"),
    ],
)
def test_what_timm_lacks_is_named_with_the_command(absent, command, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "timm":
            raise ModuleNotFoundError(f"No module named {absent!r}", name=absent)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingLibraryError, match=re.escape(command)):
        build(CONVNEXT)


def test_offline_the_file_and_the_key_are_named(monkeypatch):
    def no_address(*args):
        raise OSError(-2, "Name or service not known")

    module = "vireid_plugins.modeling.backbones.stages.timm_weights"
    monkeypatch.setattr(f"{module}.socket.getaddrinfo", no_address)
    monkeypatch.setattr(f"{module}.urllib.request.getproxies", dict)
    with pytest.raises(CheckpointError, match="huggingface.co/nobody/tiny. .*False.*PRETRAIN_PATH"):
        build(CONVNEXT, PRETRAIN=True)
    with pytest.raises(CheckpointError, match="publishes no pretrained weights for tiny_swin"):
        build(SWIN, PRETRAIN=True)


def test_the_host_of_the_weights_is_looked_up_unless_a_proxy_does_it(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    asked, proxies = [], {}
    module = "vireid_plugins.modeling.backbones.stages.timm_weights"
    monkeypatch.setattr(f"{module}.socket.getaddrinfo", lambda host, port: asked.append(host))
    monkeypatch.setattr(f"{module}.urllib.request.getproxies", lambda: proxies)
    own = SimpleNamespace(hf_hub_id="", url="https://host.example/net.pth")
    of_hub = SimpleNamespace(hf_hub_id="nobody/tiny", url="")
    for about in (own, of_hub):
        _check_host(about)
    assert asked == ["host.example", urlparse(constants.ENDPOINT).hostname]
    proxies["https"] = "http://proxy.example"
    _check_host(own)
    assert len(asked) == 2


def test_which_files_of_timms_cache_are_used(monkeypatch):
    """Oracle: the two names of the Hub; timm itself loads a network with a loader of its own."""
    pytest.importorskip("huggingface_hub")
    held = {"pytorch_model.bin": "/cache/pytorch_model.bin"}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: held.get(file))
    about = SimpleNamespace(hf_hub_id="nobody/tiny", hf_hub_filename=None, custom_load=False)
    assert _cached(about) == "/cache/pytorch_model.bin"
    held["model.safetensors"] = "/cache/model.safetensors"
    assert _cached(about) == "/cache/model.safetensors"
    about.custom_load = True
    assert _cached(about) == ""


def test_a_fetch_names_the_library_that_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="pip install huggingface_hub. .*False"):
        build(CONVNEXT, PRETRAIN=True)


def test_weights_in_timms_cache_need_no_network(monkeypatch, tmp_path, caplog):
    """The head draws the same numbers after it; the images' scale is compared."""
    from safetensors.torch import save_file

    state = timm.create_model(CONVNEXT, num_classes=0).state_dict()
    save_file(state, str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda name, file: str(tmp_path / file)
    )
    found = build(CONVNEXT, PRETRAIN=True)
    drawn = torch.rand(3)
    assert torch.equal(
        found.infrared["stem"].state_dict()["0.stem.0.weight"], state["stem.0.weight"]
    )
    assert "were trained with MODEL.PIXEL_MEAN [127.5, 127.5, 127.5]" in caplog.text
    build(CONVNEXT)
    assert torch.equal(torch.rand(3), drawn)
