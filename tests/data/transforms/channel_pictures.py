"""A picture whose pixels come from no generator, and how the model sees it."""

import numpy as np
import torch
from PIL import Image

HEIGHT, WIDTH = 12, 6
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet's, in 0..255
COLUMN = (3, 1, 1)


def picture(gray=False):
    """Return the picture that the public code was given; its pixels come from no generator."""
    y, x, c = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), np.arange(3), indexing="ij")
    pixels = (37 * y + 59 * x + (0 if gray else 101) * c + 13 * x * y) % 256
    return Image.fromarray(pixels.astype(np.uint8))


def raw(gray=False):
    """Return the same picture as a tensor (3, H, W) in 0..255."""
    pixels = torch.from_numpy(np.array(picture(gray), dtype=np.float32))
    return pixels.permute(2, 0, 1).contiguous()


def normalized(image):
    """Return an image in 0..255 as the model normalizes it."""
    return (image - torch.tensor(MEAN).view(COLUMN)) / torch.tensor(STD).view(COLUMN)


def equal_channels(image, within=1e-5):
    return bool((image.amax(0) - image.amin(0) <= within).all())
