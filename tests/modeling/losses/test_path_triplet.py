"""The local triplet of CM-LSP-GE. Oracle: loops over anchors, rows and stripes from the formulas;
hand arithmetic. What holds for every loss: ``test_registered.py``."""

from typing import Callable, Dict, List

import pytest
import torch
from torch import Tensor

from vireid_plugins.modeling.layers import path_distances
from vireid_plugins.modeling.losses import PathTripletLoss

KINDS = [(d, m) for d in ("path", "stripes") for m in ("global", "local")]


def batch_of(make_batch: Callable, seed: int = 0, **options) -> Dict[str, Tensor]:
    tensors = make_batch(seed, **options)
    generator = torch.Generator().manual_seed(seed)
    rows = len(tensors["targets"])
    tensors["stripe_features"] = torch.randn(rows, 3, 4, generator=generator, dtype=torch.float64)
    return tensors


def evaluate(loss: PathTripletLoss, tensors: Dict[str, Tensor]) -> Tensor:
    return loss(*(tensors[name] for name in loss.inputs))


def by_loop(tensors: Dict[str, Tensor], distance: str, mining: str, margin: float) -> Tensor:
    """Mean over anchors; a term for the path, or one for each stripe, added."""
    x, y, features = (tensors[n] for n in ("stripe_features", "targets", "features"))
    paths = path_distances(x, x)  # by loops in layers/test_path_distance.py
    total: List[Tensor] = []
    for a in range(len(x)):
        same = [j for j in range(len(x)) if y[j] == y[a] and j != a]
        other = [j for j in range(len(x)) if y[j] != y[a]]
        if not same or not other:
            continue
        measures = [lambda i, j: paths[i, j]]
        if distance == "stripes":
            measures = [
                lambda i, j, r=r: ((x[i, r] - x[j, r]) ** 2).sum().sqrt() for r in range(x.shape[1])
            ]
        anchor = x.new_zeros(())
        for measure in measures:
            rank = measure
            if mining == "global":

                def rank(i: int, j: int) -> Tensor:
                    return ((features[i] - features[j]) ** 2).sum()

            p = max(same, key=lambda j: rank(a, j).item())
            n = min(other, key=lambda j: rank(a, j).item())
            anchor = anchor + (margin + measure(a, p) - measure(a, n)).clamp(min=0)
        total.append(anchor)
    return sum(total) / len(total)


@pytest.mark.parametrize("distance,mining", KINDS)
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_value_and_gradient_equal_the_loop(
    distance: str, mining: str, margin: float, make_batch: Callable
) -> None:
    loss = PathTripletLoss(margin, distance, mining)
    for seed in range(3):
        tensors = batch_of(make_batch, seed)
        tensors["targets"][0] = 77  # no other row of its identity: a negative only
        x = tensors["stripe_features"].requires_grad_()
        found, expected = evaluate(loss, tensors), by_loop(tensors, distance, mining, margin)
        torch.testing.assert_close(found, expected)
        assert found > 0
        torch.testing.assert_close(torch.autograd.grad(found, x), torch.autograd.grad(expected, x))


def test_the_four_kinds_differ(make_batch: Callable) -> None:
    tensors = batch_of(make_batch)
    values = [float(evaluate(PathTripletLoss(0.3, *kind), tensors)) for kind in KINDS]
    assert len({round(value, 6) for value in values}) == 4


def test_by_hand() -> None:
    """One stripe, Euclidean: positives at 5, negatives at 1 and 4: 0.3 + 5 - 1, 0.3 + 5 - 4, and
    the third row has no positive."""
    x = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]], [[1.0, 0.0]]])
    y = torch.tensor([0, 0, 1])
    to_third = (x[1, 0] - x[2, 0]).norm()
    expected = ((0.3 + 5 - 1) + (0.3 + 5 - to_third)) / 2
    torch.testing.assert_close(PathTripletLoss(0.3, "stripes", "local")(x, y), expected)


