"""How BNNeckHead begins and pools, against values of the public code.

The values were printed by mangye16/Cross-Modal-Re-ID-baseline, ``model.py`` (``embed_net``), run
with PyTorch 2.13.
"""

import pytest
import torch
from torch import nn

from vireid_plugins.config import add_vireid_config
from vireid_plugins.errors import UserError
from vireid_plugins.modeling.heads import BNNeckHead, build_head

from fastreid.config import get_cfg
from fastreid.modeling.heads import EmbeddingHead

GEM = "GeneralizedMeanPooling"


def config(*pairs):
    cfg = get_cfg()
    add_vireid_config(cfg)
    words = "MODEL.HEADS.NAME BNNeckHead MODEL.HEADS.NUM_CLASSES 400 MODEL.BACKBONE.FEAT_DIM 300 "
    words += "MODEL.HEADS.WITH_BNNECK True"
    cfg.merge_from_list([*words.split(), *pairs])
    return cfg


def head(*pairs):
    torch.manual_seed(0)
    return build_head(config(*pairs))


def test_by_default_it_begins_as_the_head_of_fastreid():
    cfg = config()
    torch.manual_seed(0)
    expected = EmbeddingHead(cfg).state_dict()
    found = head().state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("embedding", [0, 200])
def test_the_public_code_draws_classifier_and_batch_norm(embedding):
    keys = ["MODEL.HEADS.CLASSIFIER_STD", 0.001, "MODEL.HEADS.NECK_STD", 0.01]
    made = head(*keys, "MODEL.HEADS.EMBEDDING_DIM", embedding)
    norm = made.bottleneck[-1]
    assert made.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert abs(made.weight.mean().item()) < 1e-5
    assert norm.weight.std().item() == pytest.approx(0.01, rel=0.15)
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.002)
    assert not norm.bias.any() and not norm.bias.requires_grad
    if embedding:  # the convolution keeps its own rule, Kaiming's for its outputs
        assert made.bottleneck[0].weight.std().item() == pytest.approx((2 / 200) ** 0.5, rel=0.02)


@pytest.mark.parametrize("gem_eps, dead", [("activation", 1e-6), ("mean", 1e-4)])
@pytest.mark.parametrize("layer", [GEM, "GeneralizedMeanPoolingP"])
def test_what_keeps_the_generalized_mean_above_zero(layer, gem_eps, dead):
    made = head("MODEL.HEADS.POOL_LAYER", layer, "MODEL.HEADS.GEM_EPS", gem_eps).double()
    rows = [[0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 1e-3], [0.5, 0, 0, 0]]
    feature_map = torch.tensor(rows, dtype=torch.float64).view(1, 4, 2, 2)
    pooled = made.pool(feature_map).flatten().tolist()
    public = [1e-4, 2.9240177382129047, 0.000630799354866327, 0.3149802624770781]
    assert pooled[0] == pytest.approx(dead, rel=1e-12)
    tolerance = 1e-14 if gem_eps == "mean" else 2e-3
    assert pooled[1:] == pytest.approx(public[1:], rel=tolerance)


@pytest.mark.parametrize("gem_eps", ["activation", "mean"])
@pytest.mark.parametrize("layer", [GEM, GEM + "P"])
@pytest.mark.parametrize("exponent", [1.0, 6.0, 10.0])
def test_the_exponent_of_the_generalized_mean(exponent, layer, gem_eps):
    """The formula, channel by channel, and gradients where some activations are near 0."""
    opts = ["MODEL.HEADS.GEM_EPS", gem_eps, "MODEL.HEADS.GEM_EXPONENT", exponent]
    pool = head("MODEL.HEADS.POOL_LAYER", layer, *opts).pool_layer
    rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1e-5, 0.0], [0.5, 0.0, 0.0, 0.2]])
    feature_map = rows.view(1, 3, 2, 2).requires_grad_()
    pooled = pool(feature_map)
    for place in (0, 2):
        mean = sum(v**exponent for v in rows[place].tolist()) / 4
        assert pooled[0, place].item() == pytest.approx(mean ** (1 / exponent), rel=1e-3)
    pooled.sum().backward()
    gradients = [feature_map.grad, *(p.grad for p in pool.parameters())]
    assert all(one.isfinite().all() for one in gradients)
    assert len(gradients) == 1 + (layer != GEM)  # the exponent is learned, or is no parameter


def test_an_exponent_needs_a_pooling_that_has_one():
    with pytest.raises(UserError, match="GEM_EXPONENT is 10, and .* GlobalAvgPool has no exponent"):
        head("MODEL.HEADS.GEM_EXPONENT", 10.0)
    with pytest.raises(UserError, match="MODEL.HEADS.GEM_EXPONENT is 0"):
        head("MODEL.HEADS.GEM_EXPONENT", 0.0)


def test_negative_activations_count_as_zero():
    made = head("MODEL.HEADS.POOL_LAYER", GEM, "MODEL.HEADS.GEM_EPS", "mean").double()
    feature_map = torch.tensor([[-3.0, 2.0], [-1.0, 0.0]], dtype=torch.float64)
    feature_map = feature_map.view(1, 2, 1, 2).requires_grad_()
    pooled = made.pool(feature_map)
    assert pooled.flatten().tolist() == pytest.approx([4 ** (1 / 3), 1e-4], rel=1e-9)
    pooled.sum().backward()
    assert feature_map.grad.isfinite().all() and not feature_map.grad[0, 1].any()


def test_names_of_the_weights_do_not_depend_on_it():
    names = [
        set(head("MODEL.HEADS.POOL_LAYER", GEM + "P", "MODEL.HEADS.GEM_EPS", word).state_dict())
        for word in ("activation", "mean")
    ]
    assert names[0] == names[1] >= {"pool_layer.p", "weight"}


@pytest.mark.parametrize("key, value", [("CLASSIFIER_STD", 0.001), ("GEM_EPS", "mean")])
@pytest.mark.parametrize("name", ["EmbeddingHead", "StripeHead"])
def test_a_head_that_does_not_read_them_says_so(name, key, value):
    cfg = config("MODEL.HEADS.NAME", name, f"MODEL.HEADS.{key}", value)
    with pytest.raises(
        UserError, match=f"{name} does not read MODEL.HEADS.{key} {value}; only BNNeck"
    ):
        build_head(cfg)


def test_bad_values_name_the_key():
    with pytest.raises(UserError, match="MODEL.HEADS.CLASSIFIER_STD is 0"):
        head("MODEL.HEADS.CLASSIFIER_STD", 0.0)
    with pytest.raises(UserError, match="MODEL.HEADS.GEM_EPS is 'max'; expected 'activation' or"):
        head("MODEL.HEADS.GEM_EPS", "max")


def test_a_subclass_of_the_head_has_them_too():
    made = head("MODEL.HEADS.NAME", "MRDAHead", "MODEL.HEADS.NECK_STD", 0.01)
    assert isinstance(made, BNNeckHead) and isinstance(made.bottleneck[0], nn.BatchNorm2d)
    assert made.bottleneck[0].weight.std() > 0.005
