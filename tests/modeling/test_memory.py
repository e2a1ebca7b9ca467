"""Memories of snapshots. Oracle: a ``collections.deque`` of normalized tables."""

import copy
from collections import deque

import pytest
import torch

from vireid_plugins.modeling.memory import SnapshotMemory

C, D = 3, 4


def unit(table):
    """Rows of length 1, one by one."""
    return torch.stack([row / row.square().sum().sqrt() for row in table])


def newest(memory):
    """The snapshot that was taken last."""
    return memory.snapshots[(int(memory.num_taken) - 1) % memory.capacity]


def as_set(tables):
    """Tables in an order that depends on their numbers only."""
    return sorted(table.flatten().tolist() for table in tables)


@pytest.mark.parametrize("capacity", [1, 2, 5])
@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("delay", [0, 4])
def test_equals_a_queue(capacity, interval, delay):
    memory, queue = SnapshotMemory(capacity, C, D, interval, delay), deque(maxlen=capacity)
    assert memory.read().shape == (0, C, D)
    for push in range(20):
        table = torch.randn(C, D)
        due = push >= delay and (push - delay) % interval == 0
        assert memory.push(table) == due
        if due:
            queue.append(unit(table))
        assert memory.num_held == len(memory.read()) == len(queue)
        torch.testing.assert_close(torch.tensor(as_set(memory.read())), torch.tensor(as_set(queue)))
        if queue:
            torch.testing.assert_close(newest(memory), queue[-1])


def test_what_it_holds_is_constant_and_its_own():
    """No graph, and no memory shared with the table that was pushed."""
    memory, table = SnapshotMemory(2, C, D), torch.randn(C, D, requires_grad=True)
    memory.push(table * 2)
    expected = unit(table.detach())
    assert not memory.read().requires_grad
    with torch.no_grad():
        table.zero_()
    torch.testing.assert_close(newest(memory), expected)
    memory.push(torch.zeros(C, D))  # a row of zeros has no direction
    assert torch.equal(newest(memory), torch.zeros(C, D))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tables_of_any_precision_are_kept_in_float32(dtype):
    """Large halves, whose squares overflow, too."""
    memory, table = SnapshotMemory(1, C, D), (1e3 * torch.randn(C, D)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        memory.push(table)
    assert memory.read().dtype is torch.float32
    torch.testing.assert_close(newest(memory), unit(table.double()).float())


def test_its_state_is_in_its_buffers():
    """A copy loaded in the middle, between two snapshots, goes on alike."""
    memory = SnapshotMemory(3, C, D, interval=2, delay=1)
    tables = torch.randn(12, C, D)
    for table in tables[:7]:
        memory.push(table)
    resumed = SnapshotMemory(3, C, D, interval=2, delay=1)
    resumed.load_state_dict(copy.deepcopy(memory.state_dict()))
    for table in tables[7:]:
        assert memory.push(table) == resumed.push(table)
        assert torch.equal(memory.read(), resumed.read())
    assert list(memory.parameters()) == []
    assert memory.state_dict().keys() == {"snapshots", "num_taken", "num_pushed"}


def test_reset_makes_it_as_new():
    memory = SnapshotMemory(2, C, D, delay=1)
    for _ in range(4):
        memory.push(torch.randn(C, D))
    memory.reset()
    new = SnapshotMemory(2, C, D, delay=1).state_dict()
    assert all(torch.equal(value, new[name]) for name, value in memory.state_dict().items())


def test_it_takes_what_its_docstring_says_and_no_more():
    """395 identities x 2048 features x 4 bytes = 3.24 MB a snapshot, also after many pushes."""
    memory = SnapshotMemory(2, 395, 2048)
    assert memory.num_bytes == 2 * 3_235_840
    place = memory.snapshots.data_ptr()
    for _ in range(5):
        memory.push(torch.ones(395, 2048))
    assert memory.num_bytes == 2 * 3_235_840 and memory.snapshots.data_ptr() == place


def test_a_push_between_forward_and_backward_is_refused():
    memory, features = SnapshotMemory(1, C, D), torch.randn(2, D, requires_grad=True)
    memory.push(torch.randn(C, D))
    value = (features @ memory.read()[0].t()).sum()
    memory.push(torch.randn(C, D))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize(
    "name,value", [("capacity", 0), ("num_rows", 0), ("dim", 0), ("interval", 0), ("delay", -1)]
)
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"SnapshotMemory: {name} must be .*; got {value}"):
        SnapshotMemory(**{"capacity": 1, "num_rows": C, "dim": D, name: value})


def test_tables_of_other_shapes_are_refused():
    memory = SnapshotMemory(2, C, D)
    with pytest.raises(ValueError, match=r"tables of \(3, 4\) rows and features; got \(4, 3\)"):
        memory.push(torch.randn(D, C))
    assert memory.num_held == 0 and int(memory.num_pushed) == 0


def test_the_cosine_is_that_of_the_oldest_and_the_newest():
    """Before the memory is full, when it has just been filled, and after it has dropped some."""
    memory, queue = SnapshotMemory(3, C, D), deque(maxlen=3)
    assert memory.cosine() is None
    for push in range(8):
        table = torch.randn(C, D)
        memory.push(table)
        queue.append(unit(table))
        if push == 0:
            assert memory.cosine() is None
            continue
        expected = sum(float(a @ b) for a, b in zip(queue[0], queue[-1])) / C
        assert float(memory.cosine()) == pytest.approx(expected, abs=1e-6)
    alone = SnapshotMemory(1, C, D)
    alone.push(torch.randn(C, D))
    alone.push(torch.randn(C, D))
    assert alone.cosine() is None
