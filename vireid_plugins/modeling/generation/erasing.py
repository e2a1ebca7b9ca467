"""Random erasing inside a model, of images that it has normalized or made itself.

Z. Zhong et al., "Random Erasing Data Augmentation", AAAI 2020; the numbers of bismex/HiCMD,
``random_erasing.py``. B images, H x W pixels.
"""

import math
from typing import Sequence, Tuple

import torch
from torch import Tensor, nn

_AREA = (0.02, 0.4)  # share of the image
_RATIO = 0.3  # least height over width; the largest is 1 / 0.3
_ATTEMPTS = 20  # to find a rectangle that fits; nine of ten do


class RectangleDropout(nn.Dropout):
    """Fill a rectangle of an image with 0, the mean color of normalized images, in training.

    Args:
        p: probability for each image.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Return a copy of images (B, 3, H, W); the images themselves in evaluation."""
        if not self.training or self.p == 0:
            return images
        images = images.clone()
        for image, draws in zip(images, torch.rand(len(images), 1 + 4 * _ATTEMPTS).tolist()):
            if draws[0] < self.p:
                top, left, height, width = _rectangle(image.shape[1], image.shape[2], draws[1:])
                image[:, top : top + height, left : left + width] = 0
        return images


def _rectangle(height: int, width: int, draws: Sequence[float]) -> Tuple[int, int, int, int]:
    """Return a rectangle inside an image: top, left, height, width; height 0 if none was found.

    Args:
        draws: numbers from 0 to 1, four for each attempt.
    """
    for start in range(0, len(draws), 4):
        area, ratio, row, column = draws[start : start + 4]
        area = height * width * (_AREA[0] + area * (_AREA[1] - _AREA[0]))
        ratio = _RATIO + ratio * (1 / _RATIO - _RATIO)
        rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if rows < height and columns < width:
            top, left = int(row * (height - rows + 1)), int(column * (width - columns + 1))
            return top, left, rows, columns
    return 0, 0, 0, 0
