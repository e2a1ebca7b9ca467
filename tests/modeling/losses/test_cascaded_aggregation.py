"""Cascaded aggregation. Oracles: loops from Eq. (10)-(12) as printed, and arithmetic by hand."""

import math
from typing import Callable, Dict, List

import pytest
import torch
from torch import Tensor

from vireid_plugins.modeling.losses import CascadedAggregationLoss

LITERAL = {"normalise": False, "dispersion": "literal"}


def rows_of(batch: Dict[str, Tensor], **labels: int) -> List[int]:
    """Numbers of the rows that have all these labels."""
    rows = range(len(batch["targets"]))
    return [i for i in rows if all(int(batch[name][i]) == v for name, v in labels.items())]


def subclasses(batch: Dict[str, Tensor], target: int) -> List[List[int]]:
    """Rows of each sub-class of an identity."""
    own = rows_of(batch, targets=target)
    keys = sorted({(int(batch["modalities"][i]), int(batch["camids"][i])) for i in own})
    return [rows_of(batch, targets=target, modalities=m, camids=c) for m, c in keys]


def square(a: Tensor, b: Tensor) -> float:
    return float((a - b).pow(2).sum())


def by_loop(x: Tensor, batch: Dict[str, Tensor]) -> List[float]:
    """Eq. (10), (11), (12): sums over rows i = 1 .. N, as printed."""
    n, targets = len(x), batch["targets"].tolist()
    center = {t: x[rows_of(batch, targets=t)].mean(dim=0) for t in targets}
    sub = intra = inter = 0.0
    for i, target in enumerate(targets):
        for rows in subclasses(batch, target):
            if i in rows:
                sub += square(x[i], x[rows].mean(dim=0)) / n
            intra += square(x[rows].mean(dim=0), center[target]) / n
        for j in range(n):
            if j != i:
                inter -= square(center[target], center[targets[j]]) / (n * (n - 1) / 2)
    return [sub, intra, inter]


def call(loss: CascadedAggregationLoss, batch: Dict[str, Tensor]) -> List[float]:
    return [float(v) for v in loss.terms(*(batch[name] for name in loss.inputs))]


@pytest.mark.parametrize("seed", range(3))
def test_the_literal_form_equals_the_loop(seed: int, make_batch: Callable) -> None:
    batch = make_batch(seed)
    expected = by_loop(batch["features"], batch)
    assert min(expected[:2]) > 0 > expected[2]
    assert call(CascadedAggregationLoss(**LITERAL), batch) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_default_is_of_unit_features_and_bounded(seed: int, make_batch: Callable) -> None:
    """L_sub and L_intra by the same loop; L_inter by a loop over pairs of identities."""
    batch = make_batch(seed, scale=7.0)
    unit = torch.stack([x / x.norm() for x in batch["features"]])
    centers = [unit[rows_of(batch, targets=t)].mean(dim=0) for t in set(batch["targets"].tolist())]
    hinges = [
        max(0.0, 1.5 - float((a / a.norm() - b / b.norm()).norm())) ** 2
        for i, a in enumerate(centers)
        for b in centers[:i]
    ]
    assert 0 < sum(hinge > 0 for hinge in hinges)
    expected = [*by_loop(unit, batch)[:2], sum(hinges) / len(hinges)]
    assert call(CascadedAggregationLoss(margin=1.5), batch) == pytest.approx(expected)
    sum_of_terms = CascadedAggregationLoss(margin=1.5)(
        *(batch[name] for name in CascadedAggregationLoss.inputs)
    )
    assert float(sum_of_terms) == pytest.approx(sum(expected))


def by_hand() -> Dict[str, Tensor]:
    """Identity 0: (0, 0), (2, 0) by camera 1, (4, 0) by 2; identity 1: (2, 6) by camera 1."""
    return {
        "features": torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0], [2.0, 6.0]]),
        "targets": torch.tensor([0, 0, 0, 1]),
        "camids": torch.tensor([1, 1, 2, 1]),
        "modalities": torch.tensor([0, 0, 1, 0]),
    }


def test_the_feature_that_is_gathered_can_be_chosen() -> None:
    assert CascadedAggregationLoss().inputs[0] == "features"
    loss = CascadedAggregationLoss(feature="bn_features")
    assert loss.inputs == ("bn_features", "targets", "camids", "modalities")
    with pytest.raises(ValueError, match="feature is 'logits'; expected 'features' or 'bn_feat"):
        CascadedAggregationLoss(feature="logits")


def test_of_unit_features_the_printed_dispersion_is_bounded_and_the_bound_does_not_separate() -> (
    None
):
    """-4 B / (B - 1): reached by four identities in two opposite points, two in each."""
    points = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    batch = {
        "features": 7 * points,
        "targets": torch.tensor([0, 1, 2, 3]),
        "camids": torch.zeros(4),
        "modalities": torch.tensor([0, 1, 0, 1]),
    }
    # 8 of the 12 ordered pairs are 2 apart: -(8 * 4) / 6 = -16 / 3 = -4 * 4 / 3.
    printed = CascadedAggregationLoss(dispersion="literal")
    assert call(printed, batch)[2] == pytest.approx(-16 / 3)
    # The hinge sees two of the six pairs at distance 0: 2 * 1 / 6.
    assert call(CascadedAggregationLoss(), batch)[2] == pytest.approx(1 / 3, abs=1e-5)


