"""timm's own download of weights, up to the call that reaches the Hugging Face Hub.

Oracle: the tensors of a file that stands for the one on the Hub.
"""

import pytest
import torch

from vireid_plugins.errors import CheckpointError

timm = pytest.importorskip("timm", reason="timm is not installed: pip install timm")
pytest.importorskip("huggingface_hub")

from tests.modeling import test_timm, tiny_crossvit, tiny_vit  # noqa: E402
from tests.modeling.tiny_timm import CONVNEXT  # noqa: E402

VIT = "deit_tiny_patch16_224"
WEIGHTS = "vireid_plugins.modeling.backbones.stages.timm_weights"


@pytest.fixture
def hub(monkeypatch):
    """An empty cache, a host with an address, and a download that ``answer`` does."""
    asked = []

    def download(repo_id, filename, **options):
        asked.append((repo_id, filename))
        return hub_of_tests.answer(filename)

    def hub_of_tests(answer):
        hub_of_tests.answer = answer
        return asked

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: None)
    monkeypatch.setattr(f"{WEIGHTS}.socket.getaddrinfo", lambda *address: [])
    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    return hub_of_tests


def written(state, folder):
    from safetensors.torch import save_file

    save_file(state, str(folder / "model.safetensors"))
    return lambda name: str(folder / name)


def test_a_convolutional_network_is_fetched_once_and_fills_both_streams(hub, tmp_path):
    state = timm.create_model(CONVNEXT, num_classes=0).state_dict()
    asked = hub(written(state, tmp_path))
    found = test_timm.build(CONVNEXT, PRETRAIN=True)
    drawn = torch.rand(3)
    assert asked == [("nobody/tiny", "model.safetensors")]
    for stream in (found.visible, found.infrared):
        weight = stream["stem"].state_dict()["0.stem.0.weight"]
        assert torch.equal(weight, state["stem.0.weight"])
    test_timm.build(CONVNEXT)
    assert torch.equal(torch.rand(3), drawn)  # the download draws no number


def test_a_transformer_is_fetched_and_its_positions_are_resized(hub, tmp_path):
    state = {n: t.float() for n, t in tiny_vit.ordinary(VIT, (64, 64)).state_dict().items()}
    asked = hub(written(state, tmp_path))
    options = [*tiny_vit.vit_cfg().MODEL.BACKBONE.TIMM_OPTIONS, "img_size=64"]
    found = tiny_vit.build(VIT, PRETRAIN=True, TIMM_OPTIONS=options)
    assert asked == [("timm/deit_tiny_patch16_224.fb_in1k", "model.safetensors")]
    assert torch.equal(
        found.shared["block2"].block.attn.qkv.weight, state["blocks.1.attn.qkv.weight"]
    )
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], [4, 2], [8, 8])
    torch.testing.assert_close(found.sequence.pos_embed.detach(), expected)


FAILURES = {
    "the network is gone": (ConnectionError("Connection aborted.\nRemote end closed"), "aborted"),
    "a slow network": (TimeoutError("The read operation timed out"), "timed out"),
    "no place on the disk": (OSError(28, "No space left on device"), "No space left"),
    "HF_HUB_OFFLINE": (ValueError("Outgoing traffic has been disabled.\nTo enable"), "disabled"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_download_that_fails_is_one_line_that_names_the_key(case, hub):
    error, words = FAILURES[case]

    def fail(name):
        raise error

    hub(fail)
    with pytest.raises(CheckpointError) as found:
        test_timm.build(CONVNEXT, PRETRAIN=True)
    said = str(found.value)
    assert "\n" not in said and words in said
    assert "from https://huggingface.co/nobody/tiny. " in said
    assert said.endswith("to use a file of yours, set MODEL.BACKBONE.PRETRAIN_PATH to it.")


def test_half_of_a_file_is_no_start(hub, tmp_path):
    answer = written(timm.create_model(CONVNEXT, num_classes=0).state_dict(), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    hub(answer)
    with pytest.raises(CheckpointError, match="could not be fetched .*PRETRAIN_PATH to it"):
        test_timm.build(CONVNEXT, PRETRAIN=True)


def test_a_crossvit_is_fetched(hub, tmp_path):
    """timm's own file has heads, which stay outside, and square positions."""
    options = {"depth": tiny_crossvit.DEPTH, "embed_dim": tiny_crossvit.DIMS}
    state = timm.create_model("crossvit_tiny_240", **options, num_heads=tiny_crossvit.HEADS)
    state = state.state_dict()
    asked = hub(written(state, tmp_path))
    found = tiny_crossvit.build(PRETRAIN=True)
    assert asked == [("timm/crossvit_tiny_240.in1k", "model.safetensors")]
    weight = found.state_dict()["shared.block1.block.fusion.0.attn.wq.weight"]
    assert torch.equal(weight, state["blocks.0.fusion.0.attn.wq.weight"])
