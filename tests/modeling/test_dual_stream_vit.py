"""Vision transformers in two streams. Oracle: timm's own ``forward_features``."""

import builtins

import pytest
import torch
from torch import nn

from vireid_plugins.errors import MissingLibraryError, UserError
from vireid_plugins.modality import Modality
from vireid_plugins.modeling.backbones import DualStreamBackbone, DualStreamViT
from vireid_plugins.modeling.backbones.vit import infer_grid, resize_positions
from vireid_plugins.modeling.backbones.vit.timm_vit import is_vit
from vireid_plugins.modeling.maps import recorded_maps

from tests.modeling.tiny_vit import IMAGE, NAME, SIZES, build, ordinary, timm, vit_cfg

resample_abs_pos_embed = timm.layers.resample_abs_pos_embed
MODALITIES = torch.tensor([1, 0, 1, 0])
IMAGES = torch.rand(4, 3, *IMAGE, dtype=torch.float64)
#: a network of each kind, and how many tokens stand before its patches
KINDS = {
    NAME: 1,
    "deit_tiny_patch16_224": 1,
    "deit_tiny_distilled_patch16_224": 2,
    "deit3_small_patch16_224": 1,  # the class token has no position; layer scale
    "vit_small_patch14_reg4_dinov2": 5,  # registers
    "vit_base_patch16_clip_224": 1,  # a norm before the blocks
    "vit_base_patch16_siglip_224": 0,  # no class token
    "vit_medium_patch16_gap_240": 0,
    "vit_medium_patch16_reg4_gap_256": 4,  # registers, and no class token
    "vit_so150m_patch16_reg4_gap_256": 4,  # the same; registers have positions
    "vit_small_patch16_18x2_224": 1,  # another kind of block
}


@pytest.mark.parametrize("network", KINDS)
def test_two_streams_with_equal_weights_are_timms_network(network):
    plain = ordinary(network, fc_norm=False)
    output = "class" if plain.cls_token is not None else "patches"
    for unshared in (0, 1, 2, 3):
        backbone = build(network, UNSHARED_STAGES=unshared, VIT_OUTPUT=output).double().eval()
        report = backbone.load_ordinary(plain.state_dict())
        assert not report.missing and all(n.startswith("attn_pool") for n in report.unexpected)
        with torch.no_grad():
            found = backbone.forward_stages(IMAGES, MODALITIES, backbone.stages)
            expected = plain.forward_features(IMAGES)
            first = backbone(IMAGES, MODALITIES)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert backbone.num_prefix == KINDS[network] and found.shape == (4, 8 + KINDS[network], 32)
        assert first.shape == ((4, 32, 1, 1) if output == "class" else (4, 32, 4, 2))
        assert tuple(backbone.visible) == backbone.stages[:unshared]
        assert tuple(backbone.shared) == backbone.stages[unshared:]


def test_outputs_are_the_class_token_or_the_map_of_the_patches():
    class_token, patches = build().eval(), build(VIT_OUTPUT="patches").eval()
    patches.load_state_dict(class_token.state_dict())
    images = IMAGES.float()
    tokens = class_token.tokens(images, MODALITIES)
    sequence = class_token.forward_stages(images, MODALITIES, class_token.stages)
    assert torch.equal(class_token(images, MODALITIES)[..., 0, 0], sequence[:, 0])
    assert torch.equal(tokens.class_token, sequence[:, 0]) and tokens.grid == (4, 2)
    found = patches(images, MODALITIES)
    assert torch.equal(found, tokens.maps)
    for row in range(4):
        for column in range(2):
            assert torch.equal(found[:, :, row, column], sequence[:, 1 + 2 * row + column])


def test_each_modality_goes_through_its_own_patch_embedding():
    backbone = build().eval()
    with torch.no_grad():
        before = backbone(IMAGES.float(), MODALITIES)
        backbone.infrared["embedding"].proj.weight.zero_()
        after = backbone(IMAGES.float(), MODALITIES)
    changed = (before != after).flatten(1).any(1)
    assert changed.tolist() == (MODALITIES == Modality.INFRARED).tolist()


