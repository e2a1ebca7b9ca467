"""Channel erasing, exchange and adaptive gray.

Oracles: values that the public code (mangye16/Cross-Modal-Re-ID-baseline, commit e817a26,
PAMI23_Supervised/ChannelAug.py and data_loader.py) gave for the same picture and seeds; loops and
arithmetic by hand; counts of draws.
"""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from vireid_plugins.data import build_transforms
from vireid_plugins.data.transforms.channels import (
    ChannelAdaptiveGray,
    ChannelErasing,
    ChannelExchange,
    Source,
    draw_box,
    erase,
    one_channel,
)
from vireid_plugins.engine.setup import build_config
from vireid_plugins.modality import Modality

from tests.data.transforms.channel_pictures import (
    COLUMN,
    HEIGHT,
    MEAN,
    STD,
    WIDTH,
    equal_channels,
    normalized,
    picture,
    raw,
)

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "caj"

# Per channel, what comes out of the public code's chain: the sum of its pixels, and the sum of
# pixel n times n / 72. Padding 2, crop and flip of the 12 x 6 picture above; ``random`` and torch
# seeded with the number. The seeds were chosen so that each choice occurs: view 0 as it is and
# erased; view 1 with green and erased, red, blue and erased, blue; with luminance as it is and
# erased; infrared luminance, kept and erased, blue, green and erased, luminance and erased; CAJ+
# erased, gray, erased at 0.6 but not at 0.5, luminance at 0.6 but not at 0.5.
RECORDED = [
    ("sysu", Modality.VISIBLE, 0, 0, (-60.1867, -37.2081, -62.1527, -36.9703, -33.4668, -22.204)),
    ("sysu", Modality.VISIBLE, 0, 1, (-15.7841, -3.0999, -21.0504, -3.3667, -3.845, 6.2387)),
    ("sysu", Modality.VISIBLE, 0, 3, (-6.1486, 7.0983, -13.7572, 2.314, 10.7548, 17.01)),
    ("regdb", Modality.VISIBLE, 1, 1, (-21.0504, -3.3667) * 3),
    ("sysu", Modality.VISIBLE, 1, 2, (-5.4731, -10.0361) * 3),
    ("sysu", Modality.VISIBLE, 1, 3, (10.7548, 17.01) * 3),
    ("sysu", Modality.VISIBLE, 1, 5, (-26.8089, -10.08) * 3),
    ("ablation/gray", Modality.VISIBLE, 1, 0, (-58.2886, -35.3543) * 3),
    ("ablation/gray", Modality.VISIBLE, 1, 9, (-14.06, -6.0278) * 3),
    ("sysu", Modality.INFRARED, 0, 0, (-52.7376, -33.6485) * 3),
    ("sysu", Modality.INFRARED, 0, 1, (-15.7841, -3.0999, -10.4062, -0.2689, -0.4986, 4.7224)),
    ("sysu", Modality.INFRARED, 0, 5, (-25.554, -12.494) * 3),
    ("regdb", Modality.INFRARED, 0, 11, (-24.4684, -10.5588) * 3),
    ("sysu", Modality.INFRARED, 0, 18, (-17.1346, -3.283) * 3),
    (
        "sysu",
        Modality.INFRARED,
        0,
        285,
        (-47.8911, -24.3127, -39.6386, -20.2594, -23.4625, -12.2805),
    ),
    ("plus_sysu", Modality.VISIBLE, 0, 1, (-15.7841, -3.0999, -21.0504, -3.3667, -3.845, 6.2387)),
    ("plus_sysu", Modality.VISIBLE, 0, 3, (-14.7794, 2.8083, -8.0324, 5.7524, 4.1666, 10.6849)),
    ("plus_sysu", Modality.VISIBLE, 0, 10, (-20.208, -10.8784, -9.2579, -4.7064, 7.2516, 3.204)),
    ("plus_sysu", Modality.INFRARED, 0, 285, (-40.2573, -20.5593) * 3),
]


