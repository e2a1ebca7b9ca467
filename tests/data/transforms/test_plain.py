"""What each transform does to a visible and to an infrared image.

Oracles: hand-made pixels, equality of channels, and the statements of the docstrings.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from vireid_plugins.config import add_vireid_config
from vireid_plugins.data.transforms import geometric
from vireid_plugins.data.transforms import plain as transforms
from vireid_plugins.data.transforms.chains import build_transforms
from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality

from fastreid.config import get_cfg


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_vireid_config(cfg)
    cfg.INPUT.SIZE_TRAIN = [24, 12]
    cfg.INPUT.SIZE_TEST = [24, 12]
    return cfg


@pytest.fixture
def visible():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (24, 12, 3), dtype=np.uint8))


@pytest.fixture
def infrared():
    gray = np.random.default_rng(1).integers(0, 256, (24, 12, 1), dtype=np.uint8)
    return Image.fromarray(np.repeat(gray, 3, axis=2))


def equal_channels(picture):
    pixels = np.asarray(picture).astype(np.float32)
    axis = 0 if isinstance(picture, torch.Tensor) else 2
    return bool((np.ptp(pixels, axis=axis) == 0).all())


def enable(cfg, node, **values):
    cfg.INPUT[node].ENABLED = True
    for name, value in values.items():
        cfg.INPUT[node][name] = value


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("modality", Modality)
@pytest.mark.parametrize("way", ["bicubic", "lanczos", "bilinear", "hamming", "box", "nearest"])
@pytest.mark.parametrize("size", [[31, 9], [11, 40]])
def test_images_are_resized_as_pillow_does(cfg, way, size, modality, is_train, visible):
    # the public code resizes once, with Pillow, and keeps the result in 8 bits
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = size
    cfg.INPUT.INTERPOLATION = way
    found = build_transforms(cfg, is_train)(visible, modality)
    expected = visible.resize((size[1], size[0]), Image.Resampling[way.upper()])
    assert np.array_equal(found.numpy(), np.asarray(expected, np.float32).transpose(2, 0, 1))


def test_a_cache_tells_the_ways_to_resize_apart(cfg):
    found = set()
    for way in ("bicubic", "lanczos"):
        cfg.INPUT.INTERPOLATION = way
        chains = build_transforms(cfg, is_train=True)
        found |= {chains.common(modality) for modality in Modality}
    assert found == {f"Resize(size=(24, 12), by={way})" for way in ("bicubic", "lanczos")}


def test_an_unknown_way_to_resize_names_the_key(cfg):
    cfg.INPUT.INTERPOLATION = "antialias"
    with pytest.raises(UserError, match=r"INPUT.INTERPOLATION is 'antialias'; .*'lanczos'"):
        build_transforms(cfg, is_train=False)


def test_test_chain_only_resizes(cfg, visible):
    for node in ("FLIP", "PADDING", "CJ", "REA", "GREY", "TRIVIAL_AUGMENT"):
        enable(cfg, node, PROB=1.0) if "PROB" in cfg.INPUT[node] else enable(cfg, node)
    chain = build_transforms(cfg, is_train=False)
    out = chain(visible, Modality.VISIBLE)
    assert out.dtype == torch.float32 and out.shape == (3, 24, 12) and out.is_contiguous()
    # the size is the image's own, so nothing changes: pixels in 0..255, channels first
    assert np.array_equal(out.numpy(), np.asarray(visible).transpose(2, 0, 1).astype(np.float32))


def test_size_is_height_then_width(cfg, visible):
    cfg.INPUT.SIZE_TRAIN = [30, 20]
    assert build_transforms(cfg, is_train=True)(visible, Modality.INFRARED).shape == (3, 30, 20)


def test_order_and_modalities_are_listed(cfg):
    for node in ("FLIP", "PADDING", "CJ", "REA", "GREY", "TRIVIAL_AUGMENT"):
        enable(cfg, node)
    cfg.INPUT.CJ.MODALITIES = ("visible",)
    cfg.INPUT.FLIP.MODALITIES = ("infrared",)
    visible, infrared = build_transforms(cfg, is_train=True).describe().splitlines()
    assert [step.split("(")[0] for step in visible.split(": ", 1)[1].split(" -> ")] == [
        "TrivialAugment",
        "Resize",
        "PadCrop",
        "ColorJitter",
        "RandomGray",
        "ToTensor",
        "RandomErasing",
    ]
    assert [step.split("(")[0] for step in infrared.split(": ", 1)[1].split(" -> ")] == [
        "TrivialAugment",
        "Resize",
        "PadCrop",
        "RandomFlip",
        "ToTensor",
        "RandomErasing",
    ]


def test_a_modality_not_named_is_untouched(cfg, visible):
    enable(cfg, "FLIP", PROB=1.0, MODALITIES=("infrared",))
    chain = build_transforms(cfg, is_train=True)
    plain = build_transforms(cfg, is_train=False)(visible, Modality.VISIBLE)
    assert torch.equal(chain(visible, Modality.VISIBLE), plain)
    assert torch.equal(chain(visible, Modality.INFRARED), plain.flip(2))


def test_padding_is_black_and_the_content_shifted(cfg, visible):
    enable(cfg, "PADDING", SIZE=3)
    chain = build_transforms(cfg, is_train=True)
    plain = build_transforms(cfg, is_train=False)(visible, Modality.VISIBLE)
    padded = torch.nn.functional.pad(plain, (3, 3, 3, 3))
    windows = {(y, x): padded[:, y : y + 24, x : x + 12] for y in range(7) for x in range(7)}
    found = set()
    for seed in range(60):
        torch.manual_seed(seed)
        out = chain(visible, Modality.VISIBLE)
        found |= {place for place, window in windows.items() if torch.equal(window, out)}
    assert len(found) > 25  # of 49 places


def test_gray_does_nothing_to_three_equal_channels(visible, infrared):
    gray = transforms.RandomGray(1.0)
    assert np.array_equal(np.asarray(gray(infrared)), np.asarray(infrared))
    assert equal_channels(gray(visible)) and not equal_channels(visible)


@pytest.mark.parametrize("saturation, hue", [(0.9, 0.0), (0.0, 0.5), (0.9, 0.5)])
def test_saturation_and_hue_do_nothing_to_three_equal_channels(visible, infrared, saturation, hue):
    jitter = transforms.ColorJitter(1.0, 0.0, 0.0, saturation, hue)
    for _ in range(20):
        # one gray level: PIL rounds on its way through HSV
        change = np.asarray(jitter(infrared)).astype(int) - np.asarray(infrared)
        assert abs(change).max() <= 1
    assert not np.array_equal(np.asarray(jitter(visible)), np.asarray(visible))


def test_brightness_changes_both_and_keeps_equal_channels(visible, infrared):
    jitter = transforms.ColorJitter(1.0, 0.9, 0.9, 0.0, 0.0)
    out = jitter(infrared)
    assert equal_channels(out) and not np.array_equal(np.asarray(out), np.asarray(infrared))
    assert not np.array_equal(np.asarray(jitter(visible)), np.asarray(visible))


def test_trivial_augment_keeps_equal_channels(infrared):
    augment = geometric.TrivialAugment(1.0)
    outputs = []
    for seed in range(60):
        torch.manual_seed(seed)
        outputs.append(augment(infrared))
    assert all(map(equal_channels, outputs))
    changed = [not np.array_equal(np.asarray(out), np.asarray(infrared)) for out in outputs]
    assert sum(changed) > 30


def test_trivial_augment_color_does_nothing_to_three_equal_channels(infrared):
    out = T.functional.adjust_saturation(infrared, 1.9)  # what the operation "Color" calls
    assert np.array_equal(np.asarray(out), np.asarray(infrared))


def test_erasing_fills_one_rectangle_with_the_value():
    value, picture = (10.0, 20.0, 30.0), torch.full((3, 40, 20), 99.0)
    erase = transforms.RandomErasing(1.0, area=(0.1, 0.3), min_aspect=0.5, value=value)
    for _ in range(20):
        out = erase(picture)
        inside = (out != picture).all(dim=0)
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        height, width = len(rows), len(columns)
        box = out[:, rows[0] : rows[0] + height, columns[0] : columns[0] + width]
        assert inside.sum() == height * width
        assert torch.equal(box, torch.tensor(value).reshape(3, 1, 1).expand_as(box))
        # sides are rounded to whole pixels, hence the slack of one on each
        assert 0.1 * 800 <= (height + 1) * (width + 1) and (height - 1) * (width - 1) <= 0.3 * 800
        assert 0.5 <= (height + 1) / (width - 1) and (height - 1) / (width + 1) <= 2
    assert torch.equal(picture, torch.full((3, 40, 20), 99.0))  # the input is not changed


def test_erasing_reads_the_config(cfg, infrared):
    enable(cfg, "REA", PROB=1.0, VALUE=[1.0, 2.0, 3.0])
    out = build_transforms(cfg, is_train=True)(infrared, Modality.INFRARED)
    inside = (out == torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1)).all(dim=0)
    assert inside.any()


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("node", ["AUTOAUG", "AUGMIX", "AFFINE", "RPT", "CROP"])
def test_switches_of_the_host_that_would_be_ignored_are_refused(cfg, node, is_train):
    enable(cfg, node)
    with pytest.raises(ValueError, match=f"INPUT.{node}.ENABLED is not supported.*use INPUT"):
        build_transforms(cfg, is_train)


@pytest.mark.parametrize(
    "node, values, expected",
    [
        ("FLIP", {"PROB": 1.5}, "INPUT.FLIP.PROB is 1.5; expected 0 to 1"),
        ("FLIP", {"MODALITIES": ("rgb",)}, "INPUT.FLIP.MODALITIES: Unknown modality 'rgb'"),
        ("CJ", {"MODALITIES": ()}, "INPUT.CJ.MODALITIES is empty"),
        ("REA", {"AREA": (0.5, 0.2)}, "AREA"),
        ("REA", {"MIN_ASPECT": 0.0}, "MIN_ASPECT"),
    ],
)
def test_bad_values_name_the_key(cfg, node, values, expected):
    enable(cfg, node, **values)
    with pytest.raises(ValueError, match=expected):
        build_transforms(cfg, is_train=True)


def test_bad_size_names_the_key(cfg):
    cfg.INPUT.SIZE_TEST = [24]
    with pytest.raises(ValueError, match=r"INPUT.SIZE_TEST is \(24,\); expected 2 entries"):
        build_transforms(cfg, is_train=False)
