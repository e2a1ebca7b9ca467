"""Train one model in several processes: exchange gradients, and keep buffers equal."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastreid.utils import comm


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model itself, without the wrapper of several processes."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def wrap(model: nn.Module) -> nn.Module:
    """Return ``model`` wrapped so that processes average gradients; unchanged if there is one.

    In a turn of several optimizers, most parameters get no gradient.
    """
    if comm.get_world_size() == 1:
        return model
    on_gpu = next(model.parameters()).is_cuda
    some_unused = hasattr(model, "turns_at") or getattr(model, "may_leave_parameters_unused", False)
    return DistributedDataParallel(
        model,
        device_ids=[comm.get_local_rank()] if on_gpu else None,
        broadcast_buffers=False,
        find_unused_parameters=some_unused,
    )


def synchronize_buffers(model: nn.Module) -> None:
    """Copy the buffers of process 0, which writes the checkpoints, to all other processes."""
    if comm.get_world_size() > 1:
        for buffer in unwrap(model).buffers():
            torch.distributed.broadcast(buffer, 0)
