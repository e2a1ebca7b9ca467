"""The triplet loss of Hi-CMD: cosines, chosen anchors, and a pull toward +1 and -1.

S. Choi et al., CVPR 2020; bismex/HiCMD, ``trainer.py``, ``apply_triplet_loss_between_features``.
R rows, D feature size.
"""

import torch.nn.functional as F
from torch import Tensor

from ..precision import at_least_float32, without_autocast
from .pairs import zero_of

_EPS = 1e-8  # of the code, added to a feature's length


def pivot_triplet(
    features: Tensor, targets: Tensor, pivots: Tensor, margin: float, pull: float
) -> Tensor:
    """Compare each pivot with its least similar positive and its most similar negative, a scalar.

    With their cosines p and n, it is mean [n + margin - p]_+ + pull (mean (1 + n)^2 +
    mean (1 - p)^2) over the pivots. All rows are candidates; a pivot is its own positive where it
    has no other one. A pivot without a negative is left out; without any pivot the loss is 0.

    Args:
        features: (R, D).
        targets: (R,) identities.
        pivots: (R,) bool, which rows are anchors.
        margin: a cosine.
        pull: weight of the squares.
    """
    features = at_least_float32(features)
    with without_autocast(features):
        directions = features / (features.norm(dim=1, keepdim=True) + _EPS)
        cosines = directions @ directions.T
        same = targets.unsqueeze(1) == targets
        positive = cosines.masked_fill(~same, 2).amin(dim=1)
        negative = cosines.masked_fill(same, -2).amax(dim=1)
        used = (pivots & (~same).any(dim=1)).to(features.dtype)
        terms = F.relu(negative + margin - positive)
        terms = terms + pull * ((1 + negative).square() + (1 - positive).square())
        return (terms * used).sum() / used.sum().clamp(min=1) + zero_of(features)
