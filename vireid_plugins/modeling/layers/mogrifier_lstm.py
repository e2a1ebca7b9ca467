"""Mogrifier LSTM: input and state gate each other in rounds before the step of an ordinary LSTM.

G. Melis, T. Kocisky, P. Blunsom, "Mogrifier LSTM", ICLR 2020, arXiv 1909.01792.

B sequences, T steps, I input size, H hidden size.
"""

import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ..precision import at_least_float32

State = Tuple[Tensor, Tensor]


class MogrifierLSTMCell(nn.Module):
    """Compute one step, where x = x^-1 is the input, h = h^0 the last output, i = 1 ... ``rounds``:

    - odd i: ``x^i = 2 sigmoid(Q^i h^(i-1)) * x^(i-2)``;
    - even i: ``h^i = 2 sigmoid(R^i x^(i-1)) * h^(i-2)``;

    Then the x and the h of the highest index enter the gates of an LSTM. Q and R have no bias, as
    printed (the widespread PyTorch ports give them one). The LSTM's parameters have the names and
    the initial distribution of ``torch.nn.LSTMCell``. If ``rounds`` is 0, its ``state_dict`` fits
    and both cells are the same function.

    Args:
        input_size: I.
        hidden_size: H.
        rounds: rounds of the mutual gating, 0 or more.
        rank: the rank of Q and R, each of which is then the product of two thinner matrices; 0:
            full matrices.

    Raises:
        UserError: a number is out of range, or ``rank`` is not below I and H.
    """

    def __init__(self, input_size: int, hidden_size: int, rounds: int = 5, rank: int = 0) -> None:
        super().__init__()
        if min(input_size, hidden_size) < 1 or min(rounds, rank) < 0:
            raise UserError(
                "MogrifierLSTMCell: input_size and hidden_size must be at least 1, rounds and rank "
                f"at least 0; got {input_size}, {hidden_size}, {rounds}, {rank}."
            )
        if rank >= min(input_size, hidden_size):
            raise UserError(
                f"MogrifierLSTMCell: rank must be below input_size ({input_size}) and hidden_size "
                f"({hidden_size}), or it saves nothing; got {rank}. 0 means full matrices."
            )
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_size))
        bound = 1 / math.sqrt(hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        self.gates = nn.ModuleList(  # Q^1, R^2, Q^3, ...
            _matrix(hidden_size, input_size, rank)
            if i % 2 == 0
            else _matrix(input_size, hidden_size, rank)
            for i in range(rounds)
        )

    def forward(self, inputs: Tensor, state: Optional[State] = None) -> State:
        """Return the next (h, c), each (B, H), from inputs (B, I) and the last one; None: zeros."""
        if state is None:
            zeros = at_least_float32(inputs).new_zeros(len(inputs), self.hidden_size)
            state = zeros, zeros
        hidden, memory = state
        inputs, hidden = self.mogrify(inputs, hidden)
        gates = F.linear(inputs, self.weight_ih, self.bias_ih) + F.linear(
            hidden, self.weight_hh, self.bias_hh
        )
        # Products may be in half precision; the state between the steps must not be.
        enter, keep, candidate, leave = at_least_float32(gates).chunk(4, dim=1)
        memory = keep.sigmoid() * memory + enter.sigmoid() * candidate.tanh()
        return leave.sigmoid() * memory.tanh(), memory

    def mogrify(self, inputs: Tensor, hidden: Tensor) -> State:
        """Return x (B, I) and h (B, H) after all rounds."""
        for i, gate in enumerate(self.gates, start=1):
            if i % 2:
                inputs = 2 * at_least_float32(gate(hidden)).sigmoid() * inputs
            else:
                hidden = 2 * at_least_float32(gate(inputs)).sigmoid() * hidden
        return inputs, hidden


class MogrifierLSTM(nn.Module):
    """One layer of :class:`MogrifierLSTMCell` over sequences; the first state is zero.

    Args:
        input_size, hidden_size, rounds, rank: see :class:`MogrifierLSTMCell`.
    """

    def __init__(self, input_size: int, hidden_size: int, rounds: int = 5, rank: int = 0) -> None:
        super().__init__()
        self.cell = MogrifierLSTMCell(input_size, hidden_size, rounds, rank)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the hidden state after each step, (B, T, H), of inputs (B, T, I), T at least 1."""
        states, state = [], None
        for step in inputs.unbind(dim=1):
            state = self.cell(step, state)
            states.append(state[0])
        return torch.stack(states, dim=1)


def _matrix(in_features: int, out_features: int, rank: int) -> nn.Module:
    """Return a linear map without bias, of rank at most ``rank`` unless that is 0."""
    if rank == 0:
        return nn.Linear(in_features, out_features, bias=False)
    return nn.Sequential(
        nn.Linear(in_features, rank, bias=False), nn.Linear(rank, out_features, bias=False)
    )
