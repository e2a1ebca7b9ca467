"""From an image to the batch of the reference configs, against the public codes.

Recorded from mangye16/Cross-Modal-Re-ID-baseline (``train.py``; ICCV21_CAJ) and ZYK100/LLCM (AGW),
with Pillow 12: a picture of 31 x 17 pixels, resized with ``Image.LANCZOS`` (``ANTIALIAS`` in older
versions of Pillow) to 12 x 6, then padding 2, crop, flip, ``ToTensor``, ``Normalize``, and erasing
with 0, or CAJ's views. ``random`` and torch are seeded with the number.
"""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from vireid_plugins.data import build_transforms
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modality import Modality

from tests.data.transforms.channel_pictures import HEIGHT, WIDTH, normalized

# config, modality, view, seed, and for each channel the sum of the pixels, and of pixel n * n / 72
RECORDED = [
    ("agw/reference", 0, 0, 0, (-68.9032, -39.1996, -62.3452, -37.2582, -38.6433, -24.9917)),
    ("agw/reference", 0, 0, 1, (-69.1258, -26.278, -62.3802, -23.2417, -39.7065, -9.5777)),
    ("agw/reference", 0, 0, 3, (-35.1845, -12.0214, -29.7822, -9.5714, -6.0856, 4.1906)),
    ("agw/reference", 1, 0, 0, (-68.9032, -39.1996, -61.1197, -35.4786, -44.8481, -27.432)),
    ("agw/reference", 1, 0, 1, (-69.1258, -26.278, -61.3473, -22.2686, -45.0747, -14.2807)),
    ("agw/reference", 1, 0, 3, (-35.1845, -12.0214, -26.6485, -7.6938, -10.53, 0.2293)),
    ("agw/reference_llcm", 0, 0, 0, (-68.9032, -39.1996, -62.3452, -37.2582, -38.6433, -24.9917)),
    ("agw/reference_llcm", 0, 0, 1, (-35.4551, -10.789, -30.9426, -8.239, -13.707, 2.0549)),
    ("agw/reference_llcm", 0, 0, 3, (-26.1576, -5.0843, -20.0098, -2.4368, -2.8446, 6.661)),
    ("agw/reference_llcm", 1, 0, 0, (-68.9032, -39.1996, -61.1197, -35.4786, -44.8481, -27.432)),
    ("agw/reference_llcm", 1, 0, 1, (-35.4551, -10.789, -30.0322, -7.9011, -19.2321, -2.4956)),
    ("agw/reference_llcm", 1, 0, 3, (-26.1576, -5.0843, -19.362, -2.0852, -6.6093, 3.2667)),
    ("caj/reference", 0, 0, 0, (-68.9032, -39.1996, -62.3452, -37.2582, -38.6433, -24.9917)),
    ("caj/reference", 0, 0, 1, (-23.6615, -5.2198, -19.3698, -2.7741, -2.991, 7.1152)),
    ("caj/reference", 0, 0, 3, (-18.7866, 0.5464, -12.7768, 3.0884, 3.8529, 11.7771)),
    ("caj/reference", 0, 1, 0, (-62.3452, -37.2582) * 3),
    ("caj/reference", 0, 1, 1, (-19.3698, -2.7741) * 3),
    ("caj/reference", 0, 1, 3, (3.8529, 11.7771) * 3),
    ("caj/reference", 1, 0, 0, (-61.5851, -35.6699) * 3),
    ("caj/reference", 1, 0, 1, (-23.6615, -5.2198, -18.4594, -2.4361, -8.5161, 2.5648)),
    ("caj/reference", 1, 0, 3, (-18.7866, 0.5464) * 3),
]
TESTED = [
    (0, (1.7707, 0.5964, 7.9629, 3.3138, 33.165, 17.1018)),
    (1, (1.7707, 0.5964, 11.1317, 5.2057, 27.0822, 13.0715)),
]


def picture(gray):
    y, x, c = np.meshgrid(np.arange(31), np.arange(17), np.arange(3), indexing="ij")
    pixels = (37 * y + 59 * x + (0 if gray else 101) * c + 13 * x * y) % 256
    return Image.fromarray(pixels.astype(np.uint8))


def chain(config, modality, view=0, is_train=True):
    words = ["MODEL.DEVICE", "cpu", "INPUT.PADDING.SIZE", "2"]
    for key in ("SIZE_TRAIN", "SIZE_TEST"):
        words += [f"INPUT.{key}", f"[{HEIGHT}, {WIDTH}]"]
    cfg = build_config(f"configs/{config}.yml", words)
    return build_transforms(cfg, is_train).chains[modality][view]


def check(steps, modality, expected):
    image = picture(modality == Modality.INFRARED)
    for step in steps:
        image = step(image)
    found = normalized(image).double()
    places = torch.arange(HEIGHT * WIDTH).view(HEIGHT, WIDTH) / (HEIGHT * WIDTH)
    sums = torch.stack([found.sum((1, 2)), (found * places).sum((1, 2))], dim=1).flatten()
    torch.testing.assert_close(sums, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=2e-4)


@pytest.mark.parametrize("config, modality, view, seed, expected", RECORDED)
def test_training_images_equal_those_of_the_public_code(config, modality, view, seed, expected):
    steps = chain(config, Modality(modality), view)
    random.seed(seed)
    torch.manual_seed(seed)
    check(steps, Modality(modality), expected)


@pytest.mark.parametrize("config", ["agw/reference", "agw/reference_llcm", "caj/reference_regdb"])
@pytest.mark.parametrize("modality, expected", TESTED)
def test_test_images_equal_those_of_the_public_code(config, modality, expected):
    check(chain(config, Modality(modality), is_train=False), Modality(modality), expected)
