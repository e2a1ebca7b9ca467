"""The transformer of NFormer, whose rows attend to their mutual neighbors alone.

Wang et al., CVPR 2022, arXiv 2204.09331. Affinities come from a few landmarks (Landmark Agent
Attention) and are computed only where the Reciprocal Neighbor Softmax keeps them, so that no
matrix of all pairs exists. S sequences of N rows, D features, h heads of d features, l landmarks,
K neighbors of a row.
"""

import copy
import math
from typing import Any, Callable, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..precision import at_least_float32, without_autocast

# Neighbors of each row, (S, H, N, K) int64 with H = 1 or h, and which of them count, bool.
Lists = Tuple[Tensor, Tensor]
# Takes ``\\tilde q`` and ``\\tilde k`` of a block's attention, (S, N, h, l) each, and returns the
# lists of the block.
FindLists = Callable[[Tensor, Tensor], Lists]

_BLOCK_ROWS = 8192  # rows that pass a layer at once where no gradient is wanted
_BLOCK_ELEMENTS = 1 << 24  # of a block of affinities


class NeighborAttention(nn.Module):
    """Landmark agent attention with the reciprocal neighbor softmax.

    Args:
        dim: D.
        heads: h, which divides D.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in, self.project_out = _linear(dim, 3 * dim), _linear(dim, dim)

    def forward(self, x: Tensor, landmarks: Tensor, find: FindLists) -> Tensor:
        """Return what the rows take from their neighbors, (S, N, D).

        Args:
            x: (S, N, D).
            landmarks: (l,) the rows that are landmarks, in every sequence.
            find: returns the neighbors of each row.
        """
        query, key, value = self._split(x)
        # \tilde q = q k_l^T and \tilde k = k q_l^T, (S, N, h, l)
        agents = torch.einsum("snhd,slhd->snhl", query, key[:, landmarks])
        counterparts = torch.einsum("snhd,slhd->snhl", key, query[:, landmarks])
        neighbors, kept = find(agents, counterparts)
        weights = neighbor_softmax(agents, counterparts, neighbors, kept, query.shape[-1])
        return _by_rows(self.project_out, weighted_sum(value, neighbors, weights).flatten(2))

    def _split(self, x: Tensor) -> Tuple[Tensor, ...]:
        parts = _by_rows(self.project_in, x).chunk(3, dim=-1)
        return tuple(part.unflatten(-1, (self.heads, -1)) for part in parts)


def neighbor_softmax(
    agents: Tensor, counterparts: Tensor, neighbors: Tensor, kept: Tensor, dim: int
) -> Tensor:
    """Return the weights (S, h, N, K) of each row's neighbors; they add up to 1.

    ``A_ij = \\tilde q_i \\tilde k_j^T / sqrt(d)``, its softmax over the neighbors that count. The
    sign is that of the public code; the text prints ``exp(-A)``.

    Args:
        agents: ``\\tilde q`` (S, N, h, l).
        counterparts: ``\\tilde k`` (S, N, h, l).
        neighbors: (S, H, N, K), H = 1 or h.
        kept: (S, H, N, K) bool; each row has at least one True.
        dim: d.
    """
    own, others = agents.transpose(1, 2), counterparts.transpose(1, 2)  # (S, h, N, l)
    affinities = own.new_zeros(*own.shape[:3], neighbors.shape[-1])
    places = neighbors.expand(-1, own.shape[1], -1, -1).flatten(2)
    for landmark in range(own.shape[-1]):  # one at a time: (S, h, N, K, l) would be l times larger
        column = others[..., landmark].gather(2, places).view_as(affinities)
        affinities = affinities + own[..., landmark, None] * column
    affinities = affinities / math.sqrt(dim)
    return affinities.masked_fill(~kept, -torch.inf).softmax(-1)


def weighted_sum(value: Tensor, neighbors: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of each row's neighbors' values times their weights: (S, N, h, d).

    Args:
        value: (S, N, h, d).
        neighbors: (S, H, N, K), H = 1 or h.
        weights: (S, h, N, K).
    """
    sequences, rows, heads, dim = value.shape
    table = value.transpose(1, 2).reshape(-1, dim)  # (S h N, d)
    first = torch.arange(sequences * heads, device=value.device) * rows
    places = neighbors + first.view(sequences, heads, 1, 1)
    flat = [one.reshape(-1, one.shape[-1]) for one in (places, weights)]
    summed: Any = F.embedding_bag(flat[0], table, mode="sum", per_sample_weights=flat[1])
    return summed.view(sequences, heads, rows, dim).transpose(1, 2)


