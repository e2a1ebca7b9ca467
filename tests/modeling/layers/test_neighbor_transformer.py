"""NFormer's attention. Oracles: loops from the formula, and dense matrices of all pairs."""

import math

import pytest
import torch
import torch.nn.functional as F

from vireid_plugins.evaluation.neighbors.mutual import keep_mutual, mutual_neighbors
from vireid_plugins.modeling.layers.neighbor_transformer import (
    NeighborTransformer,
    mutual_by_affinity,
    neighbor_softmax,
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


def test_neighbors_by_affinity_are_the_largest_of_both_rows_and_the_row_itself():
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


def test_rows_pass_in_blocks_where_no_gradient_is_wanted(monkeypatch):
    model = NeighborTransformer(6, 2, 2, LANDMARKS, dropout=0.1).double().eval()
    rows = random(ROWS, 6)
    lists = lists_of(rows)

    def passed():
        return model(rows[None], lambda *_: lists, torch.Generator().manual_seed(1))

    whole = passed()
    monkeypatch.setattr(
        "vireid_plugins.modeling.layers.neighbor_transformer._BLOCK_ROWS", 5, raising=True
    )
    with torch.no_grad():
        torch.testing.assert_close(passed(), whole, rtol=1e-12, atol=1e-12)


def test_fewer_rows_than_landmarks_are_all_landmarks():
    model = NeighborTransformer(6, 1, 2, 5, dropout=0.0).eval()
    rows = random(3, 6).float()
    found = model(rows[None], lambda *_: lists_of(rows, 2))
    assert found.shape == (1, 3, 6) and bool(torch.isfinite(found).all())


def test_blocks_begin_with_the_same_weights():
    first, second = NeighborTransformer(6, 2, 2, LANDMARKS, 0.1).blocks
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.equal(a, b) and a is not b
