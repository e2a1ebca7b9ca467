"""Mutual neighbors. Oracle: all cosines, sorted, and sets."""

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.errors import UserError
from vireid_plugins.evaluation.neighbors import mutual
from vireid_plugins.evaluation.neighbors.mutual import mutual_neighbors


def rows_of(count, seed=0):
    return F.normalize(torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)))


def sets(found):
    neighbors, kept = found
    return [row[own].tolist() for row, own in zip(neighbors, kept)]


def nearest_first(rows, i, among):
    return sorted(among, key=lambda j: (j != i, -float(rows[i].double() @ rows[j].double())))


@pytest.mark.parametrize("elements", [1 << 23, 40])
def test_neighbors_are_those_that_have_each_other_nearest_first(monkeypatch, elements):
    monkeypatch.setattr(mutual, "_BLOCK_ELEMENTS", elements)
    rows, k = rows_of(40), 6
    top = [nearest_first(rows, i, range(40))[:k] for i in range(40)]
    expected = [[j for j in top[i] if i in top[j]] for i in range(40)]
    assert sets(mutual_neighbors(rows, k)) == expected
    assert min(map(len, expected)) < k


def test_half_of_them_come_from_each_group():
    rows, k = rows_of(30, seed=1), 6
    groups = (torch.arange(30) % 3 == 0).long()
    top = []
    for i in range(30):
        own = [j for j in range(30) if groups[j] == groups[i]]
        others = [j for j in range(30) if groups[j] != groups[i]]
        halves = nearest_first(rows, i, own)[: k // 2], nearest_first(rows, i, others)[: k // 2]
        top.append(set(halves[0]) | set(halves[1]))
    expected = [{j for j in top[i] if i in top[j]} for i in range(30)]
    assert list(map(set, sets(mutual_neighbors(rows, k, groups)))) == expected


def test_more_neighbors_than_items_are_all_items():
    assert list(map(sorted, sets(mutual_neighbors(rows_of(3), 20)))) == [[0, 1, 2]] * 3


def test_equal_rows_are_each_others_neighbors_and_an_item_is_its_own_first():
    rows = rows_of(4)[[0, 0, 0, 1, 2, 3]]
    found = sets(mutual_neighbors(rows, 3))
    assert found[:3] == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]


def test_no_neighbors_are_refused():
    with pytest.raises(UserError, match="k"):
        mutual_neighbors(rows_of(4), 0)
