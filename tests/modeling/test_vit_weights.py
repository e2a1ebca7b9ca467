"""Files of weights for vision transformers. Oracle: timm's network with the file's own tensors."""

import logging

import pytest
import torch
from torch import nn

from vireid_plugins.errors import CheckpointError
from vireid_plugins.modeling.backbones.vit.timm_vit import fetch_vit
from vireid_plugins.modeling.sizes import adapt_sizes

from fastreid.modeling.backbones.vision_transformer import VisionTransformer

from tests.modeling import tiny_crossvit
from tests.modeling.tiny_vit import IMAGE, NAME, build, ordinary, timm, vit_cfg

MODALITIES = torch.tensor([1, 0])
IMAGES = torch.rand(2, 3, *IMAGE)


def class_token(backbone):
    with torch.no_grad():
        return backbone.eval().float()(IMAGES, MODALITIES)[..., 0, 0]


def state_of(**options):
    return {name: one.float() for name, one in ordinary(**options).state_dict().items()}


def saved(content, path):
    torch.save(content, path)
    return str(path)


WRAPPED = {
    "timm": lambda state: state,
    "FastReID": lambda state: {"model": {f"backbone.{n}": t for n, t in state.items()}},
    "DDP": lambda state: {"state_dict": {f"module.{n}": t for n, t in state.items()}},
    "PMT": lambda state: {f"base.{n}": t for n, t in state.items()},
    "DINO": lambda state: {
        "teacher": {
            **{f"backbone.{n}": t for n, t in state.items()},
            "head.mlp.0.weight": torch.rand(4, 32),
            "head.last_layer.weight_v": torch.rand(9, 4),
        },
        "student": {f"module.backbone.{n}": 0 * t for n, t in state.items()},
        "epoch": 99,
    },
    "MoCo": lambda state: {"state_dict": {f"module.base_encoder.{n}": t for n, t in state.items()}},
}


@pytest.mark.parametrize("program", WRAPPED)
def test_the_names_of_other_programs(program, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    state = state_of()
    path = saved(WRAPPED[program](state), tmp_path / "start.pth")
    backbone = build(PRETRAIN=True, PRETRAIN_PATH=path, MODALITY_EMBEDDING="patches")
    report = [one for one in caplog.records if "tensors loaded" in one.getMessage()]
    assert len(report) == 1 and report[0].levelname == "INFO", report
    backbone.modality_embedding.data.zero_()
    plain = ordinary().float()
    with torch.no_grad():
        torch.testing.assert_close(class_token(backbone), plain.forward_features(IMAGES)[:, 0])
    assert torch.equal(backbone.infrared["embedding"].proj.weight, state["patch_embed.proj.weight"])


@pytest.mark.parametrize("shared_by", [0, 1])
def test_a_checkpoint_of_this_package_is_a_start(shared_by, tmp_path, caplog):
    """Of both streams, or of one for both; the positions belong to another size of images."""
    trained = build(UNSHARED_STAGES=shared_by, MODALITY_EMBEDDING="patches", image=(64, 32))
    content = {"model": {f"backbone.{n}": t for n, t in trained.state_dict().items()}}
    path = saved(content, tmp_path / "model_final.pth")
    options = dict(UNSHARED_STAGES=1, MODALITY_EMBEDDING="patches", PRETRAIN=True)
    found = build(**options, PRETRAIN_PATH=path)
    own = trained.state_dict()
    stream = "visible" if shared_by else "shared"
    for name, value in found.state_dict().items():
        if name != "sequence.pos_embed":
            place = name if name in own else name.replace("visible", stream)
            assert torch.equal(value, own[place.replace("infrared", stream)]), name
    assert found.sequence.pos_embed.shape[1] == 1 + 4 * 2
    assert not [one for one in caplog.records if one.levelname == "WARNING"]


def test_a_file_of_safetensors_is_read_too(tmp_path):
    from safetensors.torch import save_file

    save_file(state_of(), str(tmp_path / "w.safetensors"))
    path = str(tmp_path / "w.safetensors")
    found = class_token(build(PRETRAIN=True, PRETRAIN_PATH=path))
    torch.testing.assert_close(found, ordinary().float().forward_features(IMAGES)[:, 0].detach())


def test_fastreids_vit_computes_the_same():
    """Oracle: FastReID's own network, with steps of 4 pixels."""
    host = VisionTransformer(
        *(IMAGE, 8, 4), embed_dim=32, depth=2, num_heads=2, qkv_bias=True
    ).eval()
    for parameter in host.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    backbone = build(STRIDE_SIZE=(4, 4))
    assert not backbone.load_ordinary(host.state_dict()).missing
    with torch.no_grad():
        torch.testing.assert_close(class_token(backbone), host(IMAGES)[..., 0, 0])


def test_positions_of_another_grid_are_resized_and_the_log_says_it(caplog):
    """Oracle: timm's own function for it."""
    caplog.set_level(logging.INFO)
    state = state_of(image=(48, 24))  # 6 x 3 patches
    backbone = build(STRIDE_SIZE=(4, 4))  # 7 x 3
    backbone.load_ordinary(state, "start.pth")
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], [7, 3], [6, 3])
    torch.testing.assert_close(backbone.sequence.pos_embed.detach(), expected)
    assert "start.pth: resized from 6 x 3 to 7 x 3 patches (bicubic)" in caplog.text


