"""Cascaded aggregation: gather camera sub-classes, then identities, and push identities apart.

MSCLNet (Zhang et al., ECCV 2022), whose equations are numbered here.

Shapes: B rows, D feature size, S sub-classes, P identities.
"""

from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor

from ...keys import SWITCH, Key, at_least, declare, one_of
from ...modality import group_means
from ...registry import LOSS_REGISTRY
from ..precision import at_least_float32, without_autocast
from .base import Loss, full_precision, require_modalities, require_rows
from .pairs import pairwise_distances, unit, zero_of


class CascadeTerms(NamedTuple):
    """The three terms, each multiplied by its weight; scalars."""

    sub: Tensor
    intra: Tensor
    inter: Tensor


declare(
    "MODEL.LOSSES.CASCADED_AGGREGATION",
    Key(
        "FEATURE",
        "features",
        one_of("features", "bn_features"),
        "feature that is gathered: as MODEL.HEADS.NECK_FEAT chooses, or after batch norm",
    ),
    Key("NORMALISE", True, SWITCH, "scale features to length 1; False: as printed"),
    Key("DISPERSION", "hinge", one_of("hinge", "literal"), "form of L_inter; literal: as printed"),
    Key("MARGIN", 1.0, at_least(0), "distance of centers at which hinge stops pushing"),
    Key("SUB_SCALE", 1.0, at_least(0), "weight of L_sub"),
    Key("INTRA_SCALE", 1.0, at_least(0), "weight of L_intra"),
    Key("INTER_SCALE", 1.0, at_least(0), "weight of L_inter"),
    Key("SCALE", 1.0, at_least(0), "weight of all three terms; 0: off"),
)


@LOSS_REGISTRY.register()
class CascadedAggregationLoss(Loss):
    """L_sub + L_intra + L_inter (Eq. 13), each under a weight.

    A sub-class is the images of one identity by one camera. Camera numbers alone do not separate
    them (in LLCM one number films in both modalities), so the modality counts as well: in RegDB,
    with one camera of each kind, a sub-class is an identity in one modality. C_s and C_y are the
    means over the rows of a sub-class and of an identity in the batch.

    - L_sub (Eq. 10): mean over rows of ``|f_i - C_s(i)|^2``.
    - L_intra (Eq. 11): mean over rows of the sum over the sub-classes of the row's identity of
      ``|C_s - C_y|^2``.
    - L_inter (Eq. 12) pushes the identities' centers apart, see ``dispersion``.

    The paper prints distances of features of any length. Then L_sub + L_intra + L_inter grows with
    the square of that length: it has no lower bound where identities are far apart, and goes to 0
    with vanishing features where they are not. No other loss fixes the length, because a batch
    norm comes before the identity loss. ``normalise`` makes every feature a unit vector first.

    L_inter is 0 in a batch with one identity, and L_sub is 0 if every sub-class has one row.

    Args:
        normalise: use L2-normalized features; False: features as they are, as printed.
        dispersion: ``"literal"``: as printed, ``-1 / C(B, 2) sum_i sum_(j != i)
            |C_y(i) - C_y(j)|^2`` over rows i, j, which counts each pair twice. Of unit features it
            is at least ``-4 B / (B - 1)``. It pushes far identities more than near ones, and
            identities that share a center may reach the bound. ``"hinge"``: mean over pairs of
            identities of ``[margin - d]_+^2``, where d is the distance of their L2-normalized
            centers: only near identities are pushed, the nearest most.
        margin: margin of ``"hinge"``, 0 or more; 1 is an angle of 60 degrees.
        sub_scale, intra_scale, inter_scale: weights, 0 or more.
        feature: the feature of the head that is gathered: ``"features"``, as
            ``MODEL.HEADS.NECK_FEAT`` chooses, or ``"bn_features"``, after batch norm. Before batch
            norm all entries are positive, and L2-normalized centers are close to each other.

    Raises:
        UserError: a word is unknown, or a number is negative.
    """

    inputs = ("features", "targets", "camids", "modalities")
    log_name = "loss_cascaded_aggregation"
    config_node = "CASCADED_AGGREGATION"

    def __init__(
        self,
        normalise: bool = True,
        dispersion: str = "hinge",
        margin: float = 1.0,
        sub_scale: float = 1.0,
        intra_scale: float = 1.0,
        inter_scale: float = 1.0,
        feature: str = "features",
    ) -> None:
        super().__init__()
        self.check(feature=feature, dispersion=dispersion, margin=margin)
        self.check(sub_scale=sub_scale, intra_scale=intra_scale, inter_scale=inter_scale)
        self.feature = feature
        self.inputs = (feature, *type(self).inputs[1:])
        self.normalise, self.dispersion, self.margin = normalise, dispersion, margin
        self.sub_scale, self.intra_scale, self.inter_scale = sub_scale, intra_scale, inter_scale

    @full_precision
    def forward(
        self,
        x: Tensor,
        targets: Tensor,
        camids: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> Tensor:
        """Return the sum of :meth:`terms`, a scalar."""
        sub, intra, inter = self.terms(x, targets, camids, modalities)
        return sub + intra + inter

    def terms(
        self,
        x: Tensor,
        targets: Tensor,
        camids: Optional[Tensor] = None,
        modalities: Optional[Tensor] = None,
    ) -> CascadeTerms:
        """Compute the three terms of features ``x`` (B, D), each (B,) label given.

        Raises:
            UserError: a label is missing, has another length, or a modality is unknown.
        """
        name = type(self).__name__
        x = at_least_float32(x)
        camids = require_rows(name, "camids", camids, len(x))
        modalities = require_modalities(name, modalities, len(x))
        if len(x) < 2:
            return CascadeTerms(zero_of(x), zero_of(x), zero_of(x))
        with without_autocast(x):
            x = unit(x) if self.normalise else x
            identities = group_means(x, targets)
            subclasses = group_means(x, targets, modalities, camids)
            to_subclass = x - subclasses.features[subclasses.group_of]
            sub = to_subclass.square().sum(dim=1).mean()  # Eq. (10)
            counts = torch.bincount(identities.group_of)  # B in all
            owner = torch.searchsorted(
                identities.labels[:, 0].contiguous(), subclasses.labels[:, 0].contiguous()
            )
            to_identity = (subclasses.features - identities.features[owner]).square().sum(dim=1)
            intra = (counts[owner] * to_identity).sum() / len(x)  # Eq. (11)
            inter = self._dispersion(identities.features, counts.to(x.dtype))  # Eq. (12)
        return CascadeTerms(
            self.sub_scale * sub, self.intra_scale * intra, self.inter_scale * inter
        )

    def _dispersion(self, centers: Tensor, counts: Tensor) -> Tensor:
        """Compute L_inter of the identities' centers (P, D), with their numbers of rows (P,)."""
        if len(centers) < 2:
            return zero_of(centers)
        if self.dispersion == "literal":
            rows = counts.sum()
            squares = pairwise_distances(centers).square()
            return -(counts @ squares @ counts) / (rows * (rows - 1) / 2)
        distances = pairwise_distances(unit(centers))
        below = F.relu(self.margin - distances).square()
        return below.triu(diagonal=1).sum() / (len(centers) * (len(centers) - 1) / 2)
