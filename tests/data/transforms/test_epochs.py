"""Augmentations of some epochs only, and PMT's augmentation.

Oracles: the chains without the key, images of the loader in each epoch, and sums recorded from
hulu88/PMT (``transforms.py``) with Pillow 13, torchvision 0.28: pictures of 31 x 41 pixels, resized
with ``Image.LANCZOS`` to 24 x 28, ``random`` and torch seeded with the number.
"""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from vireid_plugins.data.build import build_train_loader
from vireid_plugins.data.transforms.chains import build_transforms
from vireid_plugins.data.transforms.jitter_or_blur import JitterOrBlur
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 12, 3), dtype=np.uint8))


@pytest.fixture
def gray_first(cfg):
    cfg.INPUT.GREY.ENABLED, cfg.INPUT.GREY.PROB, cfg.INPUT.GREY.EPOCHS = True, 1.0, (1, 3)
    return cfg


def is_gray(images):
    return bool((images == images[..., :1, :, :]).all())


def test_a_step_is_taken_in_its_epochs_only(gray_first):
    chains = build_transforms(gray_first, is_train=True)
    found = [is_gray(chains.at_epoch(e)(PICTURE, Modality.VISIBLE)) for e in range(5)]
    assert found == [False, True, True, False, False]
    assert "RandomGray(prob=1.0) in epochs 1 to 2" in chains.describe()
    assert "RandomGray" not in chains.at_epoch(3).describe()
    test = build_transforms(gray_first, is_train=False)
    assert test.at_epoch(1) is test and not is_gray(test(PICTURE, Modality.VISIBLE))


def test_without_the_key_nothing_changes(cfg):
    cfg.INPUT.GREY.ENABLED = True
    chains = build_transforms(cfg, is_train=True)
    assert all(chains.at_epoch(epoch) is chains for epoch in (0, 7, 1000))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_the_loader_gives_the_images_of_its_epoch(make_sysu, gray_first, workers):
    """In the workers too, which outlive an epoch."""
    make_sysu()
    gray_first.DATALOADER.NUM_WORKERS = workers
    loader = build_train_loader(gray_first)
    for epoch, expected in ((0, False), (1, True), (2, True), (3, False), (1, True)):
        loader.set_epoch(epoch)
        batch = next(iter(loader))
        images = batch["images"][batch["modalities"] == Modality.VISIBLE]
        assert is_gray(images) == expected, epoch


@pytest.mark.parametrize("epochs", [(3,), (3, 3), (4, 2), (-1, 2), (0, 1, 2), (0.5, 2), 3])
def test_what_are_no_epochs_is_refused(epochs):
    words = ["MODEL.DEVICE", "cpu", "INPUT.GREY.EPOCHS", str(epochs)]
    with pytest.raises((UserError, ValueError), match=r"INPUT.GREY.EPOCHS"):
        build_config("configs/baseline/synthetic.yml", words)


# modality, epoch, seed, and what ``sums`` makes of the image
RECORDED = [
    (0, 5, 0, (23.4164, 7.7473, 110.9391, 51.3556, 259.7794, 125.6829)),
    (0, 5, 1, (134.4572, 63.5006, 186.3682, 88.9114, 274.0793, 132.0415)),
    (0, 5, 2, (23.4164, 8.0082, 110.9391, 51.6222, 259.7794, 125.9484)),
    (0, 5, 3, (92.2149, 46.6992, 155.8797, 76.2317, 263.991, 126.5953)),
    (0, 6, 0, (14.9739, -3.0557, 104.9342, 49.4772, 311.4396, 163.6053)),
    (0, 6, 1, (128.7718, 54.0428, 186.0006, 90.3087, 290.027, 149.6951)),
    (0, 6, 2, (14.9739, -2.3944, 104.9342, 49.7736, 311.4396, 162.6755)),
    (0, 6, 3, (104.3905, 47.55, 145.0604, 70.9691, 284.8188, 150.3581)),
    (1, 0, 0, (12.7305, -5.4879, 100.0147, 37.8249, 248.9036, 112.2123)),
    (1, 0, 1, (-401.1405, -208.7483, -323.0945, -169.9726, -172.3252, -94.6616)),
    (1, 0, 2, (14.7513, -3.8748, 102.0806, 39.474, 250.9603, 113.8542)),
    (1, 0, 3, (-22.0841, -18.5581, 64.423, 24.4629, 213.4701, 98.9098)),
]


def picture(gray):
    y, x, c = np.meshgrid(np.arange(41), np.arange(31), np.arange(3), indexing="ij")
    pixels = (37 * y + 59 * x + (0 if gray else 101) * c + 13 * x * y) % 256
    return Image.fromarray(pixels.astype(np.uint8))


def sums(image):
    """For each channel, the sum of the pixels, and of pixel n times n / N."""
    places = torch.arange(image[0].numel()).view(image[0].shape) / image[0].numel()
    image = image.double()
    return torch.stack([image.sum((1, 2)), (image * places).sum((1, 2))], dim=1).flatten()


@pytest.mark.parametrize("modality, epoch, seed, expected", RECORDED)
def test_training_images_equal_those_of_the_public_code(modality, epoch, seed, expected):
    size = "[28, 24]"
    words = ["MODEL.DEVICE", "cpu", "INPUT.SIZE_TRAIN", size, "INPUT.SIZE_TEST", size]
    cfg = build_config("configs/pmt/sysu.yml", words)
    chains = build_transforms(cfg, is_train=True).at_epoch(epoch)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    random.seed(seed)
    torch.manual_seed(seed)
    image = chains(picture(modality == Modality.INFRARED), Modality(modality))
    found = sums((image - mean) / std)
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)


def test_either_brightness_and_contrast_or_blur():
    """Both occur; a blur of a constant image changes nothing, and equal channels stay equal."""
    step = JitterOrBlur((24, 12), kernel=9)
    plain = Image.new("RGB", (12, 24), (100, 100, 100))
    kept = 0
    for seed in range(40):
        random.seed(seed), torch.manual_seed(seed)
        out = np.asarray(step(plain))
        assert (np.ptp(out, axis=2) == 0).all() and (out == out[0, 0]).all()
        kept += int(out[0, 0, 0] == 100)
        contrast = JitterOrBlur((24, 12), brightness=0.0, contrast=0.9, kernel=9)(plain)
        assert (np.asarray(contrast) == 100).all()  # there is none in a constant image
    assert 8 < kept < 32


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(kernel=8), r"JITTER_OR_BLUR.KERNEL is 8; expected an odd number"),
        (dict(kernel=25), r"KERNEL is 25, too wide for images of \(24, 12\).*up to 23"),
        (dict(sigma=(3.0, 0.1)), r"SIGMA is \(3.0, 0.1\); expected the smaller one first"),
        (dict(sigma=(0.0, 1.0)), r"SIGMA is \(0.0, 1.0\); expected 2 entries, each above 0"),
        (dict(brightness=1.5), r"BRIGHTNESS is 1.5; expected 0 to 1"),
    ],
)
def test_wrong_settings_of_the_blur_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        JitterOrBlur((24, 12), **arguments)
    JitterOrBlur((24, 12), kernel=23)