def test_a_square_grid_of_images_of_another_shape():
    state = state_of(image=(64, 64))
    backbone = build()
    backbone.load_ordinary(state)
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], [4, 2], [8, 8])
    torch.testing.assert_close(backbone.sequence.pos_embed.detach(), expected)


def test_pass_keeps_the_position_of_its_class_token_apart(caplog):
    """Oracle: the positions of timm's file, from which PASS's is made."""
    state = state_of()
    whole = dict(state)
    positions = whole.pop("pos_embed")
    whole.update(pos_embed=positions[:, 1:], cls_pos=positions[:, :1])
    for number in (1, 2, 3):
        whole[f"part_token{number}"] = torch.rand(1, 1, 32)
        whole[f"part{number}_pos"] = torch.rand(1, 1, 32)
    backbone = build()
    report = backbone.load_ordinary(whole)
    assert torch.equal(backbone.sequence.pos_embed, positions) and not report.missing
    assert len(report.unexpected) == 7 and "WARNING" not in caplog.text


@pytest.mark.parametrize(
    "of,into",
    [
        ("deit_tiny_distilled_patch16_224", NAME),
        (NAME, "deit_tiny_distilled_patch16_224"),
        ("vit_small_patch14_reg4_dinov2", NAME),
        ("deit3_small_patch16_224", NAME),
        (NAME, "deit3_small_patch16_224"),
    ],
)
def test_positions_of_networks_with_other_tokens(of, into):
    """Oracle: the positions by the kind of their token. Published grids are squares."""
    state = state_of(network=of, image=(32, 32))
    given = state["pos_embed"]
    prefix = given.shape[1] - 16
    backbone = build(into, (32, 32))
    backbone.load_ordinary(state)
    found = backbone.sequence.pos_embed.detach()
    assert torch.equal(found[:, backbone.sequence.placed :], given[:, prefix:])
    token, expected = state["cls_token"][:, 0], given[:, 0] if prefix else torch.zeros(1, 32)
    if backbone.sequence.placed:
        assert torch.equal(found[:, 0], expected)
        expected = torch.zeros(1, 32)
    assert torch.equal(backbone.sequence.cls_token[:, 0], token + expected)


def test_dinov2_with_registers_by_its_own_names(caplog):
    """Oracle: timm's own translation of such a file."""
    network = "vit_small_patch14_reg4_dinov2"
    plain = ordinary(network, image=(32, 32), init_values=1.0).float()
    file = plain.state_dict()
    file["register_tokens"] = file.pop("reg_token")
    file["pos_embed"] = torch.rand(1, 1 + 16, 32)
    file["mask_token"] = torch.zeros(1, 32)
    backbone = build(network, (32, 32))
    assert not backbone.load_ordinary(file).missing and "WARNING" not in caplog.text
    expected = timm.models.vision_transformer.checkpoint_filter_fn(dict(file), plain)
    for name in ("reg_token", "cls_token", "pos_embed"):
        torch.testing.assert_close(getattr(backbone.sequence, name).detach(), expected[name])


