"""Memories: the last few states of a table that changes, kept as constants for a loss.

S snapshots at most, C rows in each (for example one for each identity), d features in a row.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from .precision import at_least_float32


class SnapshotMemory(nn.Module):
    """The last S snapshots of a table of C rows of d features; a new one replaces the oldest.

    Rows are kept at length 1 and have no graph. The whole state is in buffers, so checkpoints
    carry it and a resumed run continues with it. It takes ``S * C * d`` numbers of 4 bytes (or of
    the size of the precision that the model is cast to), even while it is empty, and every
    checkpoint grows by as much. If all processes push the same table, such as the weights after
    the optimizer's step, all of them hold the same snapshots, and nothing has to be gathered.

    Push between two training steps (``DualStreamBaseline.after_step``), never between a forward
    pass that reads the memory and its backward pass: autograd would raise an error.

    Args:
        capacity: S, 1 or more.
        num_rows: C, 1 or more.
        dim: d, 1 or more.
        interval: one of every ``interval`` pushes is taken, the first of them; 1 or more.
        delay: pushes that are ignored before the first one is taken, 0 or more.

    Attributes:
        snapshots: (S, C, d) float32, zeros where nothing was written yet; see :meth:`read`.
        num_taken: () int64, snapshots taken so far, including those replaced since.
        num_pushed: () int64, pushes so far, including those that were ignored.

    Raises:
        UserError: a number is out of range; in ``push``: the table has another shape.
    """

    snapshots: Tensor
    num_taken: Tensor
    num_pushed: Tensor

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
                raise UserError(f"SnapshotMemory: {name} must be {least} or more; got {value}.")
        self.capacity, self.interval, self.delay = capacity, interval, delay
        self.register_buffer("snapshots", torch.zeros(capacity, num_rows, dim))
        self.register_buffer("num_taken", torch.zeros((), dtype=torch.int64))
        self.register_buffer("num_pushed", torch.zeros((), dtype=torch.int64))

    @property
    def num_held(self) -> int:
        """Return how many snapshots can be read: 0 at first, at most S."""
        return min(int(self.num_taken), self.capacity)

    @property
    def num_bytes(self) -> int:
        """Return the memory of all S snapshots in bytes, filled or not."""
        return self.snapshots.numel() * self.snapshots.element_size()

    @torch.no_grad()
    def push(self, rows: Tensor) -> bool:
        """Take a table (C, d), or ignore it, as ``interval`` and ``delay`` say.

        Returns:
            Whether it was taken.
        """
        if rows.shape != self.snapshots.shape[1:]:
            raise UserError(
                f"SnapshotMemory holds tables of {tuple(self.snapshots.shape[1:])} rows and "
                f"features; got {tuple(rows.shape)}."
            )
        turn = int(self.num_pushed) - self.delay
        self.num_pushed += 1
        if turn < 0 or turn % self.interval:
            return False
        self.snapshots[int(self.num_taken) % self.capacity] = F.normalize(
            at_least_float32(rows), dim=1
        )
        self.num_taken += 1
        return True

    def reset(self) -> None:
        """Forget all snapshots and pushes."""
        for buffer in self.buffers():
            buffer.zero_()

    def cosine(self) -> Optional[Tensor]:
        """Return the mean cosine, (), of the rows of the oldest and of the newest snapshot.

        Near 1, all snapshots are about the same, and the memory adds nothing to its newest one.
        None with fewer than two snapshots.
        """
        taken = int(self.num_taken)
        if self.num_held < 2:
            return None
        oldest = taken % self.capacity if taken >= self.capacity else 0
        newest = (taken - 1) % self.capacity
        return (self.snapshots[oldest] * self.snapshots[newest]).sum(dim=1).mean()

    def read(self) -> Tensor:
        """Return the snapshots, (``num_held``, C, d), in no particular order, not copied."""
        return self.snapshots[: self.num_held]

    def extra_repr(self) -> str:
        return f"{tuple(self.snapshots.shape)}, interval={self.interval}, delay={self.delay}"
