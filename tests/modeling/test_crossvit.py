"""CrossViT in two streams. Oracles: timm's own ``forward_features``; loops from the equations."""

import copy
import math
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vireid_plugins.engine.checks import check_model_names
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality
from vireid_plugins.modeling.maps import recorded_maps

from tests.engine.small import ROOT

tiny = pytest.importorskip("tests.modeling.tiny_crossvit", reason="timm is not installed")

MODALITIES = torch.tensor([1, 0, 1, 0])
IMAGES = torch.rand(4, 3, *tiny.IMAGE, dtype=torch.float64)


def run(backbone, images=IMAGES, modalities=MODALITIES):
    with torch.no_grad():
        return backbone.forward_stages(images, modalities, backbone.stages)


@pytest.mark.parametrize("depth", [tiny.DEPTH, ((1, 1, 1),)])
def test_two_streams_with_equal_weights_are_timms_network(depth):
    plain = tiny.ordinary(depth)
    with torch.no_grad():
        expected = plain.forward_features(IMAGES)
    for unshared in range(len(depth) + 2):
        backbone = tiny.wrapped(copy.deepcopy(plain), unshared_stages=unshared)
        found = run(backbone)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        assert [tuple(one.shape) for one in found] == [(4, 17, 8), (4, 5, 12)]
        assert tuple(backbone.visible) == backbone.stages[:unshared]
    first = backbone(IMAGES, MODALITIES)
    assert torch.equal(first[..., 0, 0], torch.cat([one[:, 0] for one in found], dim=1))
    fine, coarse = backbone.branches(IMAGES, MODALITIES)
    assert (fine.grid, coarse.grid) == ((4, 4), (2, 2)) and backbone.feat_dim == 20
    assert torch.equal(coarse.maps[:, :, 1, 0], found[1][:, 1 + 2])  # row by row


def normalized(layer, x):
    """LN of one token, by its definition."""
    centered = x - x.mean()
    return layer.weight * centered / (centered.square().mean() + layer.eps).sqrt() + layer.bias


def linear(layer, x):
    return layer.weight @ x + layer.bias


def projected(layers, x):
    """P or BP: LN, GELU, and a linear map to the width of the other branch."""
    x = normalized(layers[0], x)
    x = torch.stack([one * (1 + torch.erf(one / math.sqrt(2))) / 2 for one in x])
    return linear(layers[2], x)


def exchanged(block, own, other, branch):
    """Z of one image by Eq. (5) to (8), token by token and head by head."""
    z = [projected(block.projs[branch], own[0]), *other[1:]]  # Eq. (5)
    fusion = block.fusion[branch]
    attention, tokens = fusion.attn, [normalized(fusion.norm1, one) for one in z]  # LN[z]
    query = linear(attention.wq, tokens[0])
    keys = [linear(attention.wk, one) for one in tokens]
    values = [linear(attention.wv, one) for one in tokens]
    heads, size = attention.num_heads, len(query) // attention.num_heads
    joined = torch.zeros_like(query)
    for head in range(heads):  # Eq. (6): softmax(q k^T / sqrt(e / h)) v
        part = slice(head * size, (head + 1) * size)
        scores = [(query[part] * key[part]).sum() / math.sqrt(size) for key in keys]
        total = sum(math.exp(score) for score in scores)
        for score, value in zip(scores, values):
            joined[part] += math.exp(score) / total * value[part]
    class_token = z[0] + linear(attention.proj, joined)  # Eq. (7)
    return torch.stack([projected(block.revert_projs[branch], class_token), *own[1:]])  # Eq. (8)


def test_the_exchange_is_equations_5_to_8():
    block = tiny.ordinary().blocks[0]
    fine, coarse = torch.rand(2, 5, 8).double(), torch.rand(2, 4, 12).double()
    block.blocks = nn.ModuleList([nn.Identity(), nn.Identity()])  # the exchange alone
    with torch.no_grad():
        found = block([fine, coarse])
        for row in range(2):
            for branch, pair in enumerate(((fine, coarse), (coarse, fine))):
                expected = exchanged(block, pair[0][row], pair[1][row], branch)
                torch.testing.assert_close(found[branch][row], expected, rtol=1e-10, atol=1e-12)


