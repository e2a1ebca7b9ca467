"""NFormer's attention. Oracles: loops from the formula, and dense matrices of all pairs."""

import math

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.evaluation.neighbors.mutual import keep_mutual, mutual_neighbors
from vireid_plugins.modeling.layers import neighbor_transformer
from vireid_plugins.modeling.layers.neighbor_transformer import (
    NeighborTransformer,
    mutual_by_affinity,
    neighbor_softmax,
    stack_lists,
    weighted_sum,
)

ROWS, HEADS, DIM, LANDMARKS = 12, 2, 3, 4


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lists_of(rows, k=5):
    neighbors, kept = mutual_neighbors(F.normalize(rows), k)
    return neighbors[None, None], kept[None, None]


def test_weights_are_the_softmax_over_the_mutual_neighbors():
    """A_ij = (q_i k_l^T)(k_j q_l^T) / sqrt(d), and exp(A) over the neighbors that count."""
    query, key = random(ROWS, HEADS, DIM), random(ROWS, HEADS, DIM, seed=1)
    landmarks = [3, 7, 0, 11]
    agents = torch.einsum("nhd,lhd->nhl", query, key[landmarks])[None]
    counterparts = torch.einsum("nhd,lhd->nhl", key, query[landmarks])[None]
    neighbors, kept = lists_of(random(ROWS, 6, seed=2))
    assert not kept.all(), "some entries must not count"
    found = neighbor_softmax(agents, counterparts, neighbors, kept, DIM)
    for head in range(HEADS):
        for i in range(ROWS):
            scores = []
            for j in neighbors[0, 0, i].tolist():
                score = 0.0
                for mark in landmarks:
                    left = float(query[i, head] @ key[mark, head])
                    score += left * float(key[j, head] @ query[mark, head])
                scores.append(math.exp(score / math.sqrt(DIM)))
            scores = [s if k else 0.0 for s, k in zip(scores, kept[0, 0, i].tolist())]
            expected = [score / sum(scores) for score in scores]
            assert found[0, head, i].tolist() == pytest.approx(expected, rel=1e-12)


def test_the_sum_over_neighbors_and_its_gradients_equal_a_dense_product():
    value = random(2, ROWS, HEADS, DIM).requires_grad_()
    neighbors = torch.randint(ROWS, (2, 1, ROWS, 4), generator=torch.Generator().manual_seed(0))
    weights = random(2, HEADS, ROWS, 4, seed=3).requires_grad_()
    dense = torch.zeros(2, HEADS, ROWS, ROWS, dtype=torch.float64)
    dense = dense.scatter_add(3, neighbors.expand(-1, HEADS, -1, -1), weights)
    expected = torch.einsum("shij,sjhd->sihd", dense, value)
    found = weighted_sum(value, neighbors, weights)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    wave = random(*found.shape, seed=4)
    both = (torch.autograd.grad(y, (value, weights), wave) for y in (found, expected))
    for a, b in zip(*both):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("elements", [1 << 24, 5 * ROWS])
def test_neighbors_by_affinity_are_the_largest_of_both_rows_and_the_row_itself(
    monkeypatch, elements
):
    monkeypatch.setattr(neighbor_transformer, "_BLOCK_ELEMENTS", elements)
    agents, counterparts = (
        random(1, ROWS, HEADS, LANDMARKS),
        random(1, ROWS, HEADS, LANDMARKS, seed=5),
    )
    neighbors, kept = mutual_by_affinity(4, keep_mutual)(agents, counterparts)
    for head in range(HEADS):
        affinity = agents[0, :, head] @ counterparts[0, :, head].T
        affinity.fill_diagonal_(torch.inf)
        top = [set(row.topk(4).indices.tolist()) for row in affinity]
        for i in range(ROWS):
            own = neighbors[0, head, i][kept[0, head, i]].tolist()
            assert set(own) == {j for j in top[i] if i in top[j]}
            assert i in own and len(own) == len(set(own))


