"""Temporal averages of networks: the mean of the weights that a network had, newest first."""

import torch
from torch import nn


@torch.no_grad()
def move_toward(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Set each parameter of ``average`` to ``keep`` times itself plus the rest of ``network``'s.

    Buffers, such as the statistics of batch norm, stay as they are.

    Args:
        average: has the structure of ``network``, or of a part of it.
        network: the network whose weights are averaged.
        keep: from 0 (copy the network) to 1 (change nothing).
    """
    new = dict(network.named_parameters())
    for name, mean in average.named_parameters():
        mean.mul_(keep).add_(new[name], alpha=1 - keep)
