"""The mask of RBNet: a map of its reverse backbone says which pixels the second pass sees.

P. Yu, Y. Piao, "Reverse backbone net for unsupervised person re-identification", Journal of Jilin
University (Engineering and Technology Edition), 2024, part 1.1. What the paper leaves open:

- The map is turned into 17 parts by a 1 x 1 convolution; the mask is the sigmoid of their sum,
  bilinear at the size of the image. It begins at about 0.9 everywhere.
- x M(x) of Eq. 1 is the normalized image times the mask: what is masked out becomes the mean color
  (``MASK_FORM residual``: x (1 + M(x))).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...keys import Key, check_values, declare, one_of
from ..maps import Tap
from .reverse_backbone import PARTS

FORMS = ("product", "residual")
_START = 0.9  # of the mask

declare("MODEL.RBNET", Key("MASK_FORM", FORMS[0], one_of(*FORMS), "x M(x), or x (1 + M(x))"))


class PartMask(nn.Module):
    """Images times a mask that a map of the reverse backbone makes.

    Args:
        channels: C of the map.
        form: ``"product"`` or ``"residual"``.

    Raises:
        UserError: the form is another word.
    """

    def __init__(self, channels: int, form: str = FORMS[0]) -> None:
        super().__init__()
        check_values("MODEL.RBNET", MASK_FORM=form)
        self.form = form
        self.parts = nn.Conv2d(channels, PARTS, 1)
        bias = self.parts.bias
        assert bias is not None
        nn.init.normal_(self.parts.weight, std=0.01 / math.sqrt(PARTS))
        nn.init.constant_(bias, math.log(_START / (1 - _START)) / PARTS)  # their sum is the logit
        self.tap = Tap("mask", "M(x) of each image, (B, 1, H, W) in 0..1")

    def forward(self, images: Tensor, source: Tensor) -> Tensor:
        """Return x M(x), (B, 3, H, W), of images x and their map ``source`` (B, C, H', W')."""
        mask = torch.sigmoid(self.parts(source).sum(dim=1, keepdim=True))
        size = (int(images.shape[2]), int(images.shape[3]))
        mask = F.interpolate(mask, size=size, mode="bilinear", align_corners=False)
        mask = self.tap(mask.to(images.dtype))
        return images * (mask if self.form == "product" else 1 + mask)
