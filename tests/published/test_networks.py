"""Recognizing published checkpoints. Oracles: names of tensors in the public codes."""

import re

import pytest

from vireid_plugins.published import HCT, SOURCES, TWO_STREAM, advice_about, recognize

from tests.published import public

# What the public codes call some of their tensors; each of the files has hundreds more.
NAMES = {
    "DEEN": (
        "visible_module.visible.conv1.weight thermal_module.thermal.conv1.weight "
        "base_resnet.base.layer1.0.conv1.weight DEE.FC11.weight DEE.FC1.bias MFA1.CNL.g.weight "
        "MFA2.PNL.W.1.weight bottleneck.weight classifier.weight"
    ),
    "CM-NAS": (
        "backbone.conv1.weight backbone.bn1.thermal_bn.weight backbone.bn1.visible_bn.weight "
        "backbone.layer1.0.downsample.bn.sharable_bn.weight bnneck.weight classifier.weight"
    ),
    "the baseline of CM-NAS": (
        "backbone.conv1.weight backbone.layer1.0.conv1.weight bnneck.weight classifier.weight"
    ),
    "MPANet": (
        "backbone.conv1.weight backbone.layer1.0.conv1.weight backbone.MAM3.IN.weight "
        "spatial_attention.weight visible_classifier.weight visible_classifier_.weight "
        "bn_neck.weight classifier.weight"
    ),
    "SAAI": (
        "backbone.conv1.weight attn_pool.part_tokens attn_pool.pos_embeding "
        "bn_neck.bn_neck_v.weight visible_classifier_.weight classifier.weight"
    ),
    "IDKL": (
        "backbone.shared_module_fr.model_sh_fr.conv1.weight backbone.special_att.IN.weight "
        "backbone.shared_module_bh.model_sh_bh.layer3.0.conv1.weight bn_neck.weight "
        "bn_neck_sp.weight classifier.weight"
    ),
    "DDAG": (
        "thermal_module.thermal.conv1.weight visible_module.visible.conv1.weight "
        "base_resnet.base.conv1.weight bottleneck.weight wpa.gate wpa.W.0.weight attention_0.W "
        "out_att.a classifier.weight"
    ),
    "MMN": (
        "visible_module.visible.conv1.weight thermal_module.thermal.conv1.weight "
        "base_resnet.base.conv1.weight bottleneck1.weight classifier4.weight encode1.weight "
        "decode.weight"
    ),
    "RLE": (
        "visible_module.visible.conv1.weight middle_module.middle.conv1.weight "
        "base_resnet.base.conv1.weight bottleneck1.weight bottleneckg.weight classifierg.weight"
    ),
    "PMT": (
        "base.cls_token base.pos_embed base.patch_embed.proj.weight base.blocks.0.norm1.weight "
        "base.norm.weight classifier.weight bottleneck.weight"
    ),
    "TransReID": (
        "base.cls_token base.pos_embed base.sie_embed base.patch_embed.proj.weight "
        "base.blocks.0.norm1.weight b1.0.norm1.weight classifier.weight bottleneck_1.weight"
    ),
    "a relative of AGW's": (
        "visible_module.visible.conv1.weight thermal_module.thermal.conv1.weight "
        "base_resnet.base.layer1.0.conv1.weight own_attention.weight bottleneck.weight"
    ),
    "FastReID's network": "backbone.conv1.weight heads.weight heads.bottleneck.0.weight",
    "this package's": "backbone.visible.stem.conv1.weight backbone.shared.layer1.0.conv1.weight",
    "an ordinary ResNet": "conv1.weight layer1.0.conv1.weight layer4.0.conv1.weight fc.weight",
    "a vision transformer": "cls_token patch_embed.proj.weight blocks.0.norm1.weight head.weight",
    "a YOLO detector": "model.0.conv.weight model.2.cv1.conv.weight model.22.dfl.conv.weight",
}


def shapes_of(names):
    return {name: (2,) for name in names.split()}


@pytest.mark.parametrize("title", NAMES)
def test_what_cannot_be_converted_is_named_with_a_reason(title):
    network = recognize(shapes_of(NAMES[title]))
    assert network.title.startswith(title) and not network.is_converted
    advice = advice_about(shapes_of(NAMES[title]), "my file.pth")
    assert advice.startswith(f"It is a checkpoint of {network.title}")
    assert "FILE" not in re.sub("CONFIG_FILE", "", advice) and advice.endswith(".")


@pytest.mark.parametrize(
    "shapes, network",
    [
        (public.agw_shapes(7), TWO_STREAM),
        (public.agw_shapes(7, non_local=()), TWO_STREAM),
        (public.agw_shapes(7, depth=18), TWO_STREAM),
        (public.hct_shapes(7, share_net=3, stripes=0), TWO_STREAM),
        (public.hct_shapes(7), HCT),
        (public.hct_shapes(7, share_net=0), HCT),
        (public.hct_shapes(7, share_net=5, stripes=2), HCT),
    ],
)
def test_what_can_be_converted_is_recognized(shapes, network):
    assert recognize(shapes) is network
    assert advice_about(shapes, "my file.t").endswith("vireid convert 'my file.t' --out model.pth")


def test_other_tensors_are_of_no_known_network():
    assert recognize({}) is None and recognize({"foo.weight": (2,)}) is None
    assert advice_about({"foo.weight": (2,)}, "a.pth") == ""


def test_every_source_names_a_config_that_is_there():
    from vireid_plugins.files import find_config

    assert all(find_config(source.config) for source in SOURCES.values())


def test_the_command_offers_every_source():
    from vireid.verbs.convert import SOURCES as offered

    assert set(offered) == set(SOURCES)
