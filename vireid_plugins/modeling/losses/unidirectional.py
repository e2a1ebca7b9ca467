"""MAUM's unidirectional metric (Liu et al., CVPR 2022, doi 10.1109/CVPR52688.2022.01876).

Shapes: B rows, S snapshots, C identities, d feature size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from .base import full_precision, require_choice
from .pairs import unit, zero_of

REDUCTIONS = ("sum", "mean")  # over the snapshots


class UnidirectionalMetricLoss(nn.Module):
    """Draw features of one modality to the proxies of their identity in the other modality.

    For a feature x with the proxies u_i of its identity and v_j of all others, of all snapshots:

        log[1 + sum_j sum_i exp(alpha (v_j.x - u_i.x + delta))]

    averaged over the rows. It is computed as softplus(log sum_j exp(alpha v_j.x) +
    log sum_i exp(-alpha u_i.x) + alpha delta): the same number, whatever the size of the
    exponents, from S * C products a row instead of S * S * (C - 1) pairs. Proxies are constants:
    only features get a gradient, which makes the metric unidirectional.

    It needs proxies, which neither head nor batch provides, so ``MODEL.LOSSES.NAME`` cannot list
    it: a method that keeps proxies (``modeling/memory.py``) calls it.

    Args:
        alpha: scale of the similarities, above 0.
        delta: margin of a similarity, which lies in -1..1.
        reduction: how the snapshots are combined. ``"sum"``: as printed; S equal snapshots add
            2 log S to the exponent, as a larger margin would. ``"mean"``: both inner sums become
            means over the snapshots; S equal snapshots then give the value of one.

    Raises:
        UserError: an argument is out of range.
    """

    def __init__(self, alpha: float = 20.0, delta: float = 0.1, reduction: str = "sum") -> None:
        super().__init__()
        name = type(self).__name__
        if not 0 < alpha < math.inf or not math.isfinite(delta):
            raise UserError(
                f"{name}: alpha must be above 0 and delta finite; got {alpha} and {delta}."
            )
        self.alpha, self.delta = alpha, delta
        self.reduction = require_choice(name, "reduction", reduction, REDUCTIONS)

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, proxies: Tensor) -> Tensor:
        """Compute the loss of features ``x`` (B, d), of any length, a scalar.

        Args:
            x: (B, d).
            targets: (B,) in 0..C-1, the rows of ``proxies``.
            proxies: (S, C, d), each of length 1. Without a snapshot, or with one identity only,
                nothing can be compared and the loss is 0.

        Raises:
            UserError: ``proxies`` has another shape.
        """
        if proxies.ndim != 3 or proxies.shape[2] != x.shape[1]:
            raise UserError(
                f"{type(self).__name__} needs proxies (S, C, d) with d = {x.shape[1]}; got "
                f"{tuple(proxies.shape)}."
            )
        snapshots, identities, _ = proxies.shape
        if snapshots == 0 or identities == 1:
            return zero_of(x)
        constants = proxies.detach().to(x).flatten(0, 1)
        similarities = unit(x) @ constants.t()
        scaled = self.alpha * similarities.view(len(x), snapshots, identities)
        own = F.one_hot(targets, identities).bool().unsqueeze(1)  # (B, 1, C)
        to_others = scaled.masked_fill(own, -torch.inf).flatten(1)  # alpha v_j.x
        to_own = scaled.gather(2, targets.view(-1, 1, 1).expand(-1, snapshots, 1))[..., 0]
        exponent = (
            torch.logsumexp(to_others, dim=1)
            + torch.logsumexp(-to_own, dim=1)
            + self.alpha * self.delta
        )
        if self.reduction == "mean":
            exponent = exponent - 2 * math.log(snapshots)
        return torch.logaddexp(exponent, torch.zeros_like(exponent)).mean()
