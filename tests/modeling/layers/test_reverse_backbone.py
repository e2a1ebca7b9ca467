"""The reverse backbone. Oracles: the sizes of Table 1, changes of single inputs."""

import pytest
import torch

from vireid_plugins.modeling.layers.reverse_backbone import FORWARD, REVERSE, ReverseBackbone

# Table 1: channels, height and width of the maps at 256 x 128
TABLE = {
    "conv1": (64, 128, 64),
    "layer1": (256, 64, 32),
    "layer2": (512, 32, 16),
    "layer3": (1024, 16, 8),
    "layer4": (2048, 16, 8),
}
SMALL = {"conv1": (2, 16, 8), "layer1": (3, 9, 5), "layer2": (4, 5, 3), "layer3": (5, 3, 2)}
SMALL["layer4"] = (6, 3, 2)


def made(sizes, **options):
    torch.manual_seed(0)
    channels = [sizes[name][0] for name in FORWARD]
    maps = {name: torch.rand(2, *size) for name, size in sizes.items()}
    return ReverseBackbone(channels, options.pop("blocks", [1, 2, 2, 1]), **options).eval(), maps


def test_outputs_have_the_sizes_of_table_1():
    network, maps = made(TABLE, blocks=[1, 1, 1, 1], width=1)
    with torch.no_grad():
        found = {name: tuple(one.shape[1:]) for name, one in network(maps).items()}
    assert found == {
        "re_layer4": (1024, 16, 8),
        "re_layer3": (512, 32, 16),
        "re_layer2": (256, 64, 32),
        "re_layer1": (64, 64, 32),
        "re_conv1": (17, 128, 64),
    }


@pytest.mark.parametrize(
    "skips,expected",
    [
        ("none", ()),
        ("shallow", ("conv1", "layer1")),
        ("all", ("conv1", "layer1", "layer2", "layer3")),
    ],
)
def test_only_fused_maps_change_the_maps_of_key_points(skips, expected):
    network, maps = made(SMALL, skips=skips)
    with torch.no_grad():
        before = network(maps)["re_conv1"]
        for name in FORWARD:
            after = network(dict(maps, **{name: maps[name] + 1}))["re_conv1"]
            assert torch.equal(before, after) == (name not in (*expected, "layer4")), name


def test_each_map_of_a_key_point_has_a_group_of_its_own():
    network, maps = made(SMALL)
    part = network.parts["re_conv1"]
    with torch.no_grad():
        before = network(maps)["re_conv1"]
        part.separate[0].weight[8 * 3 : 8 * 4].zero_()  # group 3 of 17
        changed = (network(maps)["re_conv1"] != before).flatten(2).any(2).any(0)
    assert changed.nonzero().flatten().tolist() == [3]


def test_the_last_block_enlarges_behind_its_grouped_convolution():
    """By hand, with the pieces of the block."""
    network, maps = made(SMALL)
    block = network.parts["re_layer3"].blocks[-1]
    inputs = torch.rand(2, 5, 3, 2)
    with torch.no_grad():
        inner = block.separate(block.reduce(inputs).relu()).relu()
        wide = torch.nn.functional.interpolate(inner, size=(5, 3), mode="bilinear")
        short = torch.nn.functional.interpolate(
            block.shortcut(inputs), size=(5, 3), mode="bilinear"
        )
        torch.testing.assert_close(
            block(inputs, maps["layer2"]), (block.expand(wide) + short).relu()
        )


def test_what_comes_after_a_part_does_not_act_on_it():
    network, maps = made(SMALL)
    assert network.only_after("re_layer1") == ["parts.re_conv1", "change.conv1"]
    assert len(network.only_after("")) == len(REVERSE) + 3
    with torch.no_grad():
        before = network(maps, "re_layer1")
        for name, tensor in network.state_dict().items():
            if name.startswith(tuple(network.only_after("re_layer1"))):
                tensor.zero_()
        assert list(before) == list(REVERSE[:-1])
        assert torch.equal(network(maps)["re_layer1"], before["re_layer1"])
    assert list(made(SMALL, until="re_layer2")[0].parts) == ["re_layer4", "re_layer3", "re_layer2"]
