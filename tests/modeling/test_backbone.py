"""The dual-stream ResNet: streams, order, taps, freezing, pretrained weights."""

import pytest
import torch

from vireid_plugins import Modality, add_vireid_config
from vireid_plugins.modeling.backbones import build_dual_stream_resnet_backbone
from vireid_plugins.modeling.backbones.dual_stream_resnet import STAGES
from vireid_plugins.modeling.backbones.pretrained import read_weights
from vireid_plugins.modeling.layers import NonLocal
from vireid_plugins.modeling.maps import recorded_maps

from fastreid.config import get_cfg
from fastreid.layers import Non_local
from fastreid.modeling.backbones.resnet import build_resnet_backbone


def make_cfg(depth="18x", **backbone):
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.MODEL.BACKBONE.DEPTH = depth
    for key, value in backbone.items():
        cfg.MODEL.BACKBONE[key] = value
    return cfg


def build(depth="18x", **backbone):
    return build_dual_stream_resnet_backbone(make_cfg(depth, **backbone)).eval()


IMAGES = torch.rand(4, 3, 64, 32)
MODALITIES = torch.tensor([1, 0, 1, 0])


@pytest.mark.parametrize("unshared", range(6))
def test_the_chosen_stages_are_separate(unshared):
    """With equal weights in both streams it is the ordinary network, whatever the split."""
    backbone = build(UNSHARED_STAGES=unshared)
    plain = build_resnet_backbone(make_cfg()).eval()
    backbone.load_ordinary(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(backbone(IMAGES, MODALITIES), plain(IMAGES))
    assert tuple(backbone.visible) == tuple(backbone.infrared) == STAGES[:unshared]
    assert tuple(backbone.shared) == STAGES[unshared:]
    for a, b in zip(backbone.visible.parameters(), backbone.infrared.parameters()):
        assert a is not b


@pytest.mark.parametrize("non_local", [False, True])
def test_names_and_random_weights_are_those_of_earlier_versions(non_local):
    """A stem per stream, and FastReID's names; weights are drawn in FastReID's order.

    Both streams begin with the same weights. Non-local blocks are drawn after the network.
    """
    torch.manual_seed(3)
    plain = build_resnet_backbone(make_cfg()).state_dict()
    torch.manual_seed(3)
    backbone = build(WITH_NL=non_local, NL_BLOCKS=[0, 1, 0, 0], NETWORK="resnet")
    found, expected = backbone.state_dict(), {}
    for name, tensor in plain.items():
        of_stem = name.startswith(("conv1.", "bn1."))
        for stream in ("visible.stem.", "infrared.stem.") if of_stem else ("shared.",):
            expected[stream + name] = tensor
    added = {name for name in found if name.startswith("shared.layer2.non_local.1.")}
    assert found.keys() == expected.keys() | added
    assert bool(added) == non_local
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_each_modality_goes_through_its_own_stem():
    backbone = build(UNSHARED_STAGES=1)
    with torch.no_grad():
        before = backbone(IMAGES, MODALITIES)
        backbone.infrared["stem"].conv1.weight.zero_()
        after = backbone(IMAGES, MODALITIES)
    changed = (before != after).flatten(1).any(1)
    assert changed.tolist() == (MODALITIES == Modality.INFRARED).tolist()


def test_the_order_of_rows_means_nothing():
    backbone, order = build(UNSHARED_STAGES=2), torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        expected = backbone(IMAGES, MODALITIES)[order]
        torch.testing.assert_close(backbone(IMAGES[order], MODALITIES[order]), expected)


@pytest.mark.parametrize("modality", list(Modality))
def test_one_modality_is_normal(modality):
    backbone = build(UNSHARED_STAGES=2)
    with torch.no_grad():
        out = backbone(IMAGES[:1], torch.full((1,), int(modality)))
    assert out.shape == (1, 512, 4, 2)


@pytest.mark.parametrize("unshared", range(6))
@pytest.mark.parametrize("cut", range(6))
def test_stages_run_in_two_parts_equal_the_whole(unshared, cut):
    backbone = build(UNSHARED_STAGES=unshared)
    with torch.no_grad():
        first = backbone.forward_stages(IMAGES, MODALITIES, STAGES[:cut])
        second = backbone.forward_stages(first, MODALITIES, STAGES[cut:])
        assert torch.equal(second, backbone(IMAGES, MODALITIES))


@pytest.mark.parametrize("stages", [("layer9",), ("layer2", "layer1"), ("stem", "layer2")])
def test_stages_that_do_not_follow_each_other_are_refused(stages):
    with pytest.raises(ValueError, match="consecutive stages"):
        build().forward_stages(IMAGES, MODALITIES, stages)


def test_every_stage_can_be_recorded_in_batch_order():
    backbone = build(UNSHARED_STAGES=2)
    visible = MODALITIES == Modality.VISIBLE
    with torch.no_grad():
        with recorded_maps(backbone) as maps:
            recorded = backbone(IMAGES, MODALITIES)
        assert torch.equal(recorded, backbone(IMAGES, MODALITIES))
        stem = backbone.visible["stem"](IMAGES[visible])
        torch.testing.assert_close(maps["stem"][visible], stem)
        torch.testing.assert_close(maps["layer1"][visible], backbone.visible["layer1"](stem))
        torch.testing.assert_close(backbone.shared["layer4"](maps["layer3"]), recorded)
    assert tuple(maps) == STAGES


@pytest.mark.parametrize("depth,features", [("18x", 512), ("34x", 512), ("50x", 2048)])
def test_depths_tell_their_feature_size(depth, features):
    assert build(depth).feat_dim == features


def test_instance_norm_and_non_local_variants():
    backbone = build("50x", WITH_IBN=True, WITH_NL=True)
    kinds = [type(m).__name__ for m in backbone.modules()]
    assert kinds.count("IBN") > 0
    assert kinds.count("NonLocal") == 5  # [0, 2, 3, 0]
    with torch.no_grad():
        assert backbone(IMAGES[:2], MODALITIES[:2]).shape == (2, 2048, 4, 2)


def test_non_local_follows_the_last_blocks_and_starts_as_identity():
    backbone = build(WITH_NL=True, NL_BLOCKS=[0, 1, 2, 0])
    assert list(backbone.shared["layer2"].non_local) == ["1"]
    assert list(backbone.shared["layer3"].non_local) == ["0", "1"]
    plain = build()
    plain.load_state_dict({k: v for k, v in backbone.state_dict().items() if "non_local" not in k})
    with torch.no_grad():  # W's batch norm starts with weight 0
        torch.testing.assert_close(backbone(IMAGES, MODALITIES), plain(IMAGES, MODALITIES))


def test_non_local_blocks_are_drawn_next_after_the_network():
    """FastReID, if it were asked, would draw blocks of its own for this depth in between."""
    torch.manual_seed(3)
    expected, first = build("50x").state_dict(), NonLocal(512).state_dict()
    expected.update({f"shared.layer2.non_local.2.{name}": one for name, one in first.items()})
    torch.manual_seed(3)
    found = build("50x", WITH_NL=True).state_dict()
    assert all(torch.equal(found[name], one) for name, one in expected.items())


def test_fastreids_own_non_local_blocks_have_their_places():
    """Oracle: FastReID's network. A block that is not built here is left over."""
    plain = build_resnet_backbone(make_cfg("50x", WITH_NL=True)).eval()
    for name, parameter in plain.named_parameters():
        if name.startswith("NL_"):  # the norm's weight of 0 would hide which block it is
            torch.nn.init.normal_(parameter, std=0.1)
    backbone = build("50x", WITH_NL=True, NL_LEGACY_WIDTH=True)
    state = {**plain.state_dict(), "NL_3.3.g.weight": torch.ones(1, 1024, 1, 1)}
    report = backbone.load_ordinary(state)
    assert report.missing == () and report.unexpected == ("NL_3.3.g.weight",)
    with torch.no_grad():
        found, expected = backbone(IMAGES[:2], MODALITIES[:2]), plain(IMAGES[:2])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_non_local_by_its_formula():
    """y_i = W(sum_j theta(x_i).phi(x_j) g(x_j) / N) + x_i, position by position."""
    layer = NonLocal(4).eval().double()
    layer.W[1].weight.data.fill_(0.7)
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        out = layer(x)
        theta, phi, g = (m(x).flatten(2) for m in (layer.theta, layer.phi, layer.g))
        for b in range(2):
            y = torch.zeros(2, 6, dtype=torch.float64)
            for i in range(6):
                for j in range(6):
                    y[:, i] += (theta[b, :, i] @ phi[b, :, j]) * g[b, :, j] / 6
            expected = layer.W(y.view(1, 2, 3, 2))[0] + x[b]
            torch.testing.assert_close(out[b], expected)


def test_non_local_width():
    assert NonLocal(8).inter_channels == 4
    assert NonLocal(8, legacy_width=True).inter_channels == Non_local(8, "BN").inter_channels == 1


def test_frozen_stages_get_no_gradient_and_their_statistics_stand_still():
    backbone = build(FROZEN_STAGES=2).train()
    before = backbone.visible["stem"].bn1.running_mean.clone()
    backbone(IMAGES, MODALITIES).sum().backward()
    assert torch.equal(before, backbone.visible["stem"].bn1.running_mean)
    frozen = {n for n, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen and all(".stem." in f".{n}" or "layer1" in n for n in frozen)
    assert all(p.grad is None for n, p in backbone.named_parameters() if n in frozen)
    assert all(p.grad is not None for n, p in backbone.named_parameters() if n not in frozen)


@pytest.mark.parametrize(
    "key,value,named",
    [
        ("UNSHARED_STAGES", 6, "UNSHARED_STAGES is 6; expected 0 to 5"),
        ("FROZEN_STAGES", -1, "FROZEN_STAGES is -1"),
        ("DEPTH", "19x", "DEPTH is '19x'"),
    ],
)
def test_impossible_settings_are_named(key, value, named):
    with pytest.raises(ValueError, match=named):
        build_dual_stream_resnet_backbone(
            make_cfg(
                **({key: value} if key != "DEPTH" else {}), depth=value if key == "DEPTH" else "18x"
            )
        )


def test_too_many_non_local_blocks_are_named():
    with pytest.raises(ValueError, match="NL_BLOCKS of layer3 is 3; expected 0 to 2"):
        build(WITH_NL=True, NL_BLOCKS=[0, 2, 3, 0])


@pytest.mark.parametrize("prefix,wrap", [("", False), ("backbone.", True), ("module.", False)])
def test_an_ordinary_checkpoint_fills_both_streams(tmp_path, prefix, wrap, caplog):
    state = build_resnet_backbone(make_cfg()).state_dict()
    state["fc.weight"] = torch.zeros(10, 512)
    named = {prefix + key: value for key, value in state.items()}
    path = str(tmp_path / "resnet18.pth")
    torch.save({"model": named} if wrap else named, path)
    with caplog.at_level("INFO", logger="vireid_plugins"):
        backbone = build(PRETRAIN=True, PRETRAIN_PATH=path)
    for stream in (backbone.visible, backbone.infrared):
        assert torch.equal(stream["stem"].conv1.weight, state["conv1.weight"])
    assert torch.equal(
        backbone.shared["layer4"]._modules["1"].conv2.weight, state["layer4.1.conv2.weight"]
    )
    assert "0 missing, 1 unexpected (fc.weight)" in caplog.text


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = str(tmp_path / "other.pth")
    torch.save({"blocks.0.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(RuntimeError, match="MODEL.BACKBONE.DEPTH"):
        build(PRETRAIN=True, PRETRAIN_PATH=path)


def test_a_missing_checkpoint_is_named():
    with pytest.raises(FileNotFoundError, match="PRETRAIN_PATH names '/no/such.pth'"):
        read_weights("/no/such.pth")
