"""Attention roll-out. Oracles: the recursion by loops over a vision transformer's own numbers."""

import numpy as np
import pytest
import torch
from torch import nn

from vireid_plugins.errors import PlotError
from vireid_plugins.plots.rollout import attention_rollout, find_transformer, rollout_map

from fastreid.modeling.backbones.vision_transformer import VisionTransformer


class Seeing(nn.Module):
    """FastReID's vision transformer, 4 x 2 patches, two layers of two heads."""

    def __init__(self):
        super().__init__()
        self.backbone = VisionTransformer(
            img_size=(32, 16), patch_size=8, stride_size=8, embed_dim=12, depth=2, num_heads=2
        )

    def forward(self, batch):
        return self.backbone(batch["images"])[..., 0, 0]


def attention_of(block, tokens):
    """Softmax of one layer, (B, heads, T, T), as its equations say."""
    rows, count, width = tokens.shape
    heads = block.attn.num_heads
    query, key, _ = (
        block.attn.qkv(block.norm1(tokens))
        .reshape(rows, count, 3, heads, width // heads)
        .permute(2, 0, 3, 1, 4)
    )
    return ((query @ key.transpose(-2, -1)) * block.attn.scale).softmax(dim=-1)


def test_equals_the_recursion_by_loops():
    model, batch = Seeing(), {"images": torch.rand(3, 3, 32, 16)}
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    found = rollout_map(model, batch)
    transformer = model.backbone.eval()
    with torch.no_grad():
        tokens = (
            torch.cat(
                [transformer.cls_token.expand(3, -1, -1), transformer.patch_embed(batch["images"])],
                1,
            )
            + transformer.pos_embed
        )
        flow = np.stack([np.eye(9)] * 3)
        for block in transformer.blocks:
            attention = attention_of(block, tokens).mean(1).numpy()
            for row in range(3):
                flow[row] = (0.5 * attention[row] + 0.5 * np.eye(9)) @ flow[row]
            tokens = block(tokens)
    assert found.maps.shape == (3, 4, 2) and np.isnan(found.scores).all()
    np.testing.assert_allclose(found.maps.reshape(3, 8), flow[:, 0, 1:], rtol=1e-4)
    assert found.maps.std() > 1e-3
    assert model.training  # as it was


def test_attention_to_one_patch_arrives_at_that_patch():
    attention = torch.eye(5).repeat(1, 2, 1, 1)
    attention[0, :, 0] = torch.tensor([0.0, 0, 0, 1, 0])  # the output token looks at token 3
    flow = attention_rollout([attention, attention])
    torch.testing.assert_close(flow.sum(dim=2), torch.ones(1, 5))
    torch.testing.assert_close(flow[0, 0], torch.tensor([0.25, 0, 0, 0.75, 0]))


def test_a_transformer_that_attends_to_all_alike_is_flat():
    model = Seeing()
    for block in model.backbone.blocks:
        nn.init.zeros_(block.attn.qkv.weight)
    maps = rollout_map(model, {"images": torch.rand(2, 3, 32, 16)}).maps
    np.testing.assert_allclose(maps, maps[0, 0, 0], rtol=1e-5)


def test_a_network_without_a_transformer_is_refused():
    assert find_transformer(nn.Linear(2, 2)) is None
    with pytest.raises(PlotError, match="Linear has no transformer.*VisionTransformer"):
        rollout_map(nn.Linear(2, 2), {})


@pytest.mark.parametrize("unshared", [1, 2, 3])
def test_both_streams_are_read_in_the_order_of_the_batch(unshared):
    """Oracle: timm's network with the weights of each image's own stream, one image at a time."""
    tiny = pytest.importorskip("tests.modeling.tiny_vit")
    model = nn.Module()
    model.backbone = tiny.build(UNSHARED_STAGES=unshared, STRIDE_SIZE=(4, 8)).eval()
    for parameter in model.backbone.parameters():
        nn.init.normal_(parameter, std=0.3)
    model.forward = lambda batch: model.backbone(batch["images"], batch["modalities"])
    modalities = torch.tensor([1, 0, 0, 1, 1])
    batch = {"images": torch.rand(5, 3, *tiny.IMAGE), "modalities": modalities}
    fused = [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")]
    found = rollout_map(model, batch).maps
    assert found.shape == (5, 7, 2) and find_transformer(model).module is model.backbone
    for row, modality in enumerate(modalities.tolist()):
        image = batch["images"][row : row + 1]
        tokens = model.backbone.forward_stages(image, modalities[row : row + 1], ("embedding",))
        flow = torch.eye(15)
        for stage in model.backbone.stages[1:]:
            streams = model.backbone.streams_of(stage)
            stream = streams[modality] if len(streams) == 2 else streams[0]
            block = getattr(model.backbone, stream)[stage].block
            flow = (attention_of(block, tokens)[0].mean(0) + torch.eye(15)) / 2 @ flow
            tokens = block(tokens)
        np.testing.assert_allclose(found[row].reshape(-1), flow[0, 1:].detach(), rtol=1e-4)
    assert fused == [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")]  # as before