@pytest.mark.parametrize("config, modality, view, seed, expected", RECORDED)
def test_chains_of_the_configs_equal_the_public_code(config, modality, view, seed, expected):
    """After the model's normalization, with the same random numbers."""
    words = ["MODEL.DEVICE", "cpu", "INPUT.SIZE_TRAIN", f"[{HEIGHT}, {WIDTH}]"]
    cfg = build_config(str(CONFIGS / f"{config}.yml"), [*words, "INPUT.PADDING.SIZE", "2"])
    image = picture(modality == Modality.INFRARED)
    random.seed(seed)
    torch.manual_seed(seed)
    for step in build_transforms(cfg, is_train=True).chains[modality][view]:
        image = step(image)
    found = normalized(image).double()
    places = torch.arange(HEIGHT * WIDTH).view(HEIGHT, WIDTH) / (HEIGHT * WIDTH)
    sums = torch.stack([found.sum((1, 2)), (found * places).sum((1, 2))], dim=1).flatten()
    torch.testing.assert_close(sums, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    "seed, box",
    [
        (0, None),
        (1, (32, 15, 193, 74)),
        (2, None),
        (3, (154, 60, 116, 81)),
        (4, (39, 11, 61, 40)),
        (7, (18, 105, 85, 38)),
    ],
)
def test_rectangles_of_288_x_144_equal_the_public_codes(seed, box):
    random.seed(seed)
    drawn = ChannelErasing(MEAN, STD, prob=0.5).draw(288, 144)
    assert drawn == (None if box is None else (box,) * 3)


def test_erasing_fills_rectangles_of_its_value_in_normalized_space():
    image, boxes, value = normalized(raw()), [(1, 2, 3, 2), None, (0, 0, 12, 1)], (0.1, 0.2, 0.3)
    expected = image.clone()
    for channel in range(3):
        for y in range(HEIGHT):
            for x in range(WIDTH):
                box = boxes[channel]
                inside = box and box[0] <= y < box[0] + box[2] and box[1] <= x < box[1] + box[3]
                if inside:
                    expected[channel, y, x] = value[channel]
    before = image.clone()
    assert torch.equal(erase(image, boxes, value), expected)
    assert torch.equal(image, before)


def test_the_default_value_is_what_the_docstring_says_in_0_to_255():
    """0.4914 * 58.395 + 123.675 = 152.4, 0.4822 * 57.12 + 116.28 = 143.8, 129.1 likewise."""
    step = ChannelErasing(MEAN, STD, prob=1.0)
    random.seed(1)
    found = step(raw())
    inside = (found - raw()).abs().amin(0) > 1e-3  # all three channels changed
    assert inside.any()
    torch.testing.assert_close(
        found[:, inside][:, 0], torch.tensor([152.4, 143.8, 129.1]), rtol=0, atol=0.1
    )
    torch.testing.assert_close(found[:, ~inside], raw()[:, ~inside], rtol=0, atol=1e-4)


def test_one_rectangle_for_all_channels_or_one_for_each():
    one = ChannelErasing(MEAN, STD, prob=1.0)
    each = ChannelErasing(MEAN, STD, prob=1.0, per_channel=True)
    assert all(len(set(one.draw(96, 48))) == 1 for _ in range(20))
    assert all(len(set(each.draw(96, 48))) == 3 for _ in range(20))
    # an image is erased or not as a whole, with the same probability
    for step in (ChannelErasing(MEAN, STD, 0.3), ChannelErasing(MEAN, STD, 0.3, per_channel=True)):
        drawn = [step.draw(96, 48) is not None for _ in range(2000)]
        assert 0.26 < np.mean(drawn) < 0.34


def test_rectangles_keep_area_aspect_and_borders():
    for _ in range(300):
        top, left, height, width = draw_box(96, 48, (0.1, 0.3), 0.5)
        assert top >= 0 and left >= 0 and top + height <= 96 and left + width <= 48
        # sides are rounded to whole pixels, hence half a pixel on each
        assert (height - 0.5) * (width - 0.5) <= 0.3 * 96 * 48
        assert (height + 0.5) * (width + 0.5) >= 0.1 * 96 * 48
        assert 0.5 <= (height + 0.5) / (width - 0.5) and (height - 0.5) / (width + 0.5) <= 2


