"""Mogrifier LSTM. Oracles: the paper's recurrences in plain Python, number by number;
``torch.nn.LSTMCell`` and ``torch.nn.LSTM`` with the same weights; finite differences."""

import math

import pytest
import torch

from vireid_plugins.modeling.layers import MogrifierLSTM, MogrifierLSTMCell

I, H = 3, 4  # noqa: E741


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector)) for row in matrix]


def gate_matrix(gate):
    """Q^i or R^i as lists of rows, multiplied out where it has two factors."""
    if isinstance(gate, torch.nn.Sequential):
        return (gate[1].weight @ gate[0].weight).tolist()
    return gate.weight.tolist()


def step_by_loop(cell, x, h, c):
    """One step of one sequence: lists of numbers, as arXiv 1909.01792 prints it."""
    for i, gate in enumerate(cell.gates, start=1):
        if i % 2 == 1:  # x^i = 2 sigmoid(Q^i h^(i-1)) * x^(i-2)
            x = [2 * sigmoid(g) * v for g, v in zip(times(gate_matrix(gate), h), x)]
        else:  # h^i = 2 sigmoid(R^i x^(i-1)) * h^(i-2)
            h = [2 * sigmoid(g) * v for g, v in zip(times(gate_matrix(gate), x), h)]
    of_input, of_state = times(cell.weight_ih.tolist(), x), times(cell.weight_hh.tolist(), h)
    biases = zip(cell.bias_ih.tolist(), cell.bias_hh.tolist())
    gates = [a + b + p + q for a, b, (p, q) in zip(of_input, of_state, biases)]
    enter, keep, candidate, leave = (gates[k * H : k * H + H] for k in range(4))
    c = [
        sigmoid(f) * old + sigmoid(i) * math.tanh(g)
        for f, old, i, g in zip(keep, c, enter, candidate)
    ]
    return [sigmoid(o) * math.tanh(new) for o, new in zip(leave, c)], c


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("rounds", range(6))
def test_equals_the_loop(rounds, rank):
    """Four steps of two sequences; gates far from 1, so that each round shows."""
    model = MogrifierLSTM(I, H, rounds, rank).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    inputs = torch.randn(2, 4, I, dtype=torch.float64)
    found = model(inputs)
    for sequence, states in zip(inputs.tolist(), found):
        h, c = [0.0] * H, [0.0] * H
        for x, state in zip(sequence, states):
            h, c = step_by_loop(model.cell, x, h, c)
            assert state.tolist() == pytest.approx(h)


def test_without_rounds_it_is_the_ordinary_lstm():
    """The same weights under the same names: a step, its gradient, and a whole sequence."""
    ours, theirs = MogrifierLSTMCell(I, H, rounds=0), torch.nn.LSTMCell(I, H)
    theirs.load_state_dict(ours.state_dict())
    x, h, c = torch.randn(5, I), torch.randn(5, H), torch.randn(5, H)
    for found, expected in zip(ours(x, (h, c)), theirs(x, (h, c))):
        torch.testing.assert_close(found, expected)
    sum(s.square().sum() for s in ours(x, (h, c))).backward()
    sum(s.square().sum() for s in theirs(x, (h, c))).backward()
    for (name, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters()):
        assert name == other
        torch.testing.assert_close(p.grad, q.grad)
    layer, sequence = MogrifierLSTM(I, H, rounds=0), torch.randn(5, 7, I)
    whole = torch.nn.LSTM(I, H, batch_first=True)
    whole.load_state_dict(
        {name.replace("cell.", "") + "_l0": w for name, w in layer.state_dict().items()}
    )
    torch.testing.assert_close(layer(sequence), whole(sequence)[0])


def test_it_starts_as_the_ordinary_lstm():
    cell, theirs = MogrifierLSTMCell(50, 64), torch.nn.LSTMCell(50, 64)
    for name, parameter in theirs.named_parameters():
        ours = getattr(cell, name)
        assert ours.shape == parameter.shape and ours.abs().max() <= 64**-0.5
        torch.testing.assert_close(ours.std(), parameter.std(), rtol=0.2, atol=0.0)


def test_the_first_step_sees_no_state():
    """2 sigmoid(Q 0) = 1, and R gates a state of zeros: no round changes the first step."""
    with_rounds, without = MogrifierLSTMCell(I, H, 5), MogrifierLSTMCell(I, H, 0)
    without.load_state_dict(with_rounds.state_dict(), strict=False)
    x = torch.randn(5, I)
    first, plain = with_rounds(x), without(x)
    torch.testing.assert_close(first, plain)
    torch.testing.assert_close(with_rounds(x, (torch.zeros(5, H), torch.zeros(5, H))), first)
    assert not torch.allclose(with_rounds(x, first)[0], without(x, plain)[0])


def test_low_rank_matrices_are_thin():
    cell = MogrifierLSTMCell(20, 30, rounds=5, rank=3)
    matrices = [torch.tensor(gate_matrix(gate)) for gate in cell.gates]
    assert [tuple(m.shape) for m in matrices] == [(20, 30), (30, 20)] * 2 + [(20, 30)]
    assert all(torch.linalg.matrix_rank(m) == 3 for m in matrices)
    assert sum(p.numel() for p in cell.gates.parameters()) == 5 * 3 * (20 + 30)
    full = MogrifierLSTMCell(20, 30, rounds=5)
    assert sum(p.numel() for p in full.gates.parameters()) == 5 * 20 * 30


@pytest.mark.parametrize("rank", [0, 1])
def test_gradient(rank):
    model = MogrifierLSTM(I, H, 3, rank).double()
    inputs = torch.randn(2, 3, I, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, inputs)
    model(inputs).sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.parameters())


def test_half_precision_keeps_the_state_in_float32():
    model, inputs = MogrifierLSTM(I, H, 5, 2), torch.randn(4, 6, I)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(inputs.bfloat16())
    assert found.dtype is torch.float32
    torch.testing.assert_close(found, model(inputs), rtol=0.05, atol=0.02)


def test_no_sequence_gives_no_state_in_the_graph():
    model = MogrifierLSTM(I, H, 5, 2)
    found = model(torch.zeros(0, 6, I))
    assert found.shape == (0, 6, H)
    found.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    "sizes,words",
    [
        ((0, 4, 1, 0), "at least 1, rounds and rank at least 0; got 0, 4, 1, 0"),
        ((3, 4, -1, 0), "got 3, 4, -1, 0"),
        ((3, 4, 1, 3), "rank must be below input_size .3. and hidden_size .4.*got 3"),
    ],
)
def test_sizes_are_checked(sizes, words):
    with pytest.raises(ValueError, match=words):
        MogrifierLSTMCell(*sizes)
