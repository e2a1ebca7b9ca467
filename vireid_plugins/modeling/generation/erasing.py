"""Random erasing inside a model, of images that it has normalized or made itself.

Z. Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; the numbers of bismex/HiCMD,
``random_erasing.py``. B images, H x W pixels, A attempts.
"""

from typing import Tuple

import torch
from torch import Tensor, nn

_AREA = (0.02, 0.4)  # share of the image
_RATIO = 0.3  # least height over width; the largest is 1 / 0.3
ATTEMPTS = 20  # to find a rectangle that fits; nine of ten do


class RectangleDropout(nn.Dropout):
    """Fill a rectangle of an image with 0, the mean color of normalized images, in training.

    Args:
        p: probability for each image.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return a copy of images (B, 3, H, W); the images themselves in evaluation."""
        if not self.training or self.p == 0:
            return images
        draws = torch.rand(len(images), 1 + 4 * ATTEMPTS)  # on the CPU: the same with every device
        size = images.shape[2], images.shape[3]
        holes = rectangles(draws[:, 1:].unflatten(1, (ATTEMPTS, 4)), size)
        holes &= (draws[:, 0] < self.p)[:, None, None]
        return images.masked_fill(holes.unsqueeze(1).to(images.device), 0)


def rectangles(draws: Tensor, size: Tuple[int, int]) -> Tensor:
    """Return the first rectangle of each image that fits, as a mask (B, H, W); else nothing.

    Args:
        draws: (B, A, 4) numbers from 0 to 1: area, ratio, row and column of each attempt.
        size: H and W.
    """
    area, ratio, row, column = draws.double().unbind(2)
    area = size[0] * size[1] * (_AREA[0] + area * (_AREA[1] - _AREA[0]))
    ratio = _RATIO + ratio * (1 / _RATIO - _RATIO)
    heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (heights < size[0]) & (widths < size[1])
    first = fits.int().argmax(dim=1, keepdim=True)
    inside = fits.any(dim=1)[:, None, None]
    for length, place, own, dim in ((size[0], row, heights, 2), (size[1], column, widths, 1)):
        start = (place * (length - own + 1)).floor().gather(1, first)
        pixels = torch.arange(length)
        hit = (start <= pixels) & (pixels < start + own.gather(1, first))
        inside = inside & hit.unsqueeze(dim)
    return inside
