"""Splitting, restoring and averaging by modality, against plain loops."""

import pytest
import torch

from vireid_plugins.modality import (
    Modality,
    apply_per_modality,
    fixed_path,
    group_means,
    identity_centers,
    identity_pairs,
    modality_rows,
    of_modality,
)


def test_parse_knows_two_words():
    assert Modality.parse("visible") is Modality.VISIBLE
    assert Modality.parse("Infrared") is Modality.INFRARED
    with pytest.raises(ValueError, match="'rgb'.*'visible' or 'infrared'"):
        Modality.parse("rgb")


def test_each_row_passes_its_own_function_and_keeps_its_place():
    inputs = torch.arange(6.0).view(6, 1)
    modalities = torch.tensor([1, 0, 0, 1, 0, 1])
    outputs = apply_per_modality([lambda x: x + 10, lambda x: x + 20], inputs, modalities)
    expected = [x + (10 if m == 0 else 20) for x, m in zip(range(6), modalities.tolist())]
    assert outputs.flatten().tolist() == expected


@pytest.mark.parametrize("modality", list(Modality))
def test_a_batch_of_one_modality_never_runs_the_other(modality):
    def refuse(x):
        raise AssertionError("an empty slice was run")

    functions = [refuse, refuse]
    functions[modality] = torch.neg
    out = apply_per_modality(functions, torch.ones(3, 1), torch.full((3,), int(modality)))
    assert out.tolist() == [[-1.0]] * 3


def test_on_a_fixed_path_each_row_keeps_its_own_result():
    inputs, modalities = torch.randn(6, 2, 3), torch.tensor([1, 0, 0, 1, 0, 1])
    functions = [torch.exp, torch.sin]
    sorted_ones = apply_per_modality(functions, inputs, modalities)
    with fixed_path():
        assert torch.equal(apply_per_modality(functions, inputs, modalities), sorted_ones)
    with fixed_path(Modality.INFRARED):  # whatever the numbers say
        assert torch.equal(apply_per_modality(functions, inputs, modalities), inputs.sin())
    assert torch.equal(apply_per_modality(functions, inputs, modalities), sorted_ones)


def test_modality_rows_is_refused_inside_fixed_path():
    with pytest.raises(ValueError, match="Call apply_per_modality instead"), fixed_path():
        modality_rows(torch.tensor([0, 1]))
    assert [rows.tolist() for rows in modality_rows(torch.tensor([1, 0]))] == [[1], [0]]


def test_unknown_numbers_are_named():
    with pytest.raises(ValueError, match=r"\[2\]"):
        apply_per_modality([torch.neg, torch.neg], torch.ones(2, 1), torch.tensor([0, 2]))


def test_centers_equal_a_loop_and_ignore_order():
    targets = torch.tensor([5, 5, 2, 2, 2, 5])
    modalities = torch.tensor([0, 1, 0, 0, 1, 0])
    features = torch.randn(6, 3, dtype=torch.float64)
    centers = identity_centers(features, targets, modalities)
    pairs = sorted(set(zip(targets.tolist(), modalities.tolist())))
    assert list(zip(centers.targets.tolist(), centers.modalities.tolist())) == pairs
    for row, (target, modality) in enumerate(pairs):
        rows = [i for i in range(6) if (targets[i], modalities[i]) == (target, modality)]
        torch.testing.assert_close(centers.features[row], features[rows].mean(0))
    order = torch.randperm(6)
    shuffled = identity_centers(features[order], targets[order], modalities[order])
    torch.testing.assert_close(shuffled.features, centers.features)


def test_group_means_equal_a_loop_over_any_labels():
    labels = [torch.tensor([5, 5, 2, 2, 2, 5]), torch.tensor([3, 1, 1, 1, 4, 3])]
    features = torch.randn(6, 3, dtype=torch.float64)
    found = group_means(features, *labels)
    pairs = list(zip(*(label.tolist() for label in labels)))
    assert found.labels.tolist() == [list(pair) for pair in sorted(set(pairs))]
    for row, pair in enumerate(pairs):
        assert found.labels[found.group_of[row]].tolist() == list(pair)
        rows = [i for i in range(6) if pairs[i] == pair]
        torch.testing.assert_close(found.features[found.group_of[row]], features[rows].mean(0))


def test_identity_pairs_are_all_visible_infrared_pairs_of_one_person():
    targets = torch.tensor([5, 2, 5, 2, 7, 5])
    modalities = torch.tensor([1, 0, 0, 1, 0, 1])
    visible, infrared = identity_pairs(targets, modalities)
    assert set(zip(visible.tolist(), infrared.tolist())) == {(2, 0), (2, 5), (1, 3)}
    assert len(visible) == 3
    alone = identity_pairs(targets[modalities == 0], modalities[modalities == 0])
    assert [len(rows) for rows in alone] == [0, 0]


def test_each_row_gets_what_belongs_to_its_modality():
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = of_modality(values, torch.tensor([1, 0, 1]))
    assert found.tolist() == [[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]