def normalized(layer, x):
    centered = x - x.mean(-1, keepdim=True)
    return layer.weight * centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt() + (
        layer.bias
    )


def dense_block(block, x, landmarks, mask):
    """LN(x + attention), LN(n + MLP(n)) of rows (N, D), with matrices of all pairs (N, N)."""
    layer, size = block.attention, x.shape[1]
    query, key, value = (x @ layer.project_in.weight.T + layer.project_in.bias).split(size, 1)
    taken = []
    for head in range(layer.heads):
        part = slice(head * size // layer.heads, (head + 1) * size // layer.heads)
        q, k, v = query[:, part], key[:, part], value[:, part]
        affinities = (q @ k[landmarks].T) @ (q[landmarks] @ k.T) / math.sqrt(q.shape[1])
        taken.append(torch.where(mask, affinities, -1e9).softmax(1) @ v)
    joined = torch.cat(taken, 1) @ layer.project_out.weight.T + layer.project_out.bias
    x = normalized(block.norm_1, x + joined)
    hidden = x @ block.expand.weight.T + block.expand.bias
    hidden = hidden * (1 + torch.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3))) / 2
    return normalized(block.norm_2, x + hidden @ block.contract.weight.T + block.contract.bias)


def test_blocks_and_their_gradients_equal_the_dense_form():
    """Each block draws its own landmarks."""
    model, rows = NeighborTransformer(6, 2, HEADS, LANDMARKS, 0.0).double(), random(ROWS, 6)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    neighbors, kept = lists_of(rows)
    mask = torch.zeros(ROWS, ROWS, dtype=torch.bool)
    for i in range(ROWS):
        mask[i, neighbors[0, 0, i][kept[0, 0, i]]] = True
    found = model(rows[None], lambda *_: (neighbors, kept), torch.Generator().manual_seed(7))[0]
    draws, expected = torch.Generator().manual_seed(7), rows
    for block in model.blocks:
        landmarks = torch.randperm(ROWS, generator=draws)[:LANDMARKS]
        expected = dense_block(block, expected, landmarks, mask)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    wave, own = random(ROWS, 6, seed=6), list(model.parameters())
    both = (torch.autograd.grad(y, own, wave) for y in (found, expected))
    for a, b in zip(*both):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_rows_pass_in_blocks_where_no_gradient_is_wanted(monkeypatch):
    model = NeighborTransformer(6, 2, 2, LANDMARKS, dropout=0.1).double().eval()
    rows = random(ROWS, 6)
    lists = lists_of(rows)

    def passed():
        return model(rows[None], lambda *_: lists, torch.Generator().manual_seed(1))

    whole = passed()
    monkeypatch.setattr(neighbor_transformer, "_BLOCK_ROWS", 5)
    with torch.no_grad():
        torch.testing.assert_close(passed(), whole, rtol=1e-12, atol=1e-12)


def test_lists_of_other_widths_are_filled_with_what_does_not_count():
    short = torch.tensor([[0], [1], [2]]), torch.ones(3, 1, dtype=torch.bool)
    long = torch.tensor([[0, 2], [1, 0], [2, 1]]), torch.tensor([[True, True]] * 3)
    neighbors, kept = stack_lists([short, long])
    assert neighbors[:, :, 0].tolist() == [[0, 1, 2]] * 2 and kept.shape == (2, 3, 2)
    assert kept[0].tolist() == [[True, False]] * 3 and bool(kept[1].all())
    assert torch.equal(neighbors[1], long[0])


def test_fewer_rows_than_landmarks_are_all_landmarks():
    model = NeighborTransformer(6, 1, 2, 5, dropout=0.0).eval()
    rows = random(3, 6).float()
    found = model(rows[None], lambda *_: lists_of(rows, 2))
    assert found.shape == (1, 3, 6) and bool(torch.isfinite(found).all())


def test_blocks_begin_with_the_same_weights():
    first, second = NeighborTransformer(6, 2, 2, LANDMARKS, 0.1).blocks
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.equal(a, b) and a is not b
