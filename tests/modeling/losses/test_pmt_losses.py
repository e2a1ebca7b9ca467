"""The losses of PMT: MSEL, DCL, triplets inside each modality.

Oracles: loops over images from the formulas, hand arithmetic, and what must not change a value. The
public code on equal batches: ``tests/parity/cases/pmt.py``. What holds for every loss:
``test_registered.py``.
"""

import pytest
import torch

from vireid_plugins.modeling.losses import (
    BatchHardTripletLoss,
    DiscriminativeCenterLoss,
    IntraModalityTripletLoss,
    ModalitySharedEnhancementLoss,
)

MSEL, DCL, INTRA = (
    ModalitySharedEnhancementLoss(),
    DiscriminativeCenterLoss(),
    IntraModalityTripletLoss(0.1),
)
LOSSES = (MSEL, DCL, INTRA)


def tensors(batch):
    return batch["features"], batch["targets"], batch["modalities"]


def distance(a, b):
    return ((a - b) ** 2).sum().sqrt()


def mean(values):
    return sum(values) / len(values)


def msel_by_loop(x, y, m):
    """The mean over anchors of (mean distance across - mean distance within)^2."""
    terms, rows = [], range(len(x))
    for a in rows:
        own = [distance(x[a], x[j]) for j in rows if y[j] == y[a] and m[j] == m[a] and j != a]
        other = [distance(x[a], x[j]) for j in rows if y[j] == y[a] and m[j] != m[a]]
        if own and other:
            terms.append((mean(other) - mean(own)) ** 2)
    return mean(terms)


def dcl_by_loop(x, y, m):
    """Mean distance of centers to their images / mean distance to the near images of others."""
    positives, negatives = [], []
    for identity in sorted(set(y.tolist())):
        own = [f for f, t in zip(x, y) if t == identity]
        center = mean(own)
        if len(own) > 1:
            positives += [distance(center, f) for f in own]
        away = [distance(center, f) for f, t in zip(x, y) if t != identity]
        near = [d for d in away if d < mean(away)]
        negatives.append(mean(near))
    return mean(positives) / mean(negatives)


def intra_by_loop(x, y, m, margin=0.1):
    """The mean over the anchors of a modality, for both, added."""
    total = x.new_zeros(())
    for modality in (0, 1):
        rows, terms = [i for i in range(len(x)) if m[i] == modality], []
        for a in rows:
            same = [distance(x[a], x[j]) for j in rows if y[j] == y[a] and j != a]
            other = [distance(x[a], x[j]) for j in rows if y[j] != y[a]]
            if same and other:
                terms.append((margin + max(same) - min(other)).clamp(min=0))
        total = total + (mean(terms) if terms else 0.0)
    return total


LOOPS = [(MSEL, msel_by_loop), (DCL, dcl_by_loop), (INTRA, intra_by_loop)]


@pytest.mark.parametrize("loss, loop", LOOPS, ids=["msel", "dcl", "intra"])
@pytest.mark.parametrize("seed", range(4))
def test_values_and_gradients_equal_a_loop(loss, loop, seed, make_batch):
    x, y, m = tensors(make_batch(seed, ragged=seed < 2))
    found, expected = x.clone().requires_grad_(), x.clone().requires_grad_()
    value, by_loop = loss(found, y, m), loop(expected, y, m)
    torch.testing.assert_close(value, by_loop)
    for result, leaf in ((value, found), (by_loop, expected)):
        result.backward()
        assert leaf.grad.abs().max() > 0
    torch.testing.assert_close(found.grad, expected.grad)


def batch(*rows):
    """Rows (feature, identity, modality) on a line."""
    x, y, m = zip(*rows)
    return torch.tensor(x).double().unsqueeze(1), torch.tensor(y), torch.tensor(m)


def test_msel_by_hand():
    """Visible at 0 and 1, infrared at 4 and 6, of one person.

    Visible anchors: ((4 + 6) / 2 - 1)^2 = 16, ((3 + 5) / 2 - 1)^2 = 9; infrared:
    ((4 + 3) / 2 - 2)^2 = 2.25, ((6 + 5) / 2 - 2)^2 = 12.25. The mean is 9.875.
    """
    rows = [(0, 5, 0), (1, 5, 0), (4, 5, 1), (6, 5, 1)]
    assert MSEL(*batch(*rows)).item() == pytest.approx(9.875)
    # other persons change nothing, nor does an image without a second one of its kind
    assert MSEL(*batch(*rows, (3, 6, 0), (9, 7, 0), (9, 7, 1))).item() == pytest.approx(9.875)


