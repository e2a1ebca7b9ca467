"""Activation checkpointing. Oracle: the same model without it, bitwise."""

import pytest
import torch

import vireid_plugins  # noqa: F401
from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.modeling.checkpointing import checkpoint_parts, recomputed

from tests.engine.small import small_cfg
from tests.modeling.test_meta_arch import (
    CONFIGS,
    has_frozen_network,
    make_batch,
    make_model,
    make_views,
    settings,
)

METHODS = [config for config in CONFIGS if config.endswith("/synthetic.yml")]
NON_LOCAL = [
    "MODEL.BACKBONE.WITH_NL",
    "True",
    "MODEL.BACKBONE.NL_BLOCKS",
    "[0, 1, 1, 0]",
    "MODEL.BACKBONE.UNSHARED_STAGES",
    "3",
    "MODEL.BACKBONE.WITH_IBN",
    "True",
]


def pair(config, *opts):
    """The same model, plain and checkpointed."""
    plain, checkpointed = make_model(config, *opts), make_model(config, *opts)
    checkpoint_parts(checkpointed)
    return plain.train(), checkpointed.train()


def trained_on(model, batch, dtype=None):
    """Loss terms and gradients of one pass, with its changes of buffers."""
    torch.manual_seed(3)
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        terms = model(batch)
    sum(terms.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return terms, gradients, dict(model.named_buffers())


def assert_same(plain, checkpointed):
    for a, b in zip(plain, checkpointed):
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert (value is None) == (b[name] is None), name
            assert value is None or torch.equal(value, b[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("config", METHODS)
def test_losses_gradients_and_statistics_are_the_same(config):
    batch, models = make_views(config, make_batch()), pair(config)
    plain, checkpointed = (trained_on(model, batch) for model in models)
    assert_same(plain, checkpointed)
    network = models[0].backbone
    counts = {int(b) for n, b in network.named_buffers() if n.endswith("num_batches_tracked")}
    # of images, then of masked ones; to judge, to generate, of what was made, and both with holes
    passes = {"RBNet": 2, "HiCMD": 5}.get(type(models[0]).__name__, 1)
    expected = {0} if has_frozen_network(models[0]) else {passes}
    assert counts == (set() if settings(config).MODEL.BACKBONE.TIMM_NAME else expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "depth,norm,dtype",
    [("18x", "GhostBN", None), ("50x", "BN", None), ("18x", "syncBN", torch.bfloat16)],
)
def test_depths_norms_precisions_and_non_local_blocks(depth, norm, dtype):
    if norm == "syncBN" and torch.__version__.startswith("1."):
        pytest.skip("PyTorch 1 has no synchronized batch norm on the CPU")
    opts = ["MODEL.BACKBONE.DEPTH", depth, "MODEL.BACKBONE.NORM", norm, *NON_LOCAL]
    batch = make_batch((64, 32))
    models = pair("configs/agw/synthetic.yml", *opts)
    assert_same(*(trained_on(model, batch, dtype) for model in models))


def saved_bytes(model, batch):
    """Of the distinct tensors that the graph of one pass keeps."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else None
        key = storage.data_ptr() if storage is not None else tensor.storage().data_ptr()
        kept[key] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        terms = model(batch)
        total = sum(kept.values())
    assert terms
    return total


def test_less_is_kept():
    batch = make_batch((96, 48))
    plain, checkpointed = pair("configs/baseline/synthetic.yml")
    assert saved_bytes(checkpointed, batch) < 0.5 * saved_bytes(plain, batch)


def test_dropout_draws_the_same_twice():
    drop, weight = torch.nn.Dropout(0.5), torch.ones(100, requires_grad=True)
    inputs = torch.rand(100)

    def part(x):
        return drop(x * weight)

    out = recomputed(part, drop, inputs)
    out.sum().backward()
    assert torch.equal(weight.grad != 0, out != 0)


def test_without_gradients_nothing_is_computed_twice():
    calls = []
    with torch.no_grad():
        recomputed(lambda x: calls.append(x) or x, torch.nn.Identity(), torch.ones(1))
    assert len(calls) == 1


def test_the_key_reaches_the_backbone(datasets, tmp_path):
    for value in (True, False):
        cfg = small_cfg(tmp_path, MODEL__BACKBONE__CHECKPOINT_ACTIVATIONS=value)
        backbone = VIReIDTrainer(cfg).model.backbone
        marked = [m.checkpointed for m in backbone.modules() if hasattr(m, "checkpointed")]
        assert marked == [value] * 6  # two stems, four layers


def test_a_backbone_that_cannot_be_checkpointed_is_named(datasets, tmp_path):
    cfg = small_cfg(
        tmp_path,
        MODEL__BACKBONE__CHECKPOINT_ACTIVATIONS=True,
        MODEL__BACKBONE__NAME="build_resnet_backbone",
    )
    with pytest.raises(ValueError, match="CHECKPOINT_ACTIVATIONS.*build_resnet_backbone is not"):
        VIReIDTrainer(cfg)


@pytest.mark.slow
def test_training_with_checkpoints_is_bitwise_the_plain_one(datasets, tmp_path):
    weights = []
    for value in (False, True):
        cfg = small_cfg(
            tmp_path / str(value),
            SOLVER__MAX_EPOCH=1,
            MODEL__BACKBONE__CHECKPOINT_ACTIVATIONS=value,
        )
        trainer = VIReIDTrainer(cfg)
        trainer.train()
        weights.append(trainer.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
