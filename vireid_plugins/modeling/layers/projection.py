"""A linear layer to fewer features, which begins with the principal axes of its input.

R rows, D features, E of them after the layer.
"""

import torch
from torch import Tensor, nn


class Projection(nn.Linear):
    """A linear layer without bias, whose rows are orthonormal at first.

    Args:
        inputs: D.
        outputs: E, at most D.
    """

    is_set: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        nn.init.orthogonal_(self.weight)
        self.register_buffer("is_set", torch.tensor(False))

    @torch.no_grad()
    def begin_with(self, features: Tensor) -> None:
        """Set the weight to the principal axes of ``features`` (R, D); later calls do nothing.

        They are the eigenvectors of the mean of ``f f^T`` that keep most of all inner products.
        """
        if bool(self.is_set):
            return
        rows = features.double()
        _, axes = torch.linalg.eigh(rows.T @ rows / len(rows))  # ascending eigenvalues
        largest = axes.flip(1)[:, : self.out_features].T
        signs = largest.gather(1, largest.abs().argmax(1, keepdim=True)).sign()
        self.weight.copy_(largest * signs)
        self.is_set.fill_(True)
