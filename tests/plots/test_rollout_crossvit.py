"""Attention roll-out of CrossViT. Oracle: the recursion by loops over each image by itself."""

import numpy as np
import pytest
import torch
from torch import nn

from vireid_plugins.plots.rollout import find_transformer, rollout_map

from tests.plots.test_rollout import attention_of

tiny = pytest.importorskip("tests.modeling.tiny_crossvit", reason="timm is not installed")

FINE, COARSE = 17, 5  # tokens of each branch: 4 x 4 and 2 x 2 patches, and a class token


class Seeing(nn.Module):
    def __init__(self, unshared, depth=tiny.DEPTH):
        super().__init__()
        plain = tiny.ordinary(depth, spread=0.5).float()
        self.backbone = tiny.wrapped(plain, unshared_stages=unshared)
        for parameter in self.backbone.infrared.parameters():
            nn.init.normal_(parameter, std=0.5)

    def forward(self, batch):
        return self.backbone(batch["images"], batch["modalities"])[..., 0, 0]


def exchange_of(block, branch, own, other):
    """Where the class token of ``own`` (1, T, D) looks: itself, and the patches of ``other``."""
    fusion = block.fusion[branch]
    fusion = fusion[0] if isinstance(fusion, nn.Sequential) else fusion
    attention = fusion.attn
    tokens = fusion.norm1(torch.cat([block.projs[branch](own[:, :1]), other[:, 1:]], dim=1))[0]
    heads = attention.num_heads
    query = attention.wq(tokens[:1]).unflatten(1, (heads, -1)).transpose(0, 1)
    key = attention.wk(tokens).unflatten(1, (heads, -1)).transpose(0, 1)
    return (query @ key.transpose(1, 2) * attention.scale).softmax(-1).mean(0)[0].numpy()


def flow_of(backbone, image, modality):
    """Return what every token takes from each token of the input, (T, T), by loops."""
    sequences = list(backbone.forward_stages(image, modality, ("embedding",)))
    flow = np.eye(FINE + COARSE)
    rows = [range(0, FINE), range(FINE, FINE + COARSE)]
    for stage in backbone.stages[1:]:
        streams = backbone.streams_of(stage)
        stream = streams[int(modality)] if len(streams) == 2 else streams[0]
        block = getattr(backbone, stream)[stage].block
        for branch, encoders in enumerate(block.blocks):
            for encoder in encoders:
                attention = attention_of(encoder, sequences[branch])[0].mean(0).numpy()
                flow[rows[branch]] = (attention + np.eye(len(attention))) / 2 @ flow[rows[branch]]
                sequences[branch] = encoder(sequences[branch])
        before = flow.copy()
        for branch in range(2):
            token, patches = rows[branch][0], list(rows[1 - branch])[1:]
            weights = exchange_of(block, branch, sequences[branch], sequences[1 - branch])
            taken = weights[0] * before[token]
            for weight, patch in zip(weights[1:], patches):
                taken = taken + weight * before[patch]
            flow[token] = (before[token] + taken) / 2
        block.blocks = nn.ModuleList([nn.Identity(), nn.Identity()])  # they ran above
        sequences = list(block(sequences))
    return flow


@pytest.mark.parametrize("unshared, depth", [(0, tiny.DEPTH), (2, tiny.DEPTH), (1, ((1, 1, 1),))])
def test_equals_the_recursion_by_loops(unshared, depth):
    model = Seeing(unshared, depth)
    batch = {"images": torch.rand(3, 3, *tiny.IMAGE), "modalities": torch.tensor([1, 0, 1])}
    fused = [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")]
    found = rollout_map(model, batch).maps
    assert found.shape == (3, 4, 4) and find_transformer(model).module is model.backbone
    for row in range(3):
        with torch.no_grad():
            copied = Seeing(unshared, depth)
            copied.load_state_dict(model.state_dict())
            flow = flow_of(
                copied.backbone.eval(),
                batch["images"][row : row + 1],
                batch["modalities"][row : row + 1],
            )
        np.testing.assert_allclose(flow.sum(axis=1), 1, rtol=1e-5)
        taken = (flow[0] + flow[FINE]) / 2
        coarse = torch.from_numpy(taken[FINE + 1 :]).reshape(1, 1, 2, 2)
        spread = nn.functional.interpolate(coarse, size=(4, 4), mode="bilinear") / 4
        expected = taken[1:FINE].reshape(4, 4) + spread[0, 0].numpy()
        np.testing.assert_allclose(found[row], expected, rtol=1e-3, atol=1e-6)
        total = taken[1:FINE].sum() + taken[FINE + 1 :].sum()
        assert found[row].sum() == pytest.approx(total, rel=1e-3)  # nothing is lost by the resizing
    assert fused == [m.fused_attn for m in model.modules() if hasattr(m, "fused_attn")]  # as before
