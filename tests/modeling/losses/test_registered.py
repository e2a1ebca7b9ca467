"""What holds for every registered loss; a new loss is tested by being registered.

Oracles: the same batch in another order; finite differences; the same values given in float32;
zero where nothing can be compared.
"""

from typing import Callable, Dict, Tuple

import pytest
import torch
from torch import Tensor

import vireid_plugins as vp
from vireid_plugins.modeling.losses import LOSS_REGISTRY, Loss
from vireid_plugins.registry import registered_names

from fastreid.config import CfgNode, get_cfg

NAMES = registered_names(LOSS_REGISTRY)
OWN = [name for name in NAMES if not LOSS_REGISTRY.get(name).__module__.endswith(".host")]
# Losses that also say something about a single row.
BY_ROW = (
    "CenterLoss",
    "LabelSmoothingCrossEntropyLoss",
    "ModalityAwareCenterLoss",
    "ModalityAwareIdentityLoss",
    "RegionalCenterLoss",
)
# Losses of whole identities or pairs: without a pair they are zero.
PAIRED = [name for name in OWN if name not in BY_ROW]
# Paired losses that also compare images of one modality, so that one is enough.
ONE_MODALITY_IS_ENOUGH = (
    "CascadedAggregationLoss",
    "CrossModalityTripletLoss",
    "IntraModalityTripletLoss",
)
# The host detaches the circle loss's weights, so its gradient is none of its value.
DIFFERENTIABLE = [name for name in NAMES if name != "CircleLoss"]
DIM = 5


def default_cfg() -> CfgNode:
    cfg = get_cfg()
    vp.add_vireid_config(cfg)
    cfg.MODEL.HEADS.NUM_CLASSES = 6
    cfg.MODEL.BACKBONE.FEAT_DIM = DIM
    cfg.MODEL.LOSSES.MEAN_DISCREPANCY.FEATURE = "features"  # as the batches below have them
    return cfg


def build(name: str) -> Loss:
    return LOSS_REGISTRY.get(name).from_config(default_cfg()).double()


def evaluate(loss: Loss, tensors: Dict[str, Tensor]) -> Tuple[Tensor, Tensor]:
    """Value, and gradient with respect to the first input."""
    first = tensors[loss.inputs[0]].clone().requires_grad_()
    value = loss(first, *(tensors[name] for name in loss.inputs[1:]))
    (gradient,) = torch.autograd.grad(value, first)
    return value.detach(), gradient


def take(tensors: Dict[str, Tensor], rows: Tensor) -> Dict[str, Tensor]:
    return {name: values[rows] for name, values in tensors.items()}


@pytest.mark.parametrize("name", NAMES)
def test_declares_what_the_base_model_needs(name: str) -> None:
    loss = build(name)
    assert "loss" in loss.log_name
    assert loss.inputs[0] in ("features", "logits", "original_map", "stripe_features")
    assert loss.inputs[1] == "targets"


# Another word than the default, for each key that takes one.
OTHER_WORDS = {
    "CENTER": "per_modality",
    "CROSS_TERM": "masked",
    "DISPERSION": "literal",
    "DISTANCE": "stripes",
    "LEVEL": "image",
    "MINING": "local",
    "NORM": "row",
    "PATH_TRIPLET.REDUCTION": "sum",
    "HETERO_CENTER.REDUCTION": "sum",
    "WEIGHTED_TRIPLET.REDUCTION": "hinge",
    "CORRELATION.REDUCTION": "mse",
    "CORRELATION.FEATURE": "bn_features",
    "CASCADED_AGGREGATION.FEATURE": "bn_features",
    "MEAN_DISCREPANCY.FEATURE": "bn_features",
}
NODES = {LOSS_REGISTRY.get(name): LOSS_REGISTRY.get(name).config_node for name in OWN}


def settings_of(loss: Loss) -> Dict[str, object]:
    kinds = (bool, int, float, str, tuple, dict)
    return {n: v for n, v in vars(loss).items() if isinstance(v, kinds) and n[0] != "_"}


@pytest.mark.parametrize("kind", NODES, ids=lambda kind: kind.__name__)
def test_every_key_reaches_the_loss(kind: type) -> None:
    """Each key of the loss's node, set to another value, changes what is built."""
    cfg = default_cfg()
    plain = settings_of(kind.from_config(cfg))
    node = cfg.MODEL.LOSSES[NODES[kind]]
    for key, value in list(node.items()):
        names = (key, f"{NODES[kind]}.{key}")
        if key == "SCALE":  # LossTerms applies it
            continue
        if isinstance(value, str):
            (other,) = (OTHER_WORDS[name] for name in names if name in OTHER_WORDS)
        else:
            other = not value if isinstance(value, bool) else 0.7 * value + 0.31
        node[key] = other
        changed = settings_of(kind.from_config(cfg))
        node[key] = value
        assert changed != plain, f"{NODES[kind]}.{key} has no effect"


