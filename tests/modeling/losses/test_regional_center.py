"""MRDA's regional center loss.

Oracles: Eq. 7 as loops over images and over pairs of images; arithmetic by hand.
"""

import itertools
import math

import pytest
import torch

from vireid_plugins.modeling.losses import RegionalCenterLoss


def gap(a, b):
    """Euclidean distance of two maps, element by element."""
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a.flatten().tolist(), b.flatten().tolist())))


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def by_loops(original, masked, targets, modalities, cross="original"):
    """Means over visible images, infrared images, and cross-modality pairs of one identity."""
    rows = range(len(original))
    visible, infrared = ([i for i in rows if modalities[i] == m] for m in (0, 1))
    compared = original if cross == "original" else masked
    return (
        mean(gap(original[i], masked[i]) for i in visible)
        + mean(gap(original[i], masked[i]) for i in infrared)
        + mean(
            gap(compared[i], compared[j])
            for i, j in itertools.product(visible, infrared)
            if targets[i] == targets[j]
        )
    )


def shallow_maps(seed, rows=9, views=2):
    generator = torch.Generator().manual_seed(seed)
    normal = {"generator": generator, "dtype": torch.float64}
    maps = [torch.randn(rows, 3, 4, 2, **normal) for _ in range(views)]
    targets = torch.randint(0, 3, (rows,), generator=generator)
    modalities = torch.randint(0, 2, (rows,), generator=generator)
    return maps, targets, modalities


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cross", ["original", "masked"])
@pytest.mark.parametrize("per_element", [True, False])
def test_equals_loops_over_images_and_pairs(seed, cross, per_element):
    (original, masked), targets, modalities = shallow_maps(seed)
    expected = by_loops(original, masked, targets, modalities, cross)
    if per_element:
        expected /= math.sqrt(3 * 4 * 2)
    loss = RegionalCenterLoss(cross_term=cross, per_element=per_element)
    assert float(loss(original, targets, modalities, masked)) == pytest.approx(expected, rel=1e-12)


def test_by_hand():
    """Maps of 4 equal elements, so the distance per element is the difference of the numbers."""
    original = torch.tensor([1.0, 2.0, 5.0])[:, None, None, None].expand(3, 1, 2, 2)
    masked = torch.tensor([0.5, 1.0, 5.0])[:, None, None, None].expand(3, 1, 2, 2)
    targets, modalities = torch.tensor([7, 7, 7]), torch.tensor([0, 0, 1])
    # visible (0.5 + 1) / 2, infrared 0, pairs (|1 - 5| + |2 - 5|) / 2
    loss = RegionalCenterLoss()
    assert float(loss(original, targets, modalities, masked)) == pytest.approx(0.75 + 0 + 3.5)
    # by sqrt(4) = 2 larger as printed
    raw = RegionalCenterLoss(per_element=False)
    assert float(raw(original, targets, modalities, masked)) == pytest.approx(2 * 4.25)


def test_the_background_is_pushed_to_its_margin():
    (original, masked, background), targets, modalities = shallow_maps(5, views=3)
    plain = float(RegionalCenterLoss()(original, targets, modalities, masked))
    loss = RegionalCenterLoss(background_scale=2.0, background_margin=1.5)
    assert loss.inputs[-1] == "background_map"
    hinges = [max(0.0, 1.5 - gap(a, b) / math.sqrt(24)) for a, b in zip(original, background)]
    found = float(loss(original, targets, modalities, masked, background))
    assert found == pytest.approx(plain + 2.0 * mean(hinges), rel=1e-12)
    far = original + 100
    assert float(loss(original, targets, modalities, masked, far)) == pytest.approx(plain)


def test_equal_views_give_zero_with_a_finite_gradient():
    (original, _), _, modalities = shallow_maps(6)
    original.requires_grad_()
    loss = RegionalCenterLoss()(original, torch.arange(9), modalities, original.detach())
    loss.backward()
    assert float(loss.detach()) == 0 and torch.equal(original.grad, torch.zeros_like(original))


@pytest.mark.parametrize("cross", ["original", "masked"])
def test_gradient_reaches_all_maps(cross):
    """Against finite differences."""
    maps, targets, modalities = shallow_maps(8, rows=4, views=3)
    loss = RegionalCenterLoss(cross_term=cross, background_scale=0.5, background_margin=2.0)
    maps = [m.requires_grad_() for m in maps]
    assert torch.autograd.gradcheck(lambda a, b, c: loss(a, targets, modalities, b, c), maps)
    value = loss(maps[0], targets, modalities, *maps[1:])
    assert all(g.abs().max() > 0 for g in torch.autograd.grad(value, maps))


def test_bad_arguments_are_named():
    (original, masked), targets, modalities = shallow_maps(7)
    with pytest.raises(ValueError, match="cross_term is 'body'; expected 'original' or 'masked'"):
        RegionalCenterLoss(cross_term="body")
    with pytest.raises(ValueError, match="background_scale is -1; expected 0 or more"):
        RegionalCenterLoss(background_scale=-1)
    with pytest.raises(ValueError, match="needs masked maps .* got None"):
        RegionalCenterLoss()(original, targets, modalities)
    with pytest.raises(ValueError, match=r"got \(8, 3, 4, 2\)"):
        RegionalCenterLoss()(original, targets, modalities, masked[:8])
    with pytest.raises(ValueError, match="needs background maps"):
        RegionalCenterLoss(background_scale=1.0)(original, targets, modalities, masked)