def test_the_order_of_rows_means_nothing_and_one_modality_is_a_batch():
    backbone = build(MODALITY_EMBEDDING="patches", UNSHARED_STAGES=2).double().eval()
    with torch.no_grad():
        found = backbone(IMAGES, MODALITIES)
        order = torch.tensor([2, 1, 3, 0])
        torch.testing.assert_close(backbone(IMAGES[order], MODALITIES[order]), found[order])
        visible = MODALITIES == Modality.VISIBLE
        torch.testing.assert_close(backbone(IMAGES[visible], MODALITIES[visible]), found[visible])


@pytest.mark.parametrize("stride", [(8, 8), (6, 6), (4, 8), (5, 3)])
def test_overlapping_patches_are_those_of_a_loop(stride):
    """Oracle: each patch is cut out and projected by itself."""
    backbone = build(STRIDE_SIZE=stride).double().eval()
    embedding = backbone.visible["embedding"]
    with torch.no_grad():
        found = embedding(IMAGES)
    down, across = (range(0, size - 7, step) for size, step in zip(IMAGE, stride))
    assert found.shape == (4, len(down), len(across), 32)
    assert backbone.grid_of(IMAGE) == backbone.sequence.grid == (len(down), len(across))
    weight, bias = embedding.proj.weight.flatten(1), embedding.proj.bias
    for row, y in enumerate(down):
        for column, x in enumerate(across):
            patch = IMAGES[:, :, y : y + 8, x : x + 8].flatten(1)
            torch.testing.assert_close(found[:, row, column], patch @ weight.T + bias)
    assert backbone(IMAGES, MODALITIES).shape == (4, 32, 1, 1)


def test_positions_are_resized_as_timm_does_it():
    plain = torch.rand(1, 2 + 14 * 14, 8)
    found = resize_positions(plain, (14, 14), (21, 10), prefix=2)
    expected = resample_abs_pos_embed(plain, [21, 10], [14, 14], num_prefix_tokens=2)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[:, :2], plain[:, :2]) and found.shape == (1, 212, 8)
    assert resize_positions(plain, (14, 14), (14, 14), 2) is plain


def test_a_plane_stays_a_plane_when_it_is_resized():
    """Oracle: bicubic interpolation reproduces a linear function away from the border."""
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    plane = (3 * rows + columns).reshape(1, 64, 1)
    found = resize_positions(plane, (8, 8), (16, 8), prefix=0).reshape(16, 8)
    expected = 3 * ((torch.arange(16) + 0.5) / 2 - 0.5).unsqueeze(1) + torch.arange(8.0)
    torch.testing.assert_close(found[4:-4], expected[4:-4])


@pytest.mark.parametrize(
    "count,like,grid",
    [
        (210, (21, 10), (21, 10)),
        (196, (21, 10), (14, 14)),
        (128, (21, 10), (16, 8)),
        (128, (18, 9), (16, 8)),
        (162, (16, 8), (18, 9)),
        (253, (16, 8), (23, 11)),
        (49, (14, 14), (7, 7)),
        (13, (4, 2), (13, 1)),
    ],
)
def test_the_grid_of_a_number_of_patches(count, like, grid):
    assert infer_grid(count, like) == grid


def test_the_grid_of_images_of_persons_is_no_square():
    assert infer_grid(144, (21, 10)) == (12, 12)
    assert infer_grid(144, (21, 10), square=False) == (18, 8)
    assert infer_grid(196, (16, 8), square=False) == (14, 14)