def test_the_encoders_are_equations_1_to_4():
    """Of the first token sequence, and of one encoder of each branch."""
    plain = tiny.ordinary(((1, 1, 0),))
    backbone = tiny.wrapped(plain)
    sequences = backbone.forward_stages(IMAGES, MODALITIES, ("embedding",))
    patches = backbone.shared["embedding"](IMAGES)
    for branch, (z0, maps) in enumerate(zip(sequences, patches)):
        positions = getattr(plain, f"pos_embed_{branch}")[0]
        token = getattr(plain, f"cls_token_{branch}")[0]
        expected = torch.cat([token, maps[1].flatten(0, 1)]) + positions  # Eq. (1)
        torch.testing.assert_close(z0[1], expected)
        encoder = backbone.shared["block1"].block.blocks[branch][0]
        with torch.no_grad():
            middle = z0 + encoder.attn(encoder.norm1(z0))  # Eq. (2)
            expected = middle + encoder.mlp(encoder.norm2(middle))  # Eq. (3)
            torch.testing.assert_close(encoder(z0), expected)
    last = run(backbone)[0][0, 3]
    assert abs((last - plain.norm[0].bias).div(plain.norm[0].weight).mean().item()) < 1e-9  # (4)


@pytest.mark.parametrize(
    "size, scales, grids, resized",
    [
        ((288, 144), (1.0, 1.0), ((24, 12), (18, 9)), []),
        ((256, 128), (1.0, 1.0), ((21, 11), (16, 8)), [(252, 132)]),
        ((240, 240), (1.0, 224 / 240), ((20, 20), (14, 14)), [(224, 224)]),
        ((96, 48), (1.0, 1.0), ((8, 4), (6, 3)), []),
        ((32, 16), (1.0, 1.0), ((3, 1), (2, 1)), [(36, 12)]),
        ((10, 5), (1.0, 1.0), ((1, 1), (1, 1)), [(12, 12), (16, 16)]),
    ],
)
def test_each_branch_sees_the_nearest_size_that_its_patches_fill(size, scales, grids, resized):
    backbone = tiny.wrapped(tiny.ordinary(), size, scales)
    images = torch.rand(1, 3, *size, dtype=torch.float64)
    with mock.patch.object(F, "interpolate", wraps=F.interpolate) as seen:
        sequences = backbone.forward_stages(images, torch.tensor([0]), ("embedding",))
    assert backbone.grids(size) == grids
    assert [call.kwargs["size"] for call in seen.call_args_list] == resized
    assert [one.shape[1] for one in sequences] == [1 + h * w for h, w in grids]
    assert [one.grid for one in backbone.sequences] == list(grids)


def test_images_of_another_size_than_that_of_training():
    backbone = tiny.wrapped(tiny.ordinary())
    tokens = backbone.branches(torch.rand(2, 3, 96, 48).double(), MODALITIES[:2])
    assert [one.grid for one in tokens] == [(8, 4), (4, 2)]  # two thirds of 96 x 48: 64 x 32
    assert tokens[1].maps.shape == (2, 12, 4, 2)


def test_rows_keep_their_order_and_one_modality_is_a_batch():
    backbone = tiny.wrapped(tiny.ordinary(), unshared_stages=2)
    for parameter in backbone.infrared.parameters():
        nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        found = backbone(IMAGES, MODALITIES)
        order = torch.tensor([2, 1, 3, 0])
        torch.testing.assert_close(backbone(IMAGES[order], MODALITIES[order]), found[order])
        for modality in Modality:
            rows = modality == MODALITIES
            torch.testing.assert_close(backbone(IMAGES[rows], MODALITIES[rows]), found[rows])
        other = backbone(IMAGES, 1 - MODALITIES)
    assert ((found - other).abs().amax((1, 2, 3)) > 1e-3).all()


def test_stages_can_be_run_apart():
    backbone = tiny.wrapped(tiny.ordinary(), unshared_stages=1)
    expected = run(backbone)
    for cut in range(1, 3):
        with torch.no_grad():
            first = backbone.forward_stages(IMAGES, MODALITIES, backbone.stages[:cut])
            found = backbone.forward_stages(first, MODALITIES, backbone.stages[cut:])
        assert all(torch.equal(one, other) for one, other in zip(found, expected))
    with pytest.raises(UserError, match="consecutive stages of .*'embedding', 'block1', 'block2'"):
        backbone.forward_stages(IMAGES, MODALITIES, ("block2", "block1"))


def test_maps_of_both_branches_can_be_recorded():
    backbone = tiny.wrapped(tiny.ordinary())
    with recorded_maps(backbone, ["fine_block2", "block1"]) as maps:
        fine = backbone.branches(IMAGES, MODALITIES)[0]
    assert torch.equal(maps["fine_block2"], fine.maps) and maps["block1"].shape == (4, 12, 2, 2)
    assert torch.autograd.grad(fine.class_token.sum(), maps["block1"])[0].abs().sum() > 0
    with recorded_maps(backbone) as maps:
        backbone(IMAGES, MODALITIES)
    assert torch.equal(maps["fine_block2"], fine.maps) and not maps["fine_block2"].requires_grad
    assert maps["block1"].requires_grad and not maps["block2"].requires_grad


