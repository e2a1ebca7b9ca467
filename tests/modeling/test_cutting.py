"""Cutting a network into stages, by its list of feature maps. Oracle: the network's own layers."""

import pytest
import torch
from torch import nn

from vireid_plugins.modeling.backbones.dual_stream import STAGES
from vireid_plugins.modeling.backbones.stages.cutting import Map, UncutError, _MapReader, cut

LAYERS = ("layer1", "layer2", "layer3", "layer4")


class Sum(nn.Module):
    """A layer that does more than to run its child."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.inner(x) + x


class Tokens(nn.Module):
    """Return a list of vectors (B, H' W', C)."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.second(self.first(x.flatten(2).transpose(1, 2)))


class ToMap(nn.Conv2d):
    """Turn the vectors of a map of 32 x 16 into a map first."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2).unflatten(2, (32, 16)))


class Network(nn.Module):
    """Layers that run one after another, and the names of those whose outputs are feature maps."""

    def __init__(self, maps, first):
        super().__init__()
        if first is not None:
            self.first = first
        for name in LAYERS:
            self.add_module(name, nn.Conv2d(3, 3, 3, stride=2, padding=1))
        strides = (1, 2, 4, 8, 16)[-len(maps) :]
        self.feature_info = [
            {"module": name, "reduction": stride} for name, stride in zip(maps, strides)
        ]

    def forward_features(self, x):
        for layer in self.children():
            x = layer(x)
        return x


@pytest.mark.parametrize(
    "maps", [("first", *LAYERS), ("first.inner", *LAYERS), ("absent", *LAYERS), LAYERS]
)
@pytest.mark.parametrize("training", [True, False])
def test_the_stem_ends_before_the_first_of_the_last_four_maps(maps, training):
    network = Network(maps, Sum()).train(training)
    stages = cut(network, (64, 32))
    found = {stage: [name for one in of for name, _ in one.parts] for stage, of in stages.items()}
    assert found == dict(zip(STAGES, (["first"], *([name] for name in LAYERS))))
    assert all(module.training == training for module in network.modules())


def test_a_network_without_a_stem_is_not_cut():
    with pytest.raises(UncutError, match="nothing runs before layer1, so that it has no stem"):
        cut(Network(LAYERS, None), (64, 32))


def test_what_makes_vectors_is_one_block_with_what_makes_a_map_of_them():
    network = Network(LAYERS, Sum())
    network.layer2 = nn.Sequential(Tokens(), ToMap(3, 3, 3, stride=2, padding=1))
    (block,) = cut(network, (64, 32))["layer2"]
    assert [name for name, _ in block.parts] == ["layer2.0", "layer2.1"]
    assert (block.given.height, block.returned.height) == (32, 16)
    network = Network(LAYERS, Sum())
    network.layer4 = Tokens()
    with pytest.raises(UncutError, match="layer4 ends with a list of tokens or vectors"):
        cut(network, (64, 32))


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (96, 16), (96, 8)])
def test_a_map_has_the_ratio_of_the_images(size):
    stages = cut(Network(LAYERS, Sum()), size)
    with torch.no_grad():
        shape = tuple(Network(LAYERS, Sum()).forward_features(torch.zeros(1, 3, *size)).shape)
    returned = stages["layer4"][-1].returned
    assert (1, returned.channels, returned.height, returned.width) == shape
    assert not returned.channels_last


def test_a_map_that_fits_both_ways_is_as_the_network_says():
    tensor = torch.zeros(1, 16, 8, 4)  # 8 x 4 with 16 channels, or 16 x 8 with 4
    assert _MapReader((64, 32), False).read(tensor) == Map(16, 8, 4, False)
    assert _MapReader((64, 32), True).read(tensor) == Map(4, 16, 8, True)
