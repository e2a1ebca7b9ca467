"""ASR and TPI. Oracles: loops over positions and parts from the formulas; PyTorch's own layer."""

import math

import pytest
import torch
from torch import nn

from vireid_plugins.errors import UserError
from vireid_plugins.modeling.layers import AttendedStructure, PartInteraction, RelationNetwork
from vireid_plugins.modeling.layers.part_interaction import (
    EncoderLayer,
    part_features,
    sinusoidal_positions,
)

C, C_S, H, W, P = 6, 8, 3, 2, 4


def maps(batch=2):
    return torch.rand(batch, C, H, W), torch.rand(batch, C_S, H, W)


@pytest.mark.parametrize("scaled", [False, True])
def test_asr_against_loops_over_positions(scaled):
    asr = AttendedStructure(C, C_S, reduction=2, scaled=scaled).double().eval()
    appearance, structure = (one.double() for one in maps())
    nn.init.uniform_(asr.norm.running_var, 0.5, 1.5)
    with torch.no_grad():
        found = asr(appearance, structure)
        shares = asr.attention(appearance, structure)
        for b in range(2):
            places = [(h, w) for h in range(H) for w in range(W)]
            joined = torch.cat([appearance, structure], dim=1)
            phi_1, norm_1, _, phi_2, norm_2 = asr.embedding
            hidden = norm_1(phi_1(joined)).clamp(min=0)
            fused = norm_2(phi_2(hidden))[b]
            keys, queries = asr.key(fused[None])[0], asr.query(fused[None])[0]
            value = asr.value(appearance)[b]
            root = math.sqrt(C // 2) if scaled else 1.0
            for t, (h, w) in enumerate(places):
                affinities = [float(keys[:, h, w] @ queries[:, i, j]) / root for i, j in places]
                total = sum(map(math.exp, affinities))
                expected = asr.norm(appearance)[b, :, h, w].clone()
                for j, (y, x) in enumerate(places):
                    share = math.exp(affinities[j]) / total
                    assert shares[b, t, j].item() == pytest.approx(share)
                    expected += share * value[:, y, x]
                torch.testing.assert_close(found[b, :, h, w], expected)


def test_the_relation_network_halves_twice_and_has_four_convolutions():
    network = RelationNetwork(17, 16)
    assert network(torch.rand(2, 17, 4 * H, 4 * W)).shape == (2, 16, H, W)
    kinds = [type(layer).__name__ for layer in network]
    assert kinds.count("Conv2d") == 4 and kinds.count("MaxPool2d") == 2
    assert kinds[-1] == "MaxPool2d" and kinds[6] == "MaxPool2d"
    with pytest.raises(UserError, match="CHANNELS is 10; expected a multiple of 4"):
        RelationNetwork(17, 10)


def test_each_convolution_of_phi_and_n_r_has_its_batch_norm():
    """phi_1 keeps C + C_S channels, phi_2 makes C of them; F_IS adds BN(F_I)."""
    phi, norm = AttendedStructure(C, C_S, reduction=2).embedding, "BatchNorm2d"
    assert [type(part).__name__ for part in phi] == ["Conv2d", norm, "ReLU", "Conv2d", norm]
    assert phi[0].weight.shape == (C + C_S, C + C_S, 1, 1)
    assert phi[3].weight.shape == (C, C + C_S, 1, 1)
    block, pool = ["Conv2d", norm, "ReLU"], ["MaxPool2d"]
    kinds = [type(part).__name__ for part in RelationNetwork(17, 16)]
    assert kinds == [*block, *block, *pool, *block, *block, *pool]


@pytest.mark.parametrize("norm", ["mask", "area"])
def test_part_features_against_loops(norm):
    appearance, parts = torch.rand(2, C, H, W).double(), torch.rand(2, P, H, W).double()
    found = part_features(appearance, parts, norm)
    for b in range(2):
        for i in range(P):
            total, weight = torch.zeros(C).double(), 0.0
            for h in range(H):
                for w in range(W):
                    total += parts[b, i, h, w] * appearance[b, :, h, w]
                    weight += float(parts[b, i, h, w])
            expected = total / (weight if norm == "mask" else H * W)
            torch.testing.assert_close(found[b, i], expected, rtol=1e-5, atol=1e-6)


def test_a_map_that_is_brighter_everywhere_gives_the_same_part_only_with_the_sum():
    appearance, parts = torch.rand(1, C, H, W), torch.rand(1, P, H, W) + 0.1
    torch.testing.assert_close(
        part_features(appearance, parts), part_features(appearance, parts / 2), rtol=1e-4, atol=1e-5
    )
    halved = part_features(appearance, parts / 2, "area")
    torch.testing.assert_close(halved, part_features(appearance, parts, "area") / 2)


def test_gradients_are_those_of_the_numbers():
    """Nothing is detached on the way from F_I and F_S to F_IS and to the parts."""
    torch.manual_seed(0)
    given = tuple(one.double().requires_grad_() for one in maps(1))
    for layer in (
        AttendedStructure(C, C_S, reduction=2),
        PartInteraction(C, C_S, parts=P, heads=2, dropout=0.0),
    ):
        assert torch.autograd.gradcheck(layer.double().eval(), given, atol=1e-4)


def test_dropout_is_in_both_parts_of_a_layer():
    layer, calls = EncoderLayer(8, 2, 12, 1.0).train(), []
    layer.dropout.register_forward_hook(lambda module, given, found: calls.append(given[0].shape))
    rows = torch.randn(2, P, 8)
    expected = layer.norm_output(layer.norm_attention(rows))  # all is dropped
    torch.testing.assert_close(layer(rows), expected)
    assert calls == [(2, P, 8), (2, P, 12), (2, P, 8)]


def test_hidden_units_are_a_ratio_of_the_width():
    layer = PartInteraction(C, C_S, parts=P, heads=2, hidden_ratio=0.5).layers[0]
    assert layer.expand.weight.shape == (C // 2, C)


def test_positions_by_hand():
    """PE(pos, 2k) = sin(pos / Q^(2k/d)), PE(pos, 2k+1) = cos of the same, d = 5, Q = 100."""
    found = sinusoidal_positions(3, 5, 100.0)
    for pos in range(3):
        for i in range(5):
            angle = pos / 100.0 ** (2 * (i // 2) / 5)
            expected = math.cos(angle) if i % 2 else math.sin(angle)
            assert found[pos, i].item() == pytest.approx(expected, abs=1e-6)


def test_a_layer_equals_pytorchs():
    own = EncoderLayer(8, 2, 12, 0.0).double()
    theirs = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).double()
    nn.init.normal_(own.project_in.bias)
    names = {
        "self_attn.in_proj_": "project_in.",
        "self_attn.out_proj.": "project_out.",
        "linear1.": "expand.",
        "linear2.": "contract.",
        "norm1.": "norm_attention.",
        "norm2.": "norm_output.",
    }
    theirs.load_state_dict(
        {
            f"{a}{end}": own.state_dict()[f"{b}{end}"]
            for a, b in names.items()
            for end in ("weight", "bias")
        }
    )
    rows = torch.randn(3, 5, 8).double()
    torch.testing.assert_close(own(rows), theirs(rows))


def test_parts_interact_and_know_their_places():
    tpi = PartInteraction(C, C_S, parts=P, heads=2, dropout=0.0)
    appearance, structure = maps(1)
    with torch.no_grad():
        own = part_features(appearance, tpi.part_maps(structure).sigmoid())
        expected = tpi.layers[0](own + sinusoidal_positions(P, C)[None])
        torch.testing.assert_close(tpi(appearance, structure), expected)
        tpi.part_maps.weight[:] = tpi.part_maps.weight[:1]  # all parts are one part
        tpi.part_maps.bias[:] = 0
        same = tpi(appearance, structure)[0]
        assert (same - same[0]).abs().amax() > 0.01
        tpi.positions.zero_()
        same = tpi(appearance, structure)[0]
        torch.testing.assert_close(same, same[:1].expand(P, -1))


def test_widths_and_layers():
    appearance, structure = maps()
    narrow = PartInteraction(C, C_S, parts=P, heads=2, width=4, layers=2)
    assert narrow(appearance, structure).shape == (2, P, C)
    assert narrow.layers[0].expand.weight.shape == (4, 4) and len(narrow.layers) == 2
    none = PartInteraction(C, C_S, parts=P, heads=2, layers=0, positions=False)
    with torch.no_grad():
        expected = part_features(appearance, none.part_maps(structure).sigmoid())
        torch.testing.assert_close(none(appearance, structure), expected)
    with pytest.raises(UserError, match="HEADS is 4, which does not divide 6"):
        PartInteraction(C, C_S, heads=4)
    with pytest.raises(UserError, match="REDUCTION is 8, more than the 6 channels"):
        AttendedStructure(C, C_S)