def test_the_global_features_only_choose(make_batch: Callable) -> None:
    """They get no gradient, and a permutation of what they say changes the rows chosen."""
    tensors = batch_of(make_batch, 1)
    features = tensors["features"].requires_grad_()
    x = tensors["stripe_features"].requires_grad_()
    value = PathTripletLoss()(x, tensors["targets"], features)
    value.backward()
    assert features.grad is None and x.grad.abs().sum() > 0
    other = PathTripletLoss()(x, tensors["targets"], features.roll(1, 0))
    assert other != value


@pytest.mark.parametrize("distance,mining", KINDS)
def test_order_means_nothing_also_with_equal_rows(
    distance: str, mining: str, make_batch: Callable
) -> None:
    """Rows with one global feature but other stripes tie: all of them count, in equal parts."""
    tensors = batch_of(make_batch, 2)
    twice = {n: torch.cat([v, v[:3]]) for n, v in tensors.items()}
    twice["stripe_features"] = torch.cat(
        [tensors["stripe_features"], tensors["stripe_features"][:3].flip(1)]
    )
    order = torch.randperm(len(twice["targets"]))
    results = []
    for rows in (torch.arange(len(order)), order):
        x = twice["stripe_features"][rows].requires_grad_()
        given = {**{n: v[rows] for n, v in twice.items()}, "stripe_features": x}
        value = evaluate(PathTripletLoss(0.3, distance, mining), given)
        results.append((value.detach(), torch.autograd.grad(value, x)[0]))
    torch.testing.assert_close(results[1][0], results[0][0])
    torch.testing.assert_close(results[1][1], results[0][1][order])


def test_ties_share_their_place() -> None:
    """Two positives at one global distance: the mean of both path distances."""
    x = torch.randn(4, 2, 5, dtype=torch.float64)
    y = torch.tensor([0, 0, 0, 1])
    features = torch.tensor([[0.0], [1.0], [1.0], [5.0]])
    s = path_distances(x, x)
    first = 100 + (s[0, 1] + s[0, 2]) / 2 - s[0, 3]
    second, third = 100 + s[1, 0] - s[1, 3], 100 + s[2, 0] - s[2, 3]
    torch.testing.assert_close(PathTripletLoss(100.0)(x, y, features), (first + second + third) / 3)


def test_the_sum_over_channels_is_the_mean_times_their_number(make_batch: Callable) -> None:
    tensors = batch_of(make_batch)
    small = evaluate(PathTripletLoss(0.25), tensors)
    large = evaluate(PathTripletLoss(1.0, reduction="sum"), tensors)
    torch.testing.assert_close(large, 4 * small)


@pytest.mark.parametrize("distance,mining", KINDS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("rows_of_each", [2, 8])
def test_a_broken_image_is_reported(distance, mining, bad, rows_of_each, make_batch) -> None:
    """One row without numbers, as of a diverged model: not a number that looks like a loss."""
    y = torch.arange(4).repeat_interleave(rows_of_each)
    x, features = torch.randn(len(y), 3, 4), torch.randn(len(y), 5)
    x[1], features[1] = bad, bad
    value = PathTripletLoss(distance=distance, mining=mining)(x, y, features)
    assert value.shape == () and not value.isfinite()


def test_wrong_words_and_shapes_are_named(make_batch: Callable) -> None:
    tensors = batch_of(make_batch)
    x, y, features = (tensors[n] for n in PathTripletLoss.inputs)
    for name in ("distance", "mining", "reduction"):
        with pytest.raises(ValueError, match=f"{name} is 'best'; expected '.*' or '"):
            PathTripletLoss(**{name: "best"})
    with pytest.raises(ValueError, match=r"\(B, R, S\)"):
        PathTripletLoss()(x[:, 0], y, features)
    for wrong in (None, features[:-1]):
        with pytest.raises(ValueError, match="MINING 'local'"):
            PathTripletLoss()(x, y, wrong)