def test_a_file_without_positions_is_a_warning(caplog):
    state = state_of()
    del state["pos_embed"]
    assert build().load_ordinary(state, "x.pth").missing == ("sequence.pos_embed",)
    assert "x.pth has no position embeddings that fit: they start at random" in caplog.text


def test_a_checkpoint_of_images_of_another_size_is_adapted():
    """Oracle: timm's function. A resumed run and other tensors are left alone."""
    trained, other = build(image=(48, 24)), nn.Module()
    other.backbone = build()
    held = {f"backbone.{name}": one for name, one in trained.state_dict().items()}
    before = dict(held)
    adapt_sizes(other, held)
    changed = [name for name in held if held[name] is not before[name]]
    assert changed == ["backbone.sequence.pos_embed"] and held.keys() == before.keys()
    expected = timm.layers.resample_abs_pos_embed(before[changed[0]], [4, 2], [6, 3])
    torch.testing.assert_close(held[changed[0]], expected)
    other.load_state_dict(held)


@pytest.mark.parametrize("image", [IMAGE, (32, 32)])
def test_registers_have_positions_where_no_class_token_is(image):
    """Oracle: timm's own function. The registers' positions come first and stay as they are."""
    name = "vit_so150m_patch16_reg4_gap_256"
    state, backbone = state_of(network=name, image=image), build(name, VIT_OUTPUT="patches")
    grid = [image[0] // 8, image[1] // 8]
    backbone.load_ordinary(state)
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], [4, 2], grid, 4)
    torch.testing.assert_close(backbone.sequence.pos_embed.detach(), expected)


def test_positions_of_a_checkpoint_of_this_package_are_no_square():
    """8 x 2 patches, which could be 4 x 4; and 12 x 4, which are 7 x 7 with the class token.

    Oracle: timm's own function. The checkpoint is a start, or the weights of a model.
    """
    for image, grid in (((64, 16), [8, 2]), ((96, 32), [12, 4])):
        state = build(UNSHARED_STAGES=0, image=image).state_dict()
        own = build(UNSHARED_STAGES=0, image=(48, 16))  # 6 x 2
        held = {n[len("sequence.") :]: t for n, t in state.items() if n.startswith("sequence.")}
        expected = timm.layers.resample_abs_pos_embed(held["pos_embed"], [6, 2], grid)
        own.sequence.adapt_sizes(held)
        torch.testing.assert_close(held["pos_embed"], expected)
        own.load_ordinary(state)
        torch.testing.assert_close(own.sequence.pos_embed.detach(), expected)


def test_separate_stages_do_not_fill_shared_ones():
    state = build(UNSHARED_STAGES=2).state_dict()
    with pytest.raises(CheckpointError, match="its own visible.block1.* as in its training"):
        build(UNSHARED_STAGES=1).load_ordinary(state, "apart.pth")


def test_patches_as_rows_of_numbers_are_those_of_a_convolution(caplog):
    """The first files of ViT have a matrix there. Oracle: each patch, cut out and projected."""
    state = state_of()
    weight = state["patch_embed.proj.weight"]
    state["patch_embed.proj.weight"] = rows = torch.rand(32, 3 * 8 * 8)
    backbone = build()
    assert not backbone.load_ordinary(state).missing and rows.shape != weight.shape
    found = backbone.visible["embedding"](IMAGES)
    expected = IMAGES[:, :, :8, 8:16].flatten(1) @ rows.T + state["patch_embed.proj.bias"]
    torch.testing.assert_close(found[:, 0, 1], expected)


