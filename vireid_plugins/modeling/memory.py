"""Memories: the last few states of something that changes, kept as constants for a loss.

S snapshots at most, C rows in each (identities, say), d features in a row.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import raised


class SnapshotMemory(nn.Module):
    """The last S snapshots of a table of C rows of d features; the oldest makes room first.

    Rows are kept at length 1, apart from any graph. The whole state lies in buffers, so that
    checkpoints carry it and a resumed run goes on with it; it takes ``S * C * d`` numbers of 4
    bytes, filled or not (in a model cast to another precision, of that precision), which each
    checkpoint grows by. What all processes push alike, such as weights after the optimizer's
    step, they hold alike, without being gathered.

    Push between two training steps (``DualStreamBaseline.after_step``), never between a forward
    pass that read the memory and its backward pass: autograd would refuse.

    Args:
        capacity: S, 1 or more.
        num_rows: C, 1 or more.
        dim: d, 1 or more.
        interval: of ``interval`` pushes in a row the first is taken, 1 or more.
        delay: pushes passed over before the first that is taken, 0 or more.

    Attributes:
        snapshots: (S, C, d) float32, zeros where nothing was written yet; see :meth:`read`.
        num_taken: () int64, snapshots taken so far, those that had to go included.
        num_pushed: () int64, pushes so far, those passed over included.

    Raises:
        ValueError: a number is out of range; in ``push``: the table has another shape.
    """

    def __init__(
        self, capacity: int, num_rows: int, dim: int, interval: int = 1, delay: int = 0
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("capacity", capacity, 1),
            ("num_rows", num_rows, 1),
            ("dim", dim, 1),
            ("interval", interval, 1),
            ("delay", delay, 0),
        ):
            if value < least:
                raise ValueError(f"SnapshotMemory: {name} must be {least} or more; got {value}.")
        self.capacity, self.interval, self.delay = capacity, interval, delay
        self.register_buffer("snapshots", torch.zeros(capacity, num_rows, dim))
        self.register_buffer("num_taken", torch.zeros((), dtype=torch.int64))
        self.register_buffer("num_pushed", torch.zeros((), dtype=torch.int64))

    @property
    def num_held(self) -> int:
        """Snapshots that can be read: 0 at first, at most S."""
        return min(int(self.num_taken), self.capacity)

    @property
    def num_bytes(self) -> int:
        """What the snapshots take, filled or not."""
        return self.snapshots.numel() * self.snapshots.element_size()

    @torch.no_grad()
    def push(self, rows: Tensor) -> bool:
        """Take up a table (C, d), or pass it over, as ``interval`` and ``delay`` have it.

        Returns:
            Whether it was taken.
        """
        if rows.shape != self.snapshots.shape[1:]:
            raise ValueError(
                f"SnapshotMemory holds tables of {tuple(self.snapshots.shape[1:])} rows and "
                f"features; got {tuple(rows.shape)}."
            )
        turn = int(self.num_pushed) - self.delay
        self.num_pushed += 1
        if turn < 0 or turn % self.interval:
            return False
        self.snapshots[int(self.num_taken) % self.capacity] = F.normalize(raised(rows), dim=1)
        self.num_taken += 1
        return True

    def reset(self) -> None:
        """Forget all snapshots and pushes."""
        for buffer in self.buffers():
            buffer.zero_()

    def read(self) -> Tensor:
        """The snapshots held, (``num_held``, C, d), without a copy: read only, in no order."""
        return self.snapshots[: self.num_held]

    def newest(self) -> Tensor:
        """The snapshot taken last, (C, d).

        Raises:
            ValueError: there is none yet.
        """
        if self.num_held == 0:
            raise ValueError("The memory is empty: there is no newest snapshot.")
        return self.snapshots[(int(self.num_taken) - 1) % self.capacity]

    def extra_repr(self) -> str:
        return f"{tuple(self.snapshots.shape)}, interval={self.interval}, delay={self.delay}"