def test_images_of_another_size_get_resized_positions():
    """Oracle: timm's network for that size, with the positions that timm resizes."""
    backbone = build().double().eval()
    plain = ordinary()
    backbone.load_ordinary(plain.state_dict())
    taller = ordinary(image=(48, 24))
    state = dict(plain.state_dict())
    state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], [6, 3], [4, 2])
    taller.load_state_dict(state)
    images = torch.rand(2, 3, 48, 24, dtype=torch.float64)
    with torch.no_grad():
        tokens = backbone.tokens(images, MODALITIES[:2])
        expected = taller.forward_features(images)
    assert tokens.grid == (6, 3)
    torch.testing.assert_close(tokens.class_token, expected[:, 0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("where", ["patches", "all"])
def test_the_modality_embedding_is_added_to_the_tokens_it_names(where):
    """Oracle: the tokens without it, plus the scaled row of each image's modality."""
    backbone = build(MODALITY_EMBEDDING=where, MODALITY_SCALE=3.0).eval()
    plain = build().eval()
    own = backbone.state_dict()
    plain.load_state_dict({name: own[name] for name in plain.state_dict()})
    assert backbone.modality_embedding.shape == (2, 32)
    assert backbone.new_parameters == ("modality_embedding",)
    images, first = IMAGES.float(), backbone.stages[:1]
    found = backbone.forward_stages(images, MODALITIES, first)
    expected = plain.forward_stages(images, MODALITIES, first).clone()
    for row, modality in enumerate(MODALITIES.tolist()):
        begin = 1 if where == "patches" else 0
        expected[row, begin:] += 3 * backbone.modality_embedding[modality]
    torch.testing.assert_close(found, expected)
    assert not torch.equal(*backbone.modality_embedding)
    assert backbone.modality_embedding.std().item() == pytest.approx(0.02, rel=0.3)
    with pytest.raises(UserError, match=r"modalities must be 0 .* or 1 .*; got \[2\]"):
        backbone(images, MODALITIES + 1)


def test_a_method_can_stop_inside_and_go_on():
    backbone = build(UNSHARED_STAGES=2, VIT_OUTPUT="patches").eval()
    images = IMAGES.float()
    whole = backbone.forward_stages(images, MODALITIES, backbone.stages)
    assert backbone.stages == ("embedding", "block1", "block2") and backbone.passes_tokens
    for stop in range(4):
        first = backbone.forward_stages(images, MODALITIES, backbone.stages[:stop])
        if stop == 0:
            assert first is images
        again = backbone.forward_stages(first, MODALITIES, backbone.stages[stop:])
        torch.testing.assert_close(again, whole)
    with pytest.raises(UserError, match="consecutive stages of .*'block2'.*got .*'embedding'"):
        backbone.forward_stages(images, MODALITIES, ("embedding", "block2"))


def test_recorded_maps_are_the_patches_and_part_of_the_graph():
    backbone = build(UNSHARED_STAGES=2).eval()
    images = IMAGES.float()
    plain = backbone(images, MODALITIES)
    with recorded_maps(backbone) as maps:
        found = backbone(images, MODALITIES)
        assert list(maps) == list(backbone.stages)
        assert {one.shape for one in maps.values()} == {(4, 32, 4, 2)}
        (gradient,) = torch.autograd.grad(found[:, 0].sum(), maps["block1"])
    torch.testing.assert_close(found, plain)
    assert gradient.abs().sum() > 0
    sequence = backbone.forward_stages(images, MODALITIES, backbone.stages[:2])
    torch.testing.assert_close(maps["block1"].flatten(2).transpose(1, 2), sequence[:, 1:])


def test_maps_of_images_of_another_shape_have_their_grid():
    """36 patches are 9 x 4 of this image, and neither a square nor near to 4 x 2."""
    backbone = build().eval()
    with recorded_maps(backbone, ["block1"]) as maps:
        backbone(torch.rand(2, 3, 72, 32), MODALITIES[:2])
    assert maps["block1"].shape == (2, 32, 9, 4)


@pytest.mark.parametrize("unshared", [0, 2])
def test_checkpointed_activations_change_no_number(unshared):
    found = []
    for on in (False, True):
        backbone = build(
            UNSHARED_STAGES=unshared, DROP_PATH_RATIO=0.2, DROP_RATIO=0.2, ATT_DROP_RATE=0.1
        ).train()
        backbone.checkpoint_activations(on)
        torch.manual_seed(3)
        backbone(IMAGES.float(), MODALITIES).square().sum().backward()
        found.append([p.grad for p in backbone.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found))
    assert all(gradient.abs().sum() > 0 for gradient in found[0])  # no path is left out in all rows


def test_checkpointed_blocks_run_again_for_the_gradient():
    runs = {}
    for on in (False, True):
        backbone, runs[on] = build().train(), []
        backbone.checkpoint_activations(on)
        for stage in backbone.stages[1:]:
            block = backbone.shared[stage].block
            block.register_forward_pre_hook(lambda *_, on=on: runs[on].append(1))
        backbone(IMAGES.float(), MODALITIES).sum().backward()
    assert (len(runs[False]), len(runs[True])) == (2, 4)


def test_drop_path_grows_with_depth_and_leaves_whole_rows_out():
    backbone = build(DROP_PATH_RATIO=0.4, DROP_RATIO=0.25, ATT_DROP_RATE=0.125)
    blocks = [backbone.shared[f"block{number}"].block for number in (1, 2)]
    assert isinstance(blocks[0].drop_path1, nn.Identity)
    assert blocks[1].drop_path1.drop_prob == pytest.approx(0.4)
    rates = (blocks[1].attn.proj_drop.p, blocks[1].mlp.drop1.p, backbone.sequence.pos_drop.p)
    assert rates == (0.25,) * 3 and blocks[1].attn.attn_drop.p == 0.125
    backbone = build(DROP_PATH_RATIO=0.5).train()
    tokens, modalities = torch.rand(64, 9, 32), torch.zeros(64, dtype=torch.int64)
    block = backbone.shared["block2"].block
    torch.manual_seed(0)
    added = backbone.forward_stages(tokens, modalities, ("block2",))
    without = backbone.shared["block2"].norm(tokens)
    same = torch.isclose(added, without).flatten(1).all(1)
    assert 5 < same.sum() < 30  # both paths of a row are left out with probability 1/4
    assert block.training and torch.equal(
        backbone.eval()(IMAGES.float(), MODALITIES), backbone(IMAGES.float(), MODALITIES)
    )


def test_dropout_of_tokens_is_of_training_alone():
    """Oracle: the same tokens without it, doubled where they were not dropped."""
    backbone = build(DROP_RATIO=0.5).train()
    found = backbone.forward_stages(IMAGES.float(), MODALITIES, backbone.stages[:1])
    plain = backbone.eval().forward_stages(IMAGES.float(), MODALITIES, backbone.stages[:1])
    kept = found != 0
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(found[kept], 2 * plain[kept])


def test_frozen_stages_stay_as_they_are():
    backbone = build(FROZEN_STAGES=2, MODALITY_EMBEDDING="all", DROP_PATH_RATIO=0.5).train()
    trained = {name for name, one in backbone.named_parameters() if one.requires_grad}
    assert {name.split(".")[1] for name in trained if "." in name} == {"block2"}
    assert {name for name in trained if "." not in name} == {"modality_embedding"}
    assert not backbone.shared["block1"].training and backbone.shared["block2"].training
    assert not backbone.visible["embedding"].training


def test_a_network_with_stages_is_the_dual_stream_backbone():
    found = build("convnext_atto", TIMM_OPTIONS=["depths=(1,1,1,1)"])
    assert type(found) is DualStreamBackbone and found.feat_dim == 320
    assert found(IMAGES.float(), MODALITIES).shape == (4, 320, 2, 1)


def test_a_transformer_that_does_more_is_none_of_these():
    class More(timm.models.vision_transformer.VisionTransformer):
        def forward_features(self, x):
            return 2 * super().forward_features(x)

    sizes = {"img_size": IMAGE, "patch_size": 8, "embed_dim": 32, "depth": 1, "num_heads": 2}
    assert is_vit(More.__base__(**sizes)) and not is_vit(More(**sizes))


def test_it_is_built_without_a_config():
    network = timm.models.vision_transformer.VisionTransformer(
        img_size=IMAGE, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
    )
    backbone = DualStreamViT(network=network, image_size=IMAGE)
    assert backbone.stride == (8, 8) and backbone.feat_dim == 32
    assert backbone(IMAGES.float(), MODALITIES).shape == (4, 32, 1, 1)


REFUSED = {
    "no name": ({"TIMM_NAME": ""}, "TIMM_NAME is empty; .*vit_small_patch16_224.*convnext_tiny"),
    "unknown": ({"TIMM_NAME": "vit_smal_patch16_224"}, "TIMM_NAME is .*Did you mean vit_small_pa"),
    "rotary": (
        {"TIMM_NAME": "eva02_tiny_patch14_224", "TIMM_OPTIONS": [], "VIT_OUTPUT": "patches"},
        "cannot be cut into stages.*Supported are networks of timm's class VisionTransformer",
    ),
    "several maps": ({"TIMM_NAME": "crossvit_9_240", "TIMM_OPTIONS": []}, "Supported are networks"),
    "weights by an option": ({"TIMM_OPTIONS": ["pretrained=True"]}, "BACKBONE.PRETRAIN says"),
    "channels": ({"TIMM_OPTIONS": ["in_chans=1"]}, "'in_chans=1'; images have three ch.*Leave it"),
    "twice": ({"TIMM_OPTIONS": ["depth=2", "depth = 3"]}, "'depth = 3'; depth is there twice"),
    "no block": ({"TIMM_OPTIONS": ["depth=0"]}, "asks for depth=0, which a vision transformer in"),
    "patches left out": ({"TIMM_OPTIONS": ["patch_drop_rate=0.5"]}, "asks for patch_drop_rate"),
    "option": ({"TIMM_OPTIONS": ["dept=2"]}, "cannot build vit_tiny.*dept=2.*TIMM_OPTIONS"),
    "no option": ({"TIMM_OPTIONS": ["depth"]}, "entry 'depth'; expected NAME=VALUE"),
    "stride": ({"STRIDE_SIZE": (9, 8)}, r"STRIDE_SIZE is \[9, 8\], more than a patch of \[8, 8\]"),
    "stages": ({"UNSHARED_STAGES": 4}, "UNSHARED_STAGES is 4; expected 0 to 3"),
    "frozen": ({"FROZEN_STAGES": 4}, "FROZEN_STAGES is 4; expected 0 to 3.*embedding, block1, blo"),
    "norm": ({"NORM": "syncBN"}, "NORM is 'syncBN', which a vision transformer does not read"),
    "non-local": ({"WITH_NL": True}, "WITH_NL is True, which a vision transformer does not read"),
    "scale alone": ({"MODALITY_SCALE": 3.0}, "EMBEDDING none does not read .*MODALITY_SCALE 3.0"),
    "no class": ({"TIMM_NAME": "vit_base_patch16_siglip_224"}, "no class token. Set it to 'patch"),
    "word": ({"VIT_OUTPUT": "cls"}, "VIT_OUTPUT is 'cls'; expected 'class' or 'patches'"),
    "of a ViT": (
        {"TIMM_NAME": "convnext_atto", "TIMM_OPTIONS": [], "MODALITY_EMBEDDING": "all"},
        "TIMM_NAME convnext_atto does not read MODEL.BACKBONE.MODALITY_EMBEDDING all",
    ),
}


@pytest.mark.parametrize("keys,message", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_built_is_named(keys, message):
    with pytest.raises(UserError, match=message):
        build(**keys)


def test_a_missing_timm_is_one_clear_line(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingLibraryError) as refusal:
        build()
    assert str(refusal.value) == (
        f"MODEL.BACKBONE.TIMM_NAME {NAME} needs timm, which cannot be imported (No module named "
        "'timm'). Install it: pip install 'vireid_plugins[vit]', or in a checkout pip install -e "
        "'.[vit]'."
    )


def test_a_generalized_mean_of_a_class_token_is_refused():
    from vireid_plugins.modeling.backbones import build_dual_stream_timm_backbone

    cfg = vit_cfg()
    for cfg.MODEL.HEADS.POOL_LAYER in ("ClipGlobalAvgPool", "GeneralizedMeanPoolingP"):
        with pytest.raises(UserError, match="POOL_LAYER is .*values are negative. Set it to Globa"):
            build_dual_stream_timm_backbone(cfg)
    cfg.MODEL.BACKBONE.VIT_OUTPUT = "patches"
    build_dual_stream_timm_backbone(cfg)


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(UserError, match=r"Images of \[32, 6\].*smaller than a patch of \[8, 8\]"):
        build(image=(32, 6))
    assert SIZES["patch_size"] == 8
