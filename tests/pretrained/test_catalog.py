"""The list of pretrained weights. Oracle: the addresses that torchvision itself has."""

import re

import pytest

from vireid_plugins.engine.setup import build_config
from vireid_plugins.files import find_config
from vireid_plugins.pretrained import CATALOG, entries_for, lookup
from vireid_plugins.pretrained.made import Made
from vireid_plugins.pretrained.wheels import Wheel

models = pytest.importorskip("torchvision.models")

TORCHVISION = {
    "mobilenetv2_torchvision": "MobileNet_V2_Weights",
    "resnet18": "ResNet18_Weights",
    "resnet50": "ResNet50_Weights",
    "resnet101": "ResNet101_Weights",
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_addresses_are_those_of_torchvision(name):
    (entry,) = [one for one in CATALOG if one.name == name]
    weights = getattr(models, TORCHVISION[name]).IMAGENET1K_V1
    assert entry.source.described() == weights.url
    assert entry.sha256 == re.search(r"-([0-9a-f]{8})\.pth", weights.url)[1]
    if "_file_size" in weights.meta:  # in MiB; PyTorch 1.13's torchvision does not say it
        assert entry.megabytes == pytest.approx(weights.meta["_file_size"] * 1.048576, abs=0.06)
    means = weights.transforms().mean
    assert entry.input[0] == pytest.approx([255 * value for value in means])


def test_every_entry_says_what_it_is():
    assert len({entry.name for entry in CATALOG}) == len(CATALOG)
    assert len({entry.file for entry in CATALOG}) == len(CATALOG)  # they share a folder
    for entry in CATALOG:
        if isinstance(entry.source, Made):  # no two machines make the same bytes
            assert entry.sha256 == "" and re.fullmatch("([0-9a-f]{64})?", entry.source.recorded)
            assert find_config(entry.source.recipe.config)
        else:
            assert re.fullmatch("[0-9a-f]{8,64}", entry.sha256)
        assert entry.license and entry.origin and entry.title
        if isinstance(entry.source, Wheel):
            assert len(entry.sha256) == len(entry.source.sha256) == 64
            assert entry.source.member.endswith("/" + entry.file)


MADE = [entry for entry in CATALOG if isinstance(entry.source, Made)]


@pytest.mark.parametrize("entry", MADE, ids=lambda entry: entry.name)
def test_keys_of_what_is_made_are_those_of_its_recipe(entry):
    """Oracle: the config that it is trained by."""
    recipe = build_config(entry.source.recipe.config, [])
    cfg = build_config(entry.source.recipe.config, entry.keys)
    assert entry.input == (tuple(recipe.MODEL.PIXEL_MEAN), tuple(recipe.MODEL.PIXEL_STD))
    for key in ("NAME", "TIMM_NAME", "TIMM_OPTIONS", "STRIDE_SIZE"):
        assert cfg.MODEL.BACKBONE[key] == recipe.MODEL.BACKBONE[key], key


@pytest.mark.parametrize("name", ["Mobile-Net_V2", "weights: mobilenet v2 ", "mobilenet.v2"])
def test_a_name_may_be_written_in_other_ways(name):
    assert lookup(name).name == "mobilenetv2"


def test_the_file_for_a_network():
    assert entries_for("mobilenetv2", "1.0x")[0].name == "mobilenetv2"
    assert [one.name for one in entries_for("resnet", "50x")] == ["resnet50"]
    assert entries_for("mobilenetv2", "0.5x") == []
