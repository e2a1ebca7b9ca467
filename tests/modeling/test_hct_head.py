"""The head of HCT. Oracle: a loop over the stripes, written from its public code's description.

Its features with weights of the public code's format are compared in
``tests/engine/test_converting.py``.
"""

import pytest
import torch

from vireid_plugins.errors import SmallMapError, UserError
from vireid_plugins.modeling.heads import HCTHead, build_head

from fastreid.config import get_cfg


def made(exponent=3.0, stripes=3):
    torch.manual_seed(0)
    head = HCTHead(
        in_channels=8, num_classes=5, num_stripes=stripes, stripe_dim=4, exponent=exponent
    )
    return head.double()


@pytest.mark.parametrize("exponent", [1.0, 3.0, 10.0])
def test_features_and_logits_are_those_of_a_loop(exponent):
    head, maps = made(exponent).eval(), torch.rand(2, 8, 6, 3, dtype=torch.float64)
    features, logits = [], []
    for number in range(3):
        stripe = maps[:, :, 2 * number : 2 * number + 2].flatten(2)
        pooled = ((stripe**exponent).mean(dim=2) + 1e-12) ** (1 / exponent)
        embedded = head.stripes.embeddings[number](pooled[..., None, None])[..., 0, 0]
        assert bool((embedded >= 0).all())
        features.append(embedded)
        logits.append(head.stripes.classifiers[number](embedded))
    assert torch.allclose(head(maps), torch.cat(features, dim=1), atol=1e-12)
    assert head.feat_dim == 12
    assert torch.allclose(
        head.stripes.classify(head.stripes(maps, head.pool_layer)).mean(dim=1),
        sum(logits) / 3,
        atol=1e-12,
    )


def test_training_returns_features_and_the_mean_of_the_logits():
    head, maps = made().train(), torch.rand(4, 8, 6, 3, dtype=torch.float64, requires_grad=True)
    outputs = head(maps)
    assert tuple(outputs) == HCTHead.outputs
    assert outputs["features"].shape == (4, 12) and outputs["logits"].shape == (4, 5)
    stripes = outputs["features"].view(4, 3, 4)
    assert torch.allclose(outputs["logits"], head.stripes.classify(stripes).mean(dim=1))
    outputs["logits"].sum().backward()
    assert all(one.grad is not None for one in head.parameters())


def test_wrong_values_are_named():
    with pytest.raises(UserError, match="MODEL.HEADS.GEM_EXPONENT is 0"):
        made(exponent=0)
    with pytest.raises(SmallMapError, match="2 rows cannot be cut into 3"):
        made()(torch.rand(2, 8, 2, 3, dtype=torch.float64))
    cfg = get_cfg()
    cfg.MODEL.HEADS.NAME, cfg.MODEL.HEADS.GEM_EXPONENT = "EmbeddingHead", 10.0
    with pytest.raises(UserError, match="EmbeddingHead does not read MODEL.HEADS.GEM_EXPONENT 10"):
        build_head(cfg)
    cfg.MODEL.HEADS.WITH_BNNECK = True
    with pytest.raises(UserError, match="HCTHead has no batch norm before its classifiers"):
        HCTHead(cfg)
