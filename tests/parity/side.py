"""One side of a comparison, and ten steps of it."""

import contextlib
from dataclasses import dataclass
from typing import Callable, Dict, List
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 10


@dataclass
class Side:
    """Something that is trained.

    Attributes:
        tensors: parameters and statistics by their public names, as they are now.
        step: takes the number of a step, from 0, takes the step, and returns the loss terms.
    """

    tensors: Callable[[], Dict[str, Tensor]]
    step: Callable[[int], Dict[str, float]]


@dataclass
class Trace:
    """What ten steps did.

    Attributes:
        terms: the values of each loss term, one for each step.
        changes: each tensor after the last step minus the tensor before the first.
    """

    terms: Dict[str, List[float]]
    changes: Dict[str, Tensor]


def trace(side: Side) -> Trace:
    """Take ten steps."""
    before = {name: value.detach().clone() for name, value in side.tensors().items()}
    terms: Dict[str, List[float]] = {}
    for number in range(STEPS):
        for name, value in side.step(number).items():
            terms.setdefault(name, []).append(value)
    with torch.no_grad():
        changes = {name: value - before[name] for name, value in side.tensors().items()}
    return Trace(terms, changes)


@contextlib.contextmanager
def in_float64():
    """Let new tensors be float64; generators draw other numbers then, the same for both sides."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(nn.Conv2d, "_conv_forward", matrix_convolution):
            yield
    finally:
        torch.set_default_dtype(before)


def matrix_convolution(self, x, weight, bias):
    """Compute what ``nn.Conv2d`` does, with one matrix product for all images.

    PyTorch takes image by image in float64, which is four times slower for small maps.
    """
    height, width = (
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, pad, dilation, kernel, stride in zip(
            x.shape[2:], self.padding, self.dilation, self.kernel_size, self.stride
        )
    )
    columns = F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)
    found = weight.flatten(1) @ columns.transpose(0, 1).flatten(1)  # (out, B * H * W)
    found = found.view(len(weight), len(x), height, width).transpose(0, 1)
    return found if bias is None else found + bias.view(-1, 1, 1)
