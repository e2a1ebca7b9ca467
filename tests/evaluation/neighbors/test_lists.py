"""The nearest items of each item. Oracle: all float64 distances, sorted by distance and index."""

import numpy as np
import pytest
import torch

from vireid_plugins.evaluation.neighbors import all_pairs, faiss_index
from vireid_plugins.evaluation.neighbors import lists as neighbor_lists
from vireid_plugins.evaluation.neighbors.lists import nearest_items, pair_distances

KINDS = {
    "alike": lambda rng, num: rng.standard_normal((num, 4)),
    "many ties": lambda rng, num: rng.integers(0, 3, (num, 3)).astype(float),
    "nearly all equal": lambda rng, num: rng.integers(0, 50, (num, 2)) // 49.0,
    "three copies": lambda rng, num: np.repeat(rng.standard_normal((num, 3)), 3, axis=0)[:num],
    "far away": lambda rng, num: 50 + 1e-3 * rng.standard_normal((num, 3)),
}


def squared_distances(features):
    wide = features.astype(np.float64)
    return np.square(wide[:, None] - wide).sum(2)


def expected_lists(features, k, groups=None, allowed=None):
    """(N, k): the item, then others by distance and index; with groups in turn, others' first."""
    distances = squared_distances(features)
    np.fill_diagonal(distances, -1.0)
    order = np.argsort(distances, axis=1, kind="stable")
    if allowed is not None:
        return np.stack([row[allowed[row]][:k] for row in order])
    if groups is None:
        return order[:, :k]
    lists = []
    for item, row in enumerate(order):
        is_own = groups[row] == groups[item]
        sides = [row[is_own].tolist(), row[~is_own].tolist()]
        turns = []
        while any(sides):
            turns += [side.pop(0) for side in sides if side]
        lists.append(turns[:k])
    return np.array(lists)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_those_of_all_float64_distances(kind, dtype, monkeypatch):
    """With tiles of any size, with and without groups of unequal sizes, for some items or all."""
    rng = np.random.default_rng(len(kind))
    for trial in range(24):
        num = int(rng.integers(1, 40))
        features = KINDS[kind](rng, num).astype(dtype)
        groups = rng.integers(0, 1 + trial % 4, num) if trial % 3 == 1 else None
        allowed = rng.random(num) < 0.6 if trial % 3 == 2 else None
        if allowed is not None:
            allowed[rng.integers(num)] = True
        k = int(rng.integers(1, 1 + (num if allowed is None else allowed.sum())))
        monkeypatch.setattr(all_pairs, "_SIDE", int(rng.integers(1, 20)))
        monkeypatch.setattr(neighbor_lists, "_BLOCK_ELEMENTS", int(rng.integers(1, 200)))
        masks = [None if mask is None else torch.from_numpy(mask) for mask in (groups, allowed)]
        found, greatest = nearest_items(torch.from_numpy(features), k, *masks)
        np.testing.assert_array_equal(found, expected_lists(features, k, groups, allowed))
        farthest = squared_distances(features).max(1)
        wanted = np.where(farthest == 0, 1.0, farthest)
        np.testing.assert_allclose(greatest, wanted, rtol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k,side", [(2, 400), (2, 170), (20, 300)])
def test_wide_tiles(kind, k, side, monkeypatch):
    """Tiles in which neighbors are looked for in groups of columns, and some have no room."""
    rng = np.random.default_rng(k)
    features = KINDS[kind](rng, 400).astype(np.float32)
    groups = np.repeat([0, 1, 2], [250, 148, 2])
    monkeypatch.setattr(all_pairs, "_SIDE", side)
    for labels in (None, groups):
        given = None if labels is None else torch.from_numpy(labels)
        found, _ = nearest_items(torch.from_numpy(features), k, given)
        np.testing.assert_array_equal(found, expected_lists(features, k, labels))


def test_items_that_come_nearer_and_nearer(monkeypatch):
    """Points on a line, the farthest first: every item of a tile is nearer than all before."""
    features = np.linspace(30, 0, 301, dtype=np.float32)[:, None]
    for turned in (features, features[::-1].copy()):
        monkeypatch.setattr(all_pairs, "_SIDE", 60)
        found, greatest = nearest_items(torch.from_numpy(turned), 4)
        np.testing.assert_array_equal(found, expected_lists(turned, 4))
        np.testing.assert_allclose(greatest, squared_distances(turned).max(1), rtol=1e-6)


def test_the_greatest_distance_of_equal_items_is_1():
    """Although the mean, and so what is computed, may differ from 0 by rounding."""
    rng = np.random.default_rng(0)
    for num in (1, 2, 3, 7, 39, 101, 102, 103, 104):
        row = 5 * rng.standard_normal(2048).astype(np.float32)
        _, greatest = nearest_items(torch.from_numpy(np.tile(row, (num, 1))), 1)
        np.testing.assert_array_equal(greatest, 1.0)


def test_each_pair_is_compared_once(monkeypatch):
    """5 blocks of 10 items: 15 tiles of 100 numbers instead of 25."""
    sizes = []

    def counted(a, b, out=None):
        sizes.append(len(a) * len(b))
        return products(a, b, out=out)

    products = all_pairs.products
    monkeypatch.setattr(all_pairs, "products", counted)
    monkeypatch.setattr(all_pairs, "_SIDE", 10)
    features = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 4)))
    nearest_items(features, 3)
    assert sizes == [100] * 15


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("with_faiss", [True, False])
def test_distances_of_pairs(dtype, with_faiss, monkeypatch):
    """Near each other and far from the origin, where products would not do."""
    if not with_faiss:
        monkeypatch.setattr(faiss_index, "load_faiss", lambda: None)
    monkeypatch.setattr(neighbor_lists, "_PAIR_ELEMENTS", 40)
    rng = np.random.default_rng(1)
    for given in (np.float32, np.float64):
        features = (100 + rng.standard_normal((30, 12))).astype(given)
        rows, columns = rng.integers(0, 30, (2, 70))
        found = pair_distances(torch.from_numpy(features), rows, columns, dtype)
        assert found.dtype == np.float64
        exact = dtype == torch.float64 or given == np.float64
        wanted = squared_distances(features)[rows, columns]
        np.testing.assert_allclose(found, wanted, rtol=1e-13 if exact else 1e-6)
    nothing = pair_distances(torch.from_numpy(features), rows[:0], columns[:0], dtype)
    assert nothing.shape == (0,)
