"""Weights, images and probes that are the same on every machine and with every version.

They come from NumPy's legacy generator, whose numbers are frozen, and only from its uniform ones,
which need no function of the C library.
"""

import zlib

import numpy as np
import torch
from PIL import Image

SQRT3 = 3**0.5  # a uniform number in -SQRT3..SQRT3 has variance 1


def uniform(key, shape):
    """Return float64 numbers of mean 0 and variance 1 that depend on ``key`` alone."""
    draw = np.random.RandomState(zlib.crc32(key.encode())).random_sample(tuple(shape))
    return torch.from_numpy(SQRT3 * (2 * draw - 1))


def initial(name, shape):
    """Return the initial value of the tensor with this public name.

    Convolutions are eight times as large as usual, residual branches small: then a step changes the
    weights little relative to their size, and ten steps do not let rounding grow. (From usual
    random weights, batches of eight images let it grow tenfold in each step.)
    """
    numbers = uniform(name, shape)
    if name.endswith("running_mean"):
        return torch.zeros_like(numbers)
    if name.endswith("running_var"):
        return torch.ones_like(numbers)
    if len(shape) == 4:
        return 8 * numbers * (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
    if len(shape) == 2:
        return 0.001 * numbers
    if name.endswith("weight"):
        branches = {"W.1": 0.03, "bn3": 0.1, "downsample": 0.3}
        size = next((size for word, size in branches.items() if word in name), 1.0)
        return size * (1 + 0.1 * numbers)
    return 0.02 * numbers


def picture(key, size, gray):
    """Return an image (H, W, 3) uint8; one of an infrared camera has three equal channels."""
    height, width = size
    channels = 1 if gray else 3
    coarse = np.random.RandomState(zlib.crc32(key.encode())).randint(0, 256, (8, 4, channels))
    blocks = np.kron(coarse, np.ones((height // 8, width // 4, 1), dtype=np.int64))
    return np.broadcast_to(blocks, (height, width, 3)).astype(np.uint8)


def pil(pixels):
    return Image.fromarray(pixels)


def probe(name, change):
    """Return the inner product of a change with numbers of variance 1: about the change's norm."""
    return (change * uniform(f"probe {name}", change.shape)).sum().item()
