"""The path distance of stripes. Oracles: the printed formulas by loops over pairs, cells and
channels; all monotone paths, enumerated; hand arithmetic."""

from itertools import combinations

import pytest
import torch

from vireid_plugins.modeling.layers import (
    aligned_path_distances,
    candidate_path_distances,
    normalized_stripes,
    path_distance,
    path_distances,
    shortest_path,
    stripe_distances,
)

EPS = 1e-6


def stripes(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def loop_d(f, g, reduction):
    """d_ij of two stripes (S,), channel by channel."""

    def scaled(v):
        return [(x - sum(v) / len(v)) / (max(v) - min(v) + EPS) for x in v]

    total = sum(abs(a - b) for a, b in zip(scaled(list(f)), scaled(list(g))))
    return total / len(f) if reduction == "mean" else total


def loop_s(d):
    """S of a grid ``d`` of numbers: the four printed cases."""
    s = {}
    for i, row in enumerate(d):
        for j, cell in enumerate(row):
            if i == 0 and j == 0:
                s[i, j] = cell
            elif i == 0:
                s[i, j] = s[i, j - 1] + cell
            elif j == 0:
                s[i, j] = s[i - 1, j] + cell
            else:
                s[i, j] = min(s[i, j - 1], s[i - 1, j]) + cell
    return s[len(d) - 1, len(d[0]) - 1]


def loop_distance(first, second, reduction="mean"):
    return loop_s([[loop_d(f, g, reduction) for g in second] for f in first])


def all_paths(rows, columns):
    """Every way from (0, 0) to the last cell by steps down and right, as lists of cells."""
    steps = rows + columns - 2
    for down in combinations(range(steps), rows - 1):
        i = j = 0
        path = [(0, 0)]
        for step in range(steps):
            i, j = (i + 1, j) if step in down else (i, j + 1)
            path.append((i, j))
        yield path


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("sizes", [(1, 1), (1, 4), (3, 2), (4, 4), (6, 6)])
def test_all_pairs_equal_the_loop(sizes, reduction):
    first, second = stripes(3, sizes[0], 5), stripes(2, sizes[1], 5, seed=1)
    expected = torch.stack(
        [torch.stack([loop_distance(a, b, reduction) for b in second]) for a in first]
    )
    torch.testing.assert_close(path_distances(first, second, reduction), expected)
    aligned = aligned_path_distances(first[:2], second, reduction)
    torch.testing.assert_close(aligned, expected.diagonal())


@pytest.mark.parametrize("sizes", [(1, 1), (2, 3), (4, 4), (6, 6), (1, 5)])
def test_the_shortest_path_is_the_best_of_all_paths(sizes):
    """252 paths at 6 x 6. Whole numbers, so that sums are exact and ties happen."""
    grids = torch.randint(0, 6, (20, *sizes)).double()
    expected = [
        min(sum(grid[cell] for cell in path) for path in all_paths(*sizes)) for grid in grids
    ]
    assert torch.equal(shortest_path(grids), torch.stack(expected))
    assert len(list(all_paths(6, 6))) == 252


def test_by_hand():
    """3 x 3: through the middle 0 it costs 5; with 9 there, down the first column: 1+1+1+2+1."""
    grid = torch.tensor([[1.0, 9.0, 9.0], [1.0, 0.0, 9.0], [1.0, 2.0, 1.0]])
    assert shortest_path(grid) == 1 + 1 + 0 + 2 + 1
    assert shortest_path(grid + torch.tensor([[0.0, 0, 0], [0, 9, 0], [0, 0, 0]])) == 6
    # Normalized: (0, 2, 4) -> (-1/2, 0, 1/2) and (3, 3, 6) -> (-1/3, -1/3, 2/3).
    pair = torch.tensor([[0.0, 2.0, 4.0]]), torch.tensor([[3.0, 3.0, 6.0]])
    mean = (1 / 6 + 1 / 3 + 1 / 6) / 3
    torch.testing.assert_close(stripe_distances(*pair), torch.tensor([[mean]]))
    torch.testing.assert_close(stripe_distances(*pair, "sum"), torch.tensor([[3 * mean]]))


def test_the_gradient_is_that_of_the_loop():
    """Through normalization, differences and the minimum over paths; also by finite differences."""
    first, second = stripes(2, 3, 4).requires_grad_(), stripes(3, 3, 4, seed=1).requires_grad_()
    weights = stripes(2, 3, seed=2)

    def gradient(value):
        return torch.autograd.grad(value, (first, second))

    looped = sum(
        weights[a, b] * loop_distance(first[a], second[b]) for a in range(2) for b in range(3)
    )
    expected = gradient(looped)
    found = gradient((weights * path_distances(first, second)).sum())
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(path_distances, (first, second))
    aligned = gradient((weights.diagonal() * aligned_path_distances(first, second[:2])).sum())
    looped = sum(weights[a, a] * loop_distance(first[a], second[a]) for a in range(2))
    torch.testing.assert_close(aligned, gradient(looped))


def test_equally_long_ways_share_the_gradient():
    """All cells 1, 2 x 2: two ways; each middle cell gets half, the ends all of it."""
    grid = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    shortest_path(grid).backward()
    assert grid.grad.tolist() == [[1.0, 0.5], [0.5, 1.0]]


def test_symmetric_to_the_last_bit_and_not_zero_on_itself():
    """Transposing the grid transposes every path; two stripes that differ cannot be avoided."""
    x = stripes(5, 4, 7).float()
    distances = path_distances(x, x)
    assert torch.equal(distances, distances.T)
    assert (distances.diagonal() > 0).all()
    alike = x[:, :1].expand(-1, 4, -1)  # an image of equal stripes is at 0 from itself
    assert path_distances(alike, alike).diagonal().abs().max() == 0


def test_the_order_of_images_and_blocks_means_nothing(monkeypatch):
    first, second = stripes(7, 3, 5).float(), stripes(4, 3, 5, seed=1).float()
    whole = path_distances(first, second)
    rows, columns = torch.randperm(7), torch.randperm(4)
    assert torch.equal(path_distances(first[rows], second[columns]), whole[rows][:, columns])
    candidates = torch.randint(0, 4, (7, 6))
    listed = candidate_path_distances(first, second, candidates)
    torch.testing.assert_close(listed, whole.gather(1, candidates))
    monkeypatch.setattr(path_distance, "_BLOCK_ELEMENTS", 1)  # one image at a time
    assert torch.equal(path_distances(first, second), whole)
    assert torch.equal(candidate_path_distances(first, second, candidates), listed)


def test_blocks_are_as_small_as_promised(monkeypatch):
    """No distance tensor of a block is above the bound (one image's own is 6 x 12 x 6 = 432)."""
    sizes = []

    def counting(distances):
        sizes.append(distances.numel())
        return shortest_path(distances)

    monkeypatch.setattr(path_distance, "shortest_path", counting)
    monkeypatch.setattr(path_distance, "_BLOCK_ELEMENTS", 1000)
    x, y = stripes(9, 6, 4), stripes(12, 6, 4, seed=1)
    path_distances(x, y)
    assert sizes == [864, 864, 864, 864, 432]
    sizes.clear()
    candidate_path_distances(x, y, torch.zeros(9, 20, dtype=torch.int64))  # 480 numbers gathered
    assert sizes == [2 * 720] * 4 + [720]


def test_nothing_to_compare_gives_nothing():
    x, none = stripes(2, 3, 4), torch.zeros(2, 0, dtype=torch.int64)
    assert candidate_path_distances(x, x[:0], none).shape == (2, 0)
    assert candidate_path_distances(x[:0], x, none[:0]).shape == (0, 0)


@pytest.mark.parametrize("value", [0.0, 3.3, 1e4 / 3])
def test_equal_channels_become_zero(value):
    """Without the shift, the mean's rounding over eps would be of any size."""
    flat = torch.full((2, 3, 257), value, requires_grad=True)
    found = normalized_stripes(flat)
    assert found.abs().max() == 0
    path_distances(flat, torch.randn(2, 3, 257)).sum().backward()
    assert flat.grad.isfinite().all()


def test_scale_and_shift_of_a_stripe_do_not_matter():
    """(f - mean) / (max - min) is blind to them, for each stripe apart; eps aside."""
    x, y = stripes(3, 4, 6), stripes(2, 4, 6, seed=1)
    moved = 50 * torch.rand(3, 4, 1).double().add(1) * x + stripes(3, 4, 1, seed=2)
    torch.testing.assert_close(path_distances(moved, y), path_distances(x, y), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    x, y = stripes(3, 4, 6).to(dtype), stripes(2, 4, 6, seed=1).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = path_distances(x, y)
    assert found.dtype == torch.float32
    assert torch.equal(found, path_distances(x.float(), y.float()))


def test_an_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="must be one of 'mean', 'sum'; got 'max'"):
        path_distances(stripes(2, 3, 4), stripes(2, 3, 4), "max")