def test_the_printed_dispersion_pushes_near_identities_least() -> None:
    """The slope of -d^2 is -2 d, that of the hinge is -2 (1 - d) below its margin."""
    slopes = {}
    for dispersion in ("literal", "hinge"):
        for degrees in (10.0, 50.0):
            angle = torch.tensor(math.radians(degrees), requires_grad=True)
            second = torch.stack([angle.cos(), angle.sin()])
            features = torch.stack([torch.tensor([1.0, 0.0]), second])
            labels = torch.tensor([0, 1]), torch.tensor([1, 1]), torch.tensor([0, 0])
            CascadedAggregationLoss(dispersion=dispersion).terms(features, *labels)[2].backward()
            slopes[dispersion, degrees] = float(angle.grad)
    assert max(slopes.values()) < 0
    assert slopes["literal", 50.0] < slopes["literal", 10.0]
    assert slopes["hinge", 10.0] < slopes["hinge", 50.0]


def test_the_literal_form_by_hand() -> None:
    # C_s: (1, 0), (4, 0), (2, 6); C_y: (2, 0), (2, 6). L_sub = (1 + 1 + 0 + 0) / 4.
    # L_intra: three rows of identity 0 have 1 + 4 each, the other row 0: 15 / 4.
    # L_inter: 2 * 3 ordered pairs of rows of both identities, 36 each, over C(4, 2) = 6: -36.
    assert call(CascadedAggregationLoss(**LITERAL), by_hand()) == [0.5, 3.75, -36.0]
    weighted = CascadedAggregationLoss(**LITERAL, sub_scale=2.0, intra_scale=0.0, inter_scale=0.5)
    assert call(weighted, by_hand()) == [1.0, 0.0, -18.0]


def test_the_hinge_by_hand() -> None:
    # Unit centers (1, 0) and (0.6, 0.8): distance sqrt(0.16 + 0.64) = sqrt(0.8).
    batch = by_hand()
    batch["features"] = torch.tensor([[3.0, 0.0]] * 3 + [[6.0, 8.0]])
    sub, intra, inter = call(CascadedAggregationLoss(), batch)
    assert (sub, intra) == (0.0, 0.0) and inter == pytest.approx((1 - 0.8**0.5) ** 2, rel=1e-5)
    assert call(CascadedAggregationLoss(margin=0.8), batch)[2] == 0.0


def test_one_number_in_two_modalities_is_two_cameras() -> None:
    """As in LLCM. Rows 0 and 2 of one camera number: apart, L_sub would be 4."""
    batch = by_hand()
    batch["camids"] = torch.tensor([1, 1, 1, 1])
    assert call(CascadedAggregationLoss(**LITERAL), batch) == [0.5, 3.75, -36.0]


def test_where_a_modality_has_one_camera_subclasses_are_modalities(make_batch: Callable) -> None:
    """As in RegDB, whose visible images have camera 1 and infrared ones camera 2."""
    batch = make_batch(0)
    regdb = {**batch, "camids": batch["modalities"] + 1}
    without = {**batch, "camids": torch.zeros_like(batch["camids"])}
    loss = CascadedAggregationLoss(**LITERAL)
    assert call(loss, regdb) == call(loss, without) != call(loss, batch)


def test_the_printed_sum_grows_with_the_square_of_the_features(make_batch: Callable) -> None:
    """So it has no lower bound where identities are apart; the default does not change."""
    batch = make_batch(1, spread=9.0)
    large = {**batch, "features": 100 * batch["features"]}
    literal, default = CascadedAggregationLoss(**LITERAL), CascadedAggregationLoss()
    assert sum(call(literal, batch)) < 0
    assert sum(call(literal, large)) == pytest.approx(1e4 * sum(call(literal, batch)))
    assert call(default, large) == pytest.approx(call(default, batch))


@pytest.mark.parametrize("options", [{}, LITERAL, {"dispersion": "literal"}])
def test_gradient(options: Dict, make_batch: Callable) -> None:
    batch = make_batch(2, identities=3, most=2)
    loss = CascadedAggregationLoss(**options)
    labels = [batch[name] for name in loss.inputs[1:]]
    features = batch["features"].requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, *labels), features)


@pytest.mark.parametrize("options", [{}, LITERAL])
@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_equal_rows_have_a_finite_gradient(options: Dict, fill: float) -> None:
    batch = by_hand()
    features = torch.full((4, 3), fill, requires_grad=True)
    loss = CascadedAggregationLoss(**options)
    loss(features, *(batch[name] for name in loss.inputs[1:])).backward()
    assert features.grad.isfinite().all()


def test_with_one_identity_the_inter_identity_term_is_zero(make_batch: Callable) -> None:
    batch = make_batch(3, identities=1, ragged=False)
    for options in ({}, LITERAL):
        sub, intra, inter = call(CascadedAggregationLoss(**options), batch)
        assert sub > 0 and intra > 0 and inter == 0


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="dispersion is 'squared'; expected 'hinge' or 'literal'"):
        CascadedAggregationLoss(dispersion="squared")
    with pytest.raises(ValueError, match="intra_scale is -1.0; expected 0 or more"):
        CascadedAggregationLoss(intra_scale=-1.0)
    batch = by_hand()
    with pytest.raises(ValueError, match="CascadedAggregationLoss needs camids"):
        CascadedAggregationLoss()(batch["features"], batch["targets"])