def test_log_names_are_distinct() -> None:
    assert len({LOSS_REGISTRY.get(name).log_name for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_order_of_rows_carries_no_meaning(name: str, seed: int, make_batch: Callable) -> None:
    loss, tensors = build(name), make_batch(seed)
    # a row drawn twice makes ties, whose gradient must not go to whichever comes first
    rows = torch.arange(len(tensors["targets"]))
    tensors = take(tensors, torch.cat([rows, rows[:2]]))
    order = torch.randperm(len(tensors["targets"]))
    value, gradient = evaluate(loss, tensors)
    shuffled_value, shuffled_gradient = evaluate(loss, take(tensors, order))
    torch.testing.assert_close(shuffled_value, value)
    torch.testing.assert_close(shuffled_gradient, gradient[order])
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_is_that_of_the_value(name: str, make_batch: Callable) -> None:
    loss, tensors = build(name), make_batch(7)
    first = tensors[loss.inputs[0]].requires_grad_()
    others = [tensors[key] for key in loss.inputs[1:]]
    assert torch.autograd.gradcheck(lambda x: loss(x, *others), first)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_half_precision_is_computed_in_float32(
    name: str, dtype: torch.dtype, scale: float, make_batch: Callable
) -> None:
    loss, tensors = build(name).float(), make_batch(3, dim=DIM, scale=scale)
    floating = [key for key in loss.inputs if tensors[key].is_floating_point()]
    tensors.update({key: tensors[key].to(dtype) for key in floating})
    raised = {**tensors, **{key: tensors[key].float() for key in floating}}
    expected, _ = evaluate(loss, raised)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = evaluate(loss, tensors)
    assert value.dtype == torch.float32 and torch.equal(value, expected)
    assert gradient.dtype == dtype and gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_large_features_stay_finite(name: str, make_batch: Callable) -> None:
    loss, tensors = build(name).float(), make_batch(4)
    tensors["features"] = tensors["features"].float() * 1e4
    tensors["logits"] = tensors["logits"].float() * 1e2
    value, gradient = evaluate(loss, tensors)
    assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_rows_have_a_finite_gradient(name: str, make_batch: Callable) -> None:
    loss, tensors = build(name), make_batch(5)
    tensors = {**tensors, "features": torch.ones_like(tensors["features"])}
    value, gradient = evaluate(loss, tensors)
    assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("modality", list(vp.Modality))
def test_a_batch_of_one_modality_works(
    name: str, modality: vp.Modality, make_batch: Callable
) -> None:
    loss, tensors = build(name), make_batch(6)
    value, gradient = evaluate(loss, take(tensors, tensors["modalities"] == modality))
    assert value.isfinite() and gradient.isfinite().all()
    needs_both = "modalities" in loss.inputs and name in PAIRED
    needs_both = needs_both and name not in ONE_MODALITY_IS_ENOUGH
    assert (gradient.abs().max() == 0) == needs_both


@pytest.mark.parametrize("name", NAMES)
def test_a_single_row_and_a_single_identity_work(name: str, make_batch: Callable) -> None:
    loss = build(name)
    for tensors in (make_batch(8, identities=1), take(make_batch(8), torch.tensor([0]))):
        value, gradient = evaluate(loss, tensors)
        assert value.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", PAIRED)
def test_without_a_pair_the_loss_is_a_zero_in_the_graph(name: str, make_batch: Callable) -> None:
    loss, tensors = build(name), make_batch(9)
    tensors["features"][0, 0] = torch.inf  # 0 * inf would be NaN
    for rows in (torch.tensor([0]), torch.tensor([], dtype=torch.int64)):
        value, gradient = evaluate(loss, take(tensors, rows))
        assert value == 0 and torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("name", BY_ROW)
def test_without_a_row_the_loss_is_a_zero(name: str, make_batch: Callable) -> None:
    value, _ = evaluate(build(name), take(make_batch(9), torch.tensor([], dtype=torch.int64)))
    assert value == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_is_not_mutated(name: str, make_batch: Callable) -> None:
    tensors = make_batch(10)
    before = {key: values.clone() for key, values in tensors.items()}
    evaluate(build(name), tensors)
    assert all(torch.equal(tensors[key], before[key]) for key in tensors)


@pytest.mark.parametrize("name", NAMES)
def test_rows_and_targets_must_match(name: str, make_batch: Callable) -> None:
    loss, tensors = build(name), make_batch(11)
    with pytest.raises(ValueError, match=rf"{name}.*\(B,\)"):
        loss(tensors[loss.inputs[0]], tensors["targets"][:-1], tensors["modalities"])
