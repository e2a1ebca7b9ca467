"""CSA, Eq. (9) to (12). Oracles: loops over channels and positions, and arithmetic by hand."""

import math

import pytest
import torch
from torch import nn

from vireid_plugins.errors import UserError
from vireid_plugins.modeling.layers import CSA
from vireid_plugins.modeling.layers.csa import ATTENTIONS, SPATIAL_FORMS

B, C, H, W = 2, 4, 3, 2


def sigma(x):
    return 1 / (1 + math.exp(-x))


def drawn(**options):
    layer = CSA(C, reduction=2, kernel_size=3, **options).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7)
    return layer


def channel_gates(layer, image):
    """A_c(M), Eq. (10), of one image (C, H, W)."""
    first, _, second = layer.channel.mlp
    total = [0.0] * C
    for pool in (
        [sum(image[c].flatten().tolist()) / (H * W) for c in range(C)],
        [max(image[c].flatten().tolist()) for c in range(C)],
    ):
        hidden = [
            max(0.0, b + sum(w * x for w, x in zip(row, pool)))
            for row, b in zip(first.weight[:, :, 0, 0].tolist(), first.bias.tolist())
        ]
        for c, (row, b) in enumerate(zip(second.weight[:, :, 0, 0].tolist(), second.bias.tolist())):
            total[c] += b + sum(w * x for w, x in zip(row, hidden))
    return [sigma(value) for value in total]


def window(kernel, maps, h, w):
    """A 3 x 3 convolution of lists of maps (H, W) at one position, with zeros around."""
    found = 0.0
    for weights, one in zip(kernel, maps):
        for i in range(3):
            for j in range(3):
                y, x = h + i - 1, w + j - 1
                if 0 <= y < H and 0 <= x < W:
                    found += weights[i][j].item() * one[y][x].item()
    return found


def spatial_gates(layer, image, form):
    """A_s(M'), Eq. (12), of one image (C, H, W): a gate for each channel and position."""
    if form == "channels":
        means = [image[c].mean().item() for c in range(C)]
        largest = [image[c].max().item() for c in range(C)]
        rows = layer.spatial.conv.weight[:, :, 0, 0].tolist()
        found = [sigma(sum(w * x for w, x in zip(row, means + largest))) for row in rows]
        return [[[gate] * W for _ in range(H)] for gate in found]
    average, largest = image.mean(0), image.max(0).values
    maps = [largest, average] if form == "concat" else [average + largest]
    kernel = layer.spatial.conv.weight[0]
    one = [[sigma(window(kernel, maps, h, w)) for w in range(W)] for h in range(H)]
    return [one] * C


@pytest.mark.parametrize("form", SPATIAL_FORMS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_equals_the_equations(attention, form):
    layer, maps = drawn(attention=attention, spatial=form), torch.randn(B, C, H, W).double()
    found = layer(maps)
    assert found.shape == maps.shape
    for image, refined in zip(maps, found):
        expected = image.clone()
        if attention in ("csa", "channel"):
            expected = expected * torch.tensor(channel_gates(layer, image)).view(C, 1, 1)  # (9)
        if attention in ("csa", "spatial"):
            expected = expected * torch.tensor(spatial_gates(layer, expected, form))  # (11)
        torch.testing.assert_close(refined, expected, rtol=1e-6, atol=1e-6)


def test_a_hand_worked_map():
    """One channel, C1 = 1, C2 = 2, no biases; the spatial window is 1 x 1, all weights 1."""
    layer = CSA(1, reduction=1, kernel_size=1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    nn.init.ones_(layer.channel.mlp[0].weight)
    nn.init.constant_(layer.channel.mlp[2].weight, 2.0)
    nn.init.ones_(layer.spatial.conv.weight)
    maps = torch.tensor([[[[1.0, -3.0]]]])  # mean -1, max 1: 2 ReLU(-1) + 2 ReLU(1) = 2
    gate = sigma(2)  # 0.8808
    first, second = gate * 1.0, gate * -3.0
    # with one channel its mean and its maximum are the value itself
    expected = [first * sigma(2 * first), second * sigma(2 * second)]
    assert layer(maps).flatten().tolist() == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx([0.7517, -0.0133], abs=1e-4)


def test_the_channel_gate_knows_no_positions_and_the_spatial_gate_no_channels():
    maps = torch.randn(B, C, H, W).double()
    channel, spatial = drawn(attention="channel"), drawn(attention="spatial")
    flipped, order = maps.flip(2), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(channel(flipped), channel(maps).flip(2))
    assert (spatial(flipped) - spatial(maps).flip(2)).abs().max() > 1e-3
    torch.testing.assert_close(spatial(maps[:, order]), spatial(maps)[:, order])
    assert (channel(maps[:, order]) - channel(maps)[:, order]).abs().max() > 1e-3


def test_rows_do_not_mix_and_none_changes_nothing():
    layer, maps = drawn().train(), torch.randn(3, C, H, W).double()
    torch.testing.assert_close(layer(maps)[1:2], layer(maps[1:2]))
    assert torch.equal(CSA(C, attention="none")(maps), maps)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"attention": "both"}, "attention must be one of"),
        ({"spatial": "cbam"}, "spatial must be one of"),
        ({"reduction": 9}, "in_channels // reduction must be at least 1"),
        ({"reduction": 2, "kernel_size": 4}, "4"),
        ({"reduction": 2, "kernel_size": 0, "spatial": "sum"}, "kernel_size must be 1, 3, 5"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UserError, match=message):
        CSA(C, **options)