def test_dcl_by_hand():
    """Person 1 at 0 and 2 (center 1), person 2 at 5, 7 and 12 (center 8).

    Own: 1, 1 and 3, 1, 4: mean 2. Center 1 to 5, 7, 12: 4, 6, 11, mean 7, near 4 and 6: 5. Center
    8 to 0, 2: 8, 6, mean 7, near 6. The ratio is 2 / 5.5.
    """
    found = DCL(*batch((0, 1, 0), (2, 1, 1), (5, 2, 0), (7, 2, 1), (12, 2, 1)))
    assert found.item() == pytest.approx(2 / 5.5)


def test_dcl_with_a_person_of_one_image_by_hand():
    """As above, and person 3 at 20, who has no own distance: the mean of those stays 2.

    Center 1 to 5, 7, 12, 20: mean 10, near 4 and 6: 5. Center 8 to 0, 2, 20: mean 26/3, near 8 and
    6: 7. Center 20 to 0, 2, 5, 7, 12: mean 14.8, near 13 and 8: 10.5. The ratio is 2 / 7.5.
    """
    rows = [(0, 1, 0), (2, 1, 1), (5, 2, 0), (7, 2, 1), (12, 2, 1), (20, 3, 0)]
    assert DCL(*batch(*rows)).item() == pytest.approx(2 / 7.5)


def test_intra_by_hand():
    """Visible: persons at 0, 1 and 3: anchors [0.1 + 1 - 3]_+, [0.1 + 1 - 2]_+: 0; infrared at 0, 4
    and 3: [0.1 + 4 - 3]_+ = 1.1, [0.1 + 4 - 1]_+ = 3.1, mean 2.1. A visible image between two
    infrared ones changes nothing."""
    rows = [(0, 1, 0), (1, 1, 0), (3, 2, 0), (0, 1, 1), (4, 1, 1), (3, 2, 1)]
    assert INTRA(*batch(*rows)).item() == pytest.approx(2.1)
    assert BatchHardTripletLoss(0.1)(*batch(*rows)).item() != pytest.approx(2.1)  # over all rows


@pytest.mark.parametrize("loss", LOSSES, ids=["msel", "dcl", "intra"])
def test_moving_all_features_changes_nothing(loss, make_batch):
    x, y, m = tensors(make_batch(3))
    turned = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    torch.testing.assert_close(loss(x @ turned + 3.0, y, m), loss(x, y, m))


def test_dcl_does_not_depend_on_the_scale_and_msel_does(make_batch):
    x, y, m = tensors(make_batch(3))
    torch.testing.assert_close(DCL(7 * x, y, m), DCL(x, y, m))
    torch.testing.assert_close(MSEL(7 * x, y, m), 49 * MSEL(x, y, m))


def test_dcl_takes_no_modality_and_names_of_persons_mean_nothing(make_batch):
    x, y, m = tensors(make_batch(3))
    torch.testing.assert_close(DCL(x, y), DCL(x, 100 - 7 * y, 1 - m))


def test_msel_is_smallest_where_features_agree_across_modalities():
    """Both images of a person in each modality at the same two places: c = (0 + d) / 2, s = d."""
    rows = [(0, 1, 0), (4, 1, 0), (0, 1, 1), (4, 1, 1)]
    assert MSEL(*batch(*rows)).item() == pytest.approx(4.0)
    assert MSEL(*batch(*[(7, y, m) for _, y, m in rows])).item() == 0
    assert MSEL.only_pulls and not DCL.only_pulls


def test_dcl_where_nothing_is_near():
    """All images of others are equally far: all of them count, and nothing is divided by zero."""
    rows = [(0, 1, 0), (2, 1, 1), (4, 2, 0), (4, 2, 1)]  # center 1 to 4 and 4; center 4 to 0 and 2
    assert DCL(*batch(*rows)).item() == pytest.approx(0.5 / ((3 + 2) / 2))


def test_dcl_of_equal_images_is_finite():
    x, y, m = batch(*[(1, identity, kind) for identity in (1, 2) for kind in (0, 1)])
    x.requires_grad_()
    value = DCL(x, y, m)
    value.backward()
    assert value.item() == 0 and x.grad.isfinite().all()


@pytest.mark.parametrize("loss", (MSEL, INTRA), ids=["msel", "intra"])
def test_missing_modalities_are_named(loss, make_batch):
    x, y, m = tensors(make_batch(3))
    for wrong in (None, m[:-1], m + 1):
        with pytest.raises(ValueError, match="modalities"):
            loss(x, y, wrong)
