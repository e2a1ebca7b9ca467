"""Activation checkpointing: compute a part again for the gradient, instead of keeping its results.

It costs about a third more time and changes no number: losses, gradients and running statistics
are the same as without it.
"""

import contextlib
from typing import Callable, Iterator, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

_T = TypeVar("_T")


def recomputed(part: Callable[..., _T], owner: nn.Module, *inputs: Tensor) -> _T:
    """Return ``part(*inputs)``; only ``inputs`` are kept for the backward pass.

    The backward pass runs ``part`` a second time, with the random draws (dropout) and the autocast
    of the first time. Without gradients this is a plain call.

    Args:
        part: a function of the parameters of ``owner`` and of ``inputs``.
        owner: the module whose batch norm must count each batch only once.
    """
    if not torch.is_grad_enabled():
        return part(*inputs)
    passes = 0

    def once_or_again(*tensors: Tensor) -> _T:
        nonlocal passes
        passes += 1
        if passes == 1:
            return part(*tensors)
        with statistics_kept(owner):
            return part(*tensors)

    return checkpoint(once_or_again, *inputs, use_reentrant=False)


def checkpoint_parts(module: nn.Module, on: bool = True) -> None:
    """Let all parts of a module keep only their inputs for the backward pass.

    A part is a module with the attribute ``checkpointed``, which calls :func:`recomputed` if that
    is True.
    """
    for part in module.modules():
        if hasattr(part, "checkpointed"):
            setattr(part, "checkpointed", on)  # noqa: B010  its type is not known here


@contextlib.contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let batch norm normalize as in training, and keep its running statistics as they are.

    The statistics are updated with a momentum of 0, because the second pass must keep the same
    tensors for the gradient as the first.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked = norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, kept):
            norm.momentum, norm.num_batches_tracked = momentum, counter