def test_a_rectangle_that_never_fits_leaves_the_image():
    """A square of the whole area is as wide as the image, and must be narrower."""
    assert draw_box(10, 10, (1.0, 1.0), 1.0) is None
    step = ChannelErasing(MEAN, STD, 1.0, area=(1.0, 1.0), min_aspect=1.0)
    image = torch.rand(3, 10, 10) * 255
    torch.testing.assert_close(step(image), image, rtol=0, atol=1e-4)


def test_the_sources_by_hand():
    image = torch.tensor([1.0, 2.0, 4.0]).view(COLUMN).expand(3, 2, 2)
    expected = {
        Source.RED: 1.0,
        Source.GREEN: 2.0,
        Source.BLUE: 4.0,
        Source.LUMINANCE: 0.2989 * 1 + 0.5870 * 2 + 0.1140 * 4,
    }
    for source, value in expected.items():
        torch.testing.assert_close(one_channel(image, source), torch.full((3, 2, 2), value))


def test_one_channel_of_an_infrared_image_is_nothing_in_0_to_255_but_not_once_normalized():
    """Why the steps normalize: an infrared image has three equal channels only before that.

    Normalized, a pixel p has (p - m_c) / s_c. Red in all channels, (p - m_0) / s_0, is green's
    s_0 / s_1 times brighter or darker and shifted by (m_1 - m_0) / s_0.
    """
    image = raw(gray=True)
    for source in (Source.RED, Source.GREEN, Source.BLUE):
        assert torch.equal(one_channel(image, source), image)
    # the weights of luminance sum to 0.9999
    torch.testing.assert_close(one_channel(image, Source.LUMINANCE), image, rtol=1.1e-4, atol=0)

    inside = normalized(image)
    assert not equal_channels(inside)
    red = one_channel(inside, Source.RED)
    assert equal_channels(red)
    torch.testing.assert_close(red[1], inside[1] * STD[1] / STD[0] + (MEAN[1] - MEAN[0]) / STD[0])
    for source in Source:
        assert (one_channel(inside, source) - inside).abs().amax() > 0.1


def test_an_exchanged_image_has_equal_channels_once_normalized_and_only_then():
    step = ChannelExchange(MEAN, STD)
    for gray in (False, True):
        found = step(raw(gray))
        assert equal_channels(normalized(found)) and not equal_channels(found, within=1.0)


def test_values_may_leave_0_to_255_by_what_the_docstring_says():
    extremes = [torch.full((3, 2, 2), value) for value in (0.0, 255.0)]
    step = ChannelExchange(MEAN, STD)
    found = torch.stack([step(image) for image in extremes for _ in range(30)])
    assert -18.5 < found.min() < -17.5 and 277.5 < found.max() < 278.5


def frequencies(step, draws=4000):
    counts = Counter(step.draw(HEIGHT, WIDTH) for _ in range(draws))
    return {choice: count / draws for choice, count in counts.items()}


@pytest.mark.parametrize(
    "step, expected",
    [
        (ChannelExchange(MEAN, STD), {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}),
        (ChannelExchange(MEAN, STD, gray=True), {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25}),
        (ChannelExchange(MEAN, STD, prob=0.75), {0: 0.25, 1: 0.25, 2: 0.25, None: 0.25}),
        (ChannelAdaptiveGray(MEAN, STD, 0.6), {0: 0.25, 1: 0.25, 2: 0.25, 3: 0.15, None: 0.1}),
        (ChannelAdaptiveGray(MEAN, STD, 0.0), {0: 0.25, 1: 0.25, 2: 0.25, None: 0.25}),
    ],
)
def test_how_often_each_choice_is_drawn(step, expected):
    assert frequencies(step) == pytest.approx(expected, abs=0.03)


def test_where_nothing_is_drawn_the_image_is_the_same_and_inputs_never_change():
    image = raw()
    for step in (ChannelErasing(MEAN, STD, 0.0), ChannelExchange(MEAN, STD, 0.0)):
        assert step(image) is image
    for step in (
        ChannelErasing(MEAN, STD, 1.0),
        ChannelExchange(MEAN, STD, gray=True),
        ChannelAdaptiveGray(MEAN, STD),
    ):
        for _ in range(8):
            found = step(image)
            assert found.dtype == torch.float32 and found.is_contiguous()
    assert torch.equal(image, raw())
