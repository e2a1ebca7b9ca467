"""A model of a line: an image's features are its pixels at 4 x 4. And images to search among."""

import hashlib

import numpy as np
import torch
from PIL import Image

from vireid_plugins.data.reading import ImageReader

SIDE = 4
SIZE = 3 * SIDE * SIDE


def pixels_of(image, modality=None):
    """(3, 4, 4) float32 around 0."""
    small = image.resize((SIDE, SIDE), Image.BOX)
    return torch.from_numpy(np.array(small, np.float32)).permute(2, 0, 1) - 127.5


class FakeExtractor:
    """What ``FeatureExtractor`` is to an index; ``computed`` counts images."""

    feature_size = SIZE
    transforms = staticmethod(pixels_of)
    reader = ImageReader()
    keypoints = None

    def __init__(self, name="one", batch_size=4):
        self.fingerprint = hashlib.sha256(name.encode()).hexdigest()[:16]
        self.batch_size = batch_size
        self.computed = 0

    def check_keypoints(self):
        """No key points are needed."""

    def features_of(self, images, modality, keypoints=None):
        self.computed += len(images)
        rows = images.flatten(1).numpy()
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pixels(number, size=(SIDE, SIDE)):
    """The image of a number: (H, W, 3) uint8, as good as random."""
    return np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)


def write_images(folder, numbers, name="{}.png"):
    """Write the images of ``numbers``; returns their names."""
    names = [name.format(number) for number in numbers]
    for number, one in zip(numbers, names):
        path = folder / one
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(path)
    return names


def features(numbers):
    """What ``FakeExtractor`` makes of the images of ``numbers``: (N, D)."""
    stacked = torch.stack([pixels_of(Image.fromarray(pixels(number))) for number in numbers])
    return FakeExtractor().features_of(stacked, None)