def mutual_by_affinity(k: int, keep: Callable[[Tensor], Tuple[Tensor, Tensor]]) -> FindLists:
    """Return a function that takes each row's neighbors from its own affinities, as the text does.

    ``M_ij = 1`` if ``j`` is among the k largest of row i, and ``i`` among those of row j; a row is
    always among its own. Rows of affinities are computed in blocks.

    Args:
        k: neighbors of a row; at most N count.
        keep: takes lists (N, k), and returns those of their entries that are mutual (N, K), and
            which of these count (N, K).
    """

    @torch.no_grad()
    def find(agents: Tensor, counterparts: Tensor) -> Lists:
        sequences, rows, heads, _ = agents.shape
        parts = [
            keep(_largest(agents[s, :, h], counterparts[s, :, h], min(k, rows)))
            for s in range(sequences)
            for h in range(heads)
        ]
        neighbors, kept = (one.unflatten(0, (sequences, heads)) for one in stack_lists(parts))
        return neighbors, kept

    return find


def stack_lists(parts: Sequence[Lists]) -> Lists:
    """Return lists (N, K) with different K as two tensors (P, N, largest K); the rest is False."""
    width = max(kept.shape[1] for _, kept in parts)
    neighbors, kept = (
        torch.stack([F.pad(one, (0, width - one.shape[1])) for one in of]) for of in zip(*parts)
    )
    return neighbors, kept


def _largest(agents: Tensor, counterparts: Tensor, k: int) -> Tensor:
    """Return the places of the k largest affinities of each row (N, l), itself first: (N, k)."""
    found, columns = [], counterparts.T
    step = max(1, _BLOCK_ELEMENTS // max(1, len(agents)))
    for begin in range(0, len(agents), step):
        scores = agents[begin : begin + step] @ columns
        own = torch.arange(begin, begin + len(scores), device=scores.device)
        scores.scatter_(1, own[:, None], torch.inf)
        found.append(scores.topk(k, dim=1).indices)
    return torch.cat(found)


class NeighborBlock(nn.Module):
    """``LN(x + attention)``, then ``LN(n + MLP(n))``: a post-norm transformer block.

    Args:
        dim: D.
        heads: h.
        dropout: probability, on the outputs of attention and MLP.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = NeighborAttention(dim, heads)
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.expand, self.contract = _linear(dim, 4 * dim), _linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, landmarks: Tensor, find: FindLists) -> Tensor:
        """Return ``x`` (S, N, D) after the block; arguments as those of the attention."""
        x = self.norm_1(x + self.dropout(self.attention(x, landmarks, find)))
        return _by_rows(self._feed_forward, x)

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = F.gelu(self.expand(x), approximate="tanh")
        return self.norm_2(x + self.dropout(self.contract(hidden)))


class NeighborTransformer(nn.Module):
    """Blocks that let rows look at their neighbors.

    All blocks begin with the same weights, as in the public code.

    Args:
        dim: D.
        layers: number of blocks.
        heads: h, which divides D.
        landmarks: l; at most N count.
        dropout: probability.
    """

    def __init__(self, dim: int, layers: int, heads: int, landmarks: int, dropout: float) -> None:
        super().__init__()
        block = NeighborBlock(dim, heads, dropout)
        self.blocks = nn.ModuleList(copy.deepcopy(block) for _ in range(layers))
        self.num_landmarks = landmarks

    def forward(
        self,
        x: Tensor,
        find: FindLists,
        generator: Optional[torch.Generator] = None,
    ) -> Tensor:
        """Return rows (S, N, D) in float32 that have looked at their neighbors.

        Args:
            x: (S, N, D).
            find: called by each block, and returns the neighbors of each row.
            generator: draws the landmarks of each block, on the CPU; None: PyTorch's own.
        """
        x = at_least_float32(x)
        with without_autocast(x):
            for block in self.blocks:
                drawn = torch.randperm(x.shape[1], generator=generator)[: self.num_landmarks]
                x = block(x, drawn.to(x.device), find)
        return x


def _linear(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


def _by_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return ``function(x)`` of rows (S, N, D), in blocks of rows if no gradient is wanted."""
    if torch.is_grad_enabled() or x.shape[1] <= _BLOCK_ROWS:
        return function(x)
    return torch.cat([function(part) for part in x.split(_BLOCK_ROWS, dim=1)], dim=1)
