"""Files of weights that a CrossViT starts from. Oracle: timm's own network with the same file."""

import re

import pytest
import torch

from vireid_plugins.errors import CheckpointError
from vireid_plugins.modeling.backbones.vit import resize_positions
from vireid_plugins.modeling.sizes import adapt_sizes

tiny = pytest.importorskip("tests.modeling.tiny_crossvit", reason="timm is not installed")

IMAGES, MODALITIES = torch.rand(2, 3, *tiny.IMAGE, dtype=torch.float64), torch.tensor([1, 0])


def of_ibm(name):
    return re.sub(r"^(pos_embed|cls_token)_", r"\1.", name)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize("named", [str, of_ibm], ids=["timm", "IBM"])
@pytest.mark.parametrize("unshared", [0, 2])
def test_a_file_fills_both_streams(named, prefix, unshared):
    plain = tiny.ordinary()
    state = {prefix + named(name): value for name, value in plain.state_dict().items()}
    state[prefix + "head.0.weight"] = torch.zeros(7, 8)  # of ImageNet's classes
    backbone = tiny.wrapped(tiny.ordinary(spread=0.1), unshared_stages=unshared)
    report = backbone.load_ordinary(state)
    assert not report.missing and [n for n in report.unexpected] == ["head.0.weight"]
    with torch.no_grad():
        found = backbone.forward_stages(IMAGES, MODALITIES, backbone.stages)
        expected = plain.forward_features(IMAGES)
    for one, other in zip(found, expected):  # rows of two streams run apart
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unshared", [0, 1, 3])
def test_a_network_trained_here_is_a_start_for_both_streams(unshared):
    trained = tiny.wrapped(tiny.ordinary())
    state = {f"backbone.{name}": value for name, value in trained.state_dict().items()}
    backbone = tiny.wrapped(tiny.ordinary(spread=0.1), unshared_stages=unshared)
    report = backbone.load_ordinary({**state, "heads.weight": torch.zeros(7, 20)})
    assert not report.missing and not report.unexpected
    with torch.no_grad():
        expected = trained(IMAGES, MODALITIES)
        torch.testing.assert_close(backbone(IMAGES, MODALITIES), expected, rtol=1e-12, atol=1e-12)


def test_positions_are_resized_to_the_grid_of_each_branch():
    plain = tiny.ordinary()
    backbone = tiny.wrapped(tiny.ordinary(spread=0.1), (96, 48), (1.0, 1.0))
    backbone.load_ordinary(plain.state_dict())
    for branch, (old, new) in enumerate((((4, 4), (8, 4)), ((2, 2), (6, 3)))):
        positions = getattr(plain, f"pos_embed_{branch}")
        found = backbone.sequences[branch].pos_embed
        assert torch.equal(found, resize_positions(positions, old, new))
        assert torch.equal(found[:, 0], positions[:, 0])


def test_files_of_other_networks_are_named():
    backbone = tiny.wrapped(tiny.ordinary())
    with pytest.raises(CheckpointError, match="a CrossViT of 1 blocks, and this backbone has 2"):
        backbone.load_ordinary(tiny.ordinary(((1, 2, 0),)).state_dict(), "own.pth")
    with pytest.raises(CheckpointError, match="own.pth holds no CrossViT"):
        backbone.load_ordinary({"blocks.0.attn.qkv.weight": torch.zeros(3, 3)}, "own.pth")
    state = {name: value[..., :3] for name, value in tiny.ordinary().state_dict().items()}
    with pytest.raises(CheckpointError, match="Does MODEL.BACKBONE.TIMM_NAME fit the file"):
        backbone.load_ordinary(state, "own.pth")


def test_the_builder_reads_the_file(tmp_path):
    first = tiny.build()
    names = [n for n in first.state_dict() if n.startswith("shared.block")]
    plain = tiny.timm.create_model(
        "crossvit_tiny_240",
        num_classes=0,
        depth=tiny.DEPTH,
        embed_dim=tiny.DIMS,
        num_heads=tiny.HEADS,
    )
    torch.save(plain.state_dict(), tmp_path / "start.pth")
    found = tiny.build(PRETRAIN=True, PRETRAIN_PATH=str(tmp_path / "start.pth"))
    own = found.state_dict()
    assert any((own[name] != first.state_dict()[name]).any() for name in names)
    for name, value in plain.blocks[1].state_dict().items():
        assert torch.equal(own[f"shared.block2.block.{name}"], value)


def test_a_checkpoint_of_images_of_another_size_is_adapted():
    """Positions of each branch, by the interpolation of the branch's own grids."""
    trained = tiny.wrapped(tiny.ordinary(), (96, 48), (1.0, 1.0))
    held = {f"backbone.{name}": one for name, one in trained.state_dict().items()}
    before = dict(held)
    other = torch.nn.Module()
    other.backbone = tiny.wrapped(tiny.ordinary(), (48, 24), (1.0, 1.0))
    adapt_sizes(other, held)
    changed = sorted(name for name in held if held[name] is not before[name])
    assert changed == [f"backbone.sequences.{branch}.pos_embed" for branch in range(2)]
    for name, old, new in zip(changed, ((8, 4), (6, 3)), ((4, 2), (3, 2))):
        assert torch.equal(held[name], resize_positions(before[name], old, new))
    other.load_state_dict(held)
