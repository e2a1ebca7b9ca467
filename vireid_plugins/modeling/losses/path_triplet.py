"""The local triplet loss of CM-LSP-GE (Wang, Li, Ma, 2022, arXiv 2206.04401).

Shapes: B rows, A anchors, R stripes of S features, D feature size, T distances of a pair (1 or R).
"""

from typing import List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError
from ...keys import Key, at_least, declare, one_of
from ...modality import group_means
from ...registry import LOSS_REGISTRY
from ..layers.path_distance import REDUCTIONS, aligned_path_distances, path_distances
from ..precision import at_least_float32
from .base import Loss, full_precision
from .pairs import anchor_rows, farthest, nearest, pair_masks, pairwise_distances, zero_of

declare(
    "MODEL.LOSSES.PATH_TRIPLET",
    Key("MARGIN", 0.3, at_least(0), "margin (m_l); its unit depends on REDUCTION"),
    Key("DISTANCE", "path", one_of("path", "stripes"), "shortest path, or by stripes (paper)"),
    Key("MINING", "global", one_of("global", "local"), "features that choose the hardest rows"),
    Key("REDUCTION", "mean", one_of(*REDUCTIONS), "over a stripe's channels; in the paper: sum"),
    Key("SCALE", 1.0, at_least(0), "weight in the sum of losses"),
)


@LOSS_REGISTRY.register()
class PathTripletLoss(Loss):
    """Mean over anchors of ``[margin + S(a, p) - S(a, n)]_+`` with S, the path distance of stripes.

    Positives and negatives come from both modalities. An anchor without another row of its
    identity, or without a row of another identity, is left out of the mean. The paper prints a
    sum over anchors, per-stripe distances, and no hinge.

    Args:
        margin: m_l, in units of the distance.
        distance: ``"path"``: S, the shortest path (``layers/path_distance.py``); ``"stripes"``:
            as printed, the Euclidean distance of each stripe to the same stripe, with a hinge of
            its own, summed over the stripes.
        mining: ``"global"``: p is the anchor's farthest positive and n its nearest negative by
            the Euclidean distance of the global features (as in AlignedReID); ``"local"``: by
            the local distance itself, as printed (with ``"stripes"``, for each stripe by itself).
            Rows at the same global distance share their place.
        reduction: of the channels in S, ``"mean"`` or ``"sum"`` (as printed).

    Raises:
        UserError: a word is unknown.
    """

    inputs = ("stripe_features", "targets", "features")
    log_name = "loss_path_triplet"
    config_node = "PATH_TRIPLET"

    def __init__(
        self,
        margin: float = 0.3,
        distance: str = "path",
        mining: str = "global",
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.check(distance=distance, mining=mining, reduction=reduction)
        self.margin, self.distance, self.mining = margin, distance, mining
        self.reduction = reduction

    @full_precision
    def forward(self, x: Tensor, targets: Tensor, features: Optional[Tensor] = None) -> Tensor:
        """Compute the loss of stripe features ``x`` (B, R, S) with ``targets`` (B,), a scalar.

        Args:
            features: (B, D) global features, needed by ``mining="global"``; they get no gradient.

        Raises:
            UserError: ``x`` is not (B, R, S), or ``features`` are missing or have another number of
                rows.
        """
        self._check(x, features)
        positives, negatives = pair_masks(targets)
        anchors = anchor_rows(positives, negatives)
        if len(anchors) == 0:
            return zero_of(x)
        masks = positives[anchors], negatives[anchors]
        if self.mining == "global":
            assert features is not None  # as _check made sure
            to_positive, to_negative = self._by_global(x, anchors, masks, features)
        else:
            to_positive, to_negative = self._by_local(x, anchors, masks)
        terms = F.relu(self.margin + to_positive - to_negative)  # (A, T)
        return terms.sum(dim=1).mean()

    def _check(self, x: Tensor, features: Optional[Tensor]) -> None:
        if x.ndim != 3:
            raise UserError(
                f"PathTripletLoss takes stripe features (B, R, S); got {tuple(x.shape)}."
            )
        if self.mining == "global" and (features is None or features.shape[:-1] != x.shape[:1]):
            came = "None" if features is None else str(tuple(features.shape))
            raise UserError(
                f"PathTripletLoss needs global features (B, D) with B = {len(x)} to find the "
                f"hardest rows by; got {came}. Give them, or set "
                "MODEL.LOSSES.PATH_TRIPLET.MINING 'local'."
            )

    def _by_global(
        self, x: Tensor, anchors: Tensor, masks: Tuple[Tensor, Tensor], features: Tensor
    ) -> List[Tensor]:
        """Return the distances (A, T) to positives and negatives chosen by global features."""
        order = pairwise_distances(at_least_float32(features.detach()))[anchors]
        chosen = []
        for mask, extreme, easier in zip(masks, (farthest, nearest), (torch.lt, torch.gt)):
            # "Equal to the extreme" would be wrong here: where a distance is NaN no row would be
            # left, the loss would be 0, and the trainer would not stop.
            hardest = mask & ~easier(order, extreme(order, mask).unsqueeze(1))
            anchor, other = torch.nonzero(hardest, as_tuple=True)
            distances = self._of_pairs(x[anchors[anchor]], x[other])
            chosen.append(group_means(distances, anchor).features)
        return chosen

    def _by_local(self, x: Tensor, anchors: Tensor, masks: Tuple[Tensor, Tensor]) -> List[Tensor]:
        """Return the largest distances (A, T) to positives and the smallest to negatives."""
        if self.distance == "path":
            distances = path_distances(x, x, self.reduction).unsqueeze(0)
        else:
            distances = torch.stack([pairwise_distances(stripe) for stripe in x.unbind(dim=1)])
        rows = distances[:, anchors].flatten(0, 1)  # (T * A, B)
        return [
            extreme(rows, mask.repeat(len(distances), 1)).view(len(distances), -1).T
            for mask, extreme in zip(masks, (farthest, nearest))
        ]

    def _of_pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances of n pairs (n, R, S): (n, T)."""
        if self.distance == "path":
            return aligned_path_distances(first, second, self.reduction).unsqueeze(1)
        return torch.linalg.vector_norm(first - second, dim=2)