def test_a_norm_behind_the_average_comes_before_it():
    state = {n: t.float() for n, t in ordinary("vit_base_patch16_gap_224").state_dict().items()}
    assert "fc_norm.weight" in state or "norm.weight" in state
    state = {
        n.replace("norm.", "fc_norm.", 1) if n[:5] == "norm." else n: t for n, t in state.items()
    }
    backbone = build("vit_base_patch16_gap_224", VIT_OUTPUT="patches")
    assert not backbone.load_ordinary(state).missing
    assert torch.equal(backbone.shared["block2"].norm.weight, state["fc_norm.weight"])
    both = {**state, "norm.weight": torch.rand(32), "norm.bias": torch.rand(32)}
    backbone.load_ordinary(dict(sorted(both.items(), reverse=True)))  # fc_norm comes last
    assert torch.equal(backbone.shared["block2"].norm.weight, both["norm.weight"])


def test_what_is_missing_and_left_over_is_reported(caplog):
    state = state_of()
    del state["blocks.1.mlp.fc2.weight"]
    state["head.weight"] = torch.rand(3, 32)
    state["more.weight"] = torch.rand(3, 32)
    report = build().load_ordinary(state)
    assert report.missing == ("shared.block2.block.mlp.fc2.weight",)
    assert report.unexpected == ("head.weight", "more.weight")
    assert "Linear maps and convolutions are among them, such as more.weight" in caplog.text


REFUSED = {
    "depth": (
        lambda: state_of(depth=3),
        r"of 3 blocks, and .* has 2. MODEL.BACKBONE.TIMM_OPTIONS \"\['depth=3'\]\" makes",
    ),
    "width": (
        lambda: state_of(embed_dim=16),
        "start.pth holds a transformer of 16 channels, and this backbone has 32.*TIMM_NAME fit",
    ),
    "crossvit": (
        lambda: tiny_crossvit.ordinary().state_dict(),
        "holds a CrossViT, .*MODEL.BACKBONE.NAME build_crossvit_backbone",
    ),
    "patch": (lambda: {"conv1.weight": torch.rand(4, 3, 7, 7)}, "None of the 1 tensors"),
    "stem": (
        lambda: {**state_of(), "patch_embed.conv.0.weight": torch.rand(4, 3, 7, 7)},
        "ICS stem of TransReID-SSL",
    ),
    "mlp": (lambda: state_of(mlp_ratio=2), "lacks 6 of|another network: 4 linear maps"),
}


@pytest.mark.parametrize("state,message", REFUSED.values(), ids=REFUSED)
def test_the_file_of_another_network_is_refused(state, message):
    with pytest.raises(CheckpointError, match=message):
        build().load_ordinary(state(), "start.pth")


def test_weights_in_timms_cache_need_no_network(monkeypatch, tmp_path, caplog):
    from safetensors.torch import save_file

    name = "deit_tiny_patch16_224"  # timm reads the files of some others in a way of its own
    state = state_of(network=name, image=(64, 64))
    save_file(state, str(tmp_path / "model.safetensors"))
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache", lambda name, file: str(tmp_path / file)
    )
    options = [*vit_cfg().MODEL.BACKBONE.TIMM_OPTIONS, "img_size=64"]
    found = build(name, PRETRAIN=True, TIMM_OPTIONS=options)
    assert torch.equal(found.shared["block1"].block.norm1.weight, state["blocks.0.norm1.weight"])
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], [4, 2], [8, 8])
    torch.testing.assert_close(found.sequence.pos_embed.detach(), expected)
    assert "PIXEL_MEAN" not in caplog.text
    cfg = vit_cfg(name, PRETRAIN=True, TIMM_OPTIONS=options)
    cfg.MODEL.PIXEL_MEAN = [127.5] * 3
    fetch_vit(cfg)
    assert "were trained with MODEL.PIXEL_MEAN [123.675, 116.28, 103.53]" in caplog.text


def test_offline_the_file_and_the_key_are_named(monkeypatch):
    def no_address(*args):
        raise OSError(-2, "Name or service not known")

    module = "vireid_plugins.modeling.backbones.stages.timm_weights"
    monkeypatch.setattr(f"{module}.socket.getaddrinfo", no_address)
    monkeypatch.setattr(f"{module}.urllib.request.getproxies", dict)
    with pytest.raises(CheckpointError, match="huggingface.co/timm/vit_tiny.*PRETRAIN_PATH to it"):
        build(PRETRAIN=True)
