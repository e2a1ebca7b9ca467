"""MRDA's regional center loss (Zhang et al., Laser & Optoelectronics Progress, 2024).

Shapes: B images, C x H x W a shallow feature map.
"""

import math
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError
from ...keys import SWITCH, Key, at_least, declare, one_of
from ...modality import identity_pairs, modality_rows
from ...registry import LOSS_REGISTRY
from ..precision import at_least_float32
from .base import Loss, full_precision, require_modalities
from .pairs import zero_of

declare(
    "MODEL.LOSSES.REGIONAL_CENTER",
    Key("CROSS_TERM", "original", one_of("original", "masked"), "view of both modalities in L_ac"),
    Key("BACKGROUND_SCALE", 0.0, at_least(0), "weight of pushing the background away; 0: off"),
    Key("BACKGROUND_MARGIN", 0.3, at_least(0), "distance to which the background is pushed away"),
    Key("PER_ELEMENT", True, SWITCH, "divide distances of maps by sqrt(C H W); False: as printed"),
    Key("SCALE", 1.0, at_least(0), "weight of L_ac"),
)


@LOSS_REGISTRY.register()
class RegionalCenterLoss(Loss):
    """L_ac (Eq. 7) draws a shallow map to that of the body region, and visible to infrared.

    It is the mean over visible images of |f_original - f_masked|, plus that over infrared images,
    plus the mean over all (visible, infrared) pairs of one identity of |f_visible - f_infrared|.
    The paper prints sums over the batch and pairs images by their number. Images have no such
    pairs, so all pairs of an identity count alike here, and means do not grow with the batch.

    Row i of all maps is one image; the order of images is free. A term without rows is 0. For
    the backward pass one difference of maps is kept for each image and each pair: at 3 identities
    x (6 + 6) and maps of 256 x 72 x 36 about 0.4 GiB.

    Args:
        cross_term: the view in which visible and infrared images are compared: ``"original"``, as
            in the formula, or ``"masked"``, as the paper's text says (the body regions).
        background_scale: weight of the mean over images of
            ``[background_margin - |f_original - f_background|]_+``; the text pushes the
            background away, and Eq. 7 has no such term.
        background_margin: distance, in the unit of ``per_element``.
        per_element: divide distances by sqrt(C * H * W); otherwise they outweigh all other losses.

    Raises:
        UserError: a word is unknown, or a number is negative.
    """

    inputs: Tuple[str, ...] = ("original_map", "targets", "modalities", "masked_map")
    log_name = "loss_regional_center"
    config_node = "REGIONAL_CENTER"

    def __init__(
        self,
        cross_term: str = "original",
        background_scale: float = 0.0,
        background_margin: float = 0.3,
        per_element: bool = True,
    ) -> None:
        super().__init__()
        self.check(
            cross_term=cross_term,
            background_scale=background_scale,
            background_margin=background_margin,
        )
        self.cross_term = cross_term
        self.background_scale = background_scale
        self.background_margin = background_margin
        self.per_element = per_element
        if background_scale > 0:
            self.inputs = (*type(self).inputs, "background_map")

    @full_precision
    def forward(
        self,
        x: Tensor,
        targets: Tensor,
        modalities: Optional[Tensor] = None,
        masked: Optional[Tensor] = None,
        background: Optional[Tensor] = None,
    ) -> Tensor:
        """Compute the loss of the shallow maps ``x`` (B, C, H, W) of the original images, a scalar.

        Args:
            x: (B, C, H, W).
            targets: (B,).
            modalities: (B,), needed.
            masked: (B, C, H, W), maps of the same images' body regions, needed.
            background: (B, C, H, W), maps of their background regions, needed if
                ``background_scale`` > 0.

        Raises:
            UserError: a needed tensor is missing, or has another shape.
        """
        name = type(self).__name__
        modalities = require_modalities(name, modalities, len(x))
        masked = _like(x, masked, "masked")
        to_masked = self._distances(x, masked)
        visible, infrared = modality_rows(modalities)
        first, second = identity_pairs(targets, modalities)
        compared = x if self.cross_term == "original" else masked
        across = self._distances(compared[first], compared[second])
        loss = _mean(to_masked[visible]) + _mean(to_masked[infrared]) + _mean(across)  # Eq. (7)
        if self.background_scale > 0:
            apart = self._distances(x, _like(x, background, "background"))
            loss = loss + self.background_scale * _mean(F.relu(self.background_margin - apart))
        return loss

    def _distances(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (n,) of each row of ``a`` (n, C, H, W) to the same row of ``b``."""
        distances = torch.linalg.vector_norm((a - b).flatten(1), dim=1)
        return distances / math.prod(a.shape[1:]) ** 0.5 if self.per_element else distances


def _like(x: Tensor, maps: Optional[Tensor], name: str) -> Tensor:
    if maps is None or maps.shape != x.shape:
        came = "None" if maps is None else str(tuple(maps.shape))
        raise UserError(
            f"RegionalCenterLoss needs {name} maps of the shape of the original ones, "
            f"{tuple(x.shape)}; got {came}."
        )
    return at_least_float32(maps)


def _mean(values: Tensor) -> Tensor:
    return values.mean() if len(values) else zero_of(values)
