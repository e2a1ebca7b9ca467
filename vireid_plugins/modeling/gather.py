"""Gather the rows of all processes in one tensor, with gradients, for losses that compare images.

W processes, B rows of a batch on each, V views of each row that a method makes by itself.
"""

from typing import Any, Dict, Tuple

import torch
import torch.distributed as dist
from torch import Tensor

from fastreid.utils import comm

from ..errors import UserError


class _GatherRows(torch.autograd.Function):
    """Turn (V * B, ...) of each process into (V * W * B, ...), view after view, on all of them.

    Every process computes the same loss from the same gathered rows, so each process knows the
    gradient of its own rows without asking the others. DDP sums the gradients of all processes
    and divides by W, so the gradient is multiplied by W here. The parameters of the
    loss itself (a classifier, centers) have the whole gradient on every process, and the mean of
    equal gradients is that gradient.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, num_views: int) -> Tensor:
        ctx.num_views = num_views
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows)
        views = [part.view(num_views, -1, *part.shape[1:]) for part in parts]
        return torch.cat(views, dim=1).flatten(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, None]:
        world_size = dist.get_world_size()
        shape = (ctx.num_views, world_size, -1, *gradient.shape[1:])
        by_process = gradient.reshape(shape)
        return by_process[:, dist.get_rank()].flatten(0, 1) * world_size, None


def gather_rows(rows: Tensor, num_views: int = 1) -> Tensor:
    """Return the rows of all processes, in the order of ranks; this process's rows get gradients.

    Every process must give rows of the same shape, call this equally often, compute the same loss
    from the result and average the gradients of its parameters with the others, as DDP does. One
    step then equals the step of a single process with all rows. With one process ``rows`` are
    returned.

    Args:
        rows: (V * B, ...), view after view.
        num_views: V.

    Returns:
        (V * W * B, ...), view after view.
    """
    if comm.get_world_size() == 1:
        return rows
    return _GatherRows.apply(rows, num_views)


def mean_of_processes(values: Tensor) -> Tensor:
    """Return the mean over all processes of ``values``, (...), without a gradient.

    Every process must call this equally often, with values of the same shape.
    """
    return gather_rows(values.detach()[None]).mean(dim=0)


def gather_outputs(outputs: Dict[str, Any], num_rows: int, owner: str) -> Dict[str, Any]:
    """Gather every tensor of ``outputs`` by :func:`gather_rows`; keep everything else.

    Args:
        outputs: tensors by name, (B, ...) or, view after view, (V * B, ...).
        num_rows: B.
        owner: the class that made them, for messages.

    Raises:
        UserError: the number of rows of a tensor is not a multiple of B.
    """
    gathered = {}
    for name, value in outputs.items():
        if isinstance(value, Tensor):
            if value.ndim == 0 or len(value) == 0 or len(value) % num_rows:
                raise UserError(
                    f"MODEL.LOSSES.GATHER_FEATURES joins the rows of all processes, but the "
                    f"output {name!r} of {owner} has the shape {tuple(value.shape)} for a batch of "
                    f"{num_rows}; expected {num_rows} rows, or a multiple, view after view. Set "
                    "MODEL.LOSSES.GATHER_FEATURES False for this method."
                )
            value = gather_rows(value, len(value) // num_rows)
        gathered[name] = value
    return gathered