def test_what_is_dropped_in_training_comes_from_the_config():
    backbone = tiny.build(DROP_PATH_RATIO=0.4, DROP_RATIO=0.25, ATT_DROP_RATE=0.125)
    blocks = [backbone.shared[f"block{number}"].block for number in (1, 2)]
    rates = [[one.drop_path.drop_prob for one in block.fusion] for block in blocks]
    assert rates == [pytest.approx([0.2, 0.2]), pytest.approx([0.4, 0.4])]  # grows with depth
    for attention in (blocks[1].fusion[0].attn, blocks[1].blocks[0][0].attn):
        assert (attention.proj_drop.p, attention.attn_drop.p) == (0.25, 0.125)
    assert [one.pos_drop.p for one in backbone.sequences] == [0.25, 0.25]


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_stages_have_no_gradient(frozen):
    backbone = tiny.wrapped(tiny.ordinary(), unshared_stages=1, frozen_stages=frozen).train()
    still = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    stages = {name.split(".")[1] for name in still if not name.startswith("sequences")}
    assert stages == set(backbone.stages[:frozen])
    assert (any(name.startswith("sequences") for name in still)) == (frozen > 0)


def test_checkpointed_activations_give_the_same_gradient():
    found, runs = [], {False: [], True: []}
    for on in (False, True):
        backbone = tiny.wrapped(tiny.ordinary(), unshared_stages=2)
        backbone.checkpoint_activations(on)
        block = backbone.shared["block2"].block
        block.register_forward_pre_hook(lambda *_, on=on: runs[on].append(1))
        backbone(IMAGES, MODALITIES).square().sum().backward()
        found.append([p.grad for p in backbone.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found))
    assert (len(runs[False]), len(runs[True])) == (1, 2)  # computed again for the gradient


def test_wrong_numbers_are_named():
    with pytest.raises(UserError, match="UNSHARED_STAGES is 4; expected 0 to 3"):
        tiny.wrapped(tiny.ordinary(), unshared_stages=4)
    with pytest.raises(UserError, match="BRANCH_SCALES"):
        tiny.wrapped(tiny.ordinary(), scales=(1.0,))


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"TIMM_NAME": ""}, "TIMM_NAME is empty; build_crossvit_backbone needs"),
        ({"TIMM_NAME": "crossvit_tini_240"}, "Did you mean crossvit_tiny_240"),
        (
            {"TIMM_NAME": "vit_tiny_patch16_224", "TIMM_OPTIONS": []},
            "vit_tiny_patch16_224 is no CrossViT.*crossvit_small_240.*build_dual_stream_timm",
        ),
        ({"TIMM_NAME": "resnet18", "TIMM_OPTIONS": []}, "resnet18 is no CrossViT"),
        ({"STRIDE_SIZE": [12, 12]}, r"STRIDE_SIZE is \[12, 12\], which CrossViT does not read"),
        ({"WITH_IBN": True}, "WITH_IBN is True, which a vision transformer does not read"),
        ({"BRANCH_SCALES": [1.0, 0.0]}, "BRANCH_SCALES"),
        ({"FROZEN_STAGES": 9}, "FROZEN_STAGES is 9; expected 0 to 3"),
    ],
)
def test_wrong_keys_are_named(keys, message):
    with pytest.raises(UserError, match=message):
        tiny.build(**keys)


@pytest.mark.parametrize(
    "name, key, value",
    [
        ("build_crossvit_backbone", "VIT_OUTPUT", "patches"),
        ("build_crossvit_backbone", "MODALITY_EMBEDDING", "all"),
        ("build_crossvit_backbone", "NETWORK", "mobilenetv2"),
        ("build_dual_stream_timm_backbone", "BRANCH_SCALES", "[1.0, 0.5]"),
    ],
)
def test_keys_that_another_backbone_reads_are_refused(name, key, value):
    words = ["MODEL.BACKBONE.NAME", name]
    config = str(ROOT / "configs/crossvit_csa/synthetic.yml")
    check_model_names(build_config(config, words))
    with pytest.raises(UserError, match=f"does not read MODEL.BACKBONE.{key}"):
        check_model_names(build_config(config, [*words, f"MODEL.BACKBONE.{key}", value]))


def test_all_backbones_that_read_a_key_are_named():
    words = ["MODEL.BACKBONE.NAME", "build_resnet_backbone"]
    readers = "only build_dual_stream_timm_backbone or build_crossvit_backbone does"
    with pytest.raises(UserError, match=f'{readers}. Use that, or set MODEL.BACKBONE.TIMM_NAME ""'):
        check_model_names(build_config("crossvit_csa/synthetic.yml", words))
    both = (
        "TIMM_NAME vit_tiny_patch16_224 and MODEL.BACKBONE.MODALITY_EMBEDDING patches; only build"
    )
    with pytest.raises(UserError, match=f"{both}_dual_stream_timm_backbone does"):
        check_model_names(build_config("cmtr/synthetic.yml", words))
