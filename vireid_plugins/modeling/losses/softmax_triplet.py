"""Softmax-triplet loss of MMT, hard and soft (Ge et al., ICLR 2020, arXiv 2001.01526).

Public code: yxgeee/MMT, commit 057e1ea, ``mmt/loss/triplet.py``, ``SoftTripletLoss``. Shapes: B
rows, D feature size, A anchors.
"""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ...keys import Key, at_least, declare
from ...registry import LOSS_REGISTRY
from ..precision import at_least_float32, without_autocast
from .base import Loss, full_precision
from .pairs import (
    anchor_rows,
    farthest,
    hardest_rows,
    nearest,
    pair_masks,
    pairwise_distances,
    zero_of,
)

declare(
    "MODEL.LOSSES.SOFTMAX_TRIPLET",
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class SoftmaxTripletLoss(Loss):
    """Mean over anchors of ``-log T``, ``T = exp(d_n) / (exp(d_p) + exp(d_n))``.

    d_p is the distance to the farthest row of the anchor's identity, d_n that to the nearest row of
    another one. With ``z = d_p - d_n`` the term is ``softplus(z)``: a soft margin. An anchor
    without another row of its identity, or without a row of another identity, is left out.
    """

    log_name = "loss_softmax_triplet"
    config_node = "SOFTMAX_TRIPLET"

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, modalities: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of features ``x`` (B, D) with ``targets`` (B,), a scalar."""
        positives, negatives = pair_masks(targets)
        anchors = anchor_rows(positives, negatives)
        if len(anchors) == 0:
            return zero_of(x)
        distances = pairwise_distances(x)[anchors]
        hardest_positive = farthest(distances, positives[anchors])
        hardest_negative = nearest(distances, negatives[anchors])
        return F.softplus(hardest_positive - hardest_negative).mean()


def soft_softmax_triplet(features: Tensor, reference: Tensor, targets: Tensor) -> Tensor:
    """Compute the binary cross-entropy of T with that of another network as soft label, a scalar.

    The rows of each triplet are chosen by ``features``; T of ``reference`` is computed for the same
    rows, and gets no gradient.

    Args:
        features: (B, D), of the network that learns.
        reference: (B, D'), of the other network.
        targets: (B,).
    """
    features, reference = at_least_float32(features), at_least_float32(reference.detach())
    with without_autocast(features):
        anchors, positive, negative = hardest_rows(features, targets)
        if len(anchors) == 0:
            return zero_of(features)
        own = _difference(pairwise_distances(features), anchors, positive, negative)
        other = _difference(pairwise_distances(reference), anchors, positive, negative)
        # T = sigmoid(-z): the label of "the negative is farther" is that of the other network.
        return F.binary_cross_entropy_with_logits(-own, torch.sigmoid(-other))


def _difference(distances: Tensor, anchors: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return d_p - d_n of triplets of rows, (A,)."""
    return distances[anchors, positive] - distances[anchors, negative]
