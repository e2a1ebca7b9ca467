"""Keys of the channel transforms, and batches with several views. Oracle: values of the test."""

import random
from collections import Counter

import pytest
import torch
from PIL import Image

from vireid_plugins.data import build_transforms
from vireid_plugins.data.build import build_train_loader
from vireid_plugins.modality import Modality

from tests.data.transforms.channel_pictures import equal_channels, normalized


def enable(cfg, node, **values):
    cfg.INPUT[node].ENABLED = True
    for name, value in values.items():
        cfg.INPUT[node][name] = value


def test_they_run_last_erasing_first(cfg):
    both = ("visible", "infrared")
    for node in ("REA", "CHANNEL_ERASING"):
        enable(cfg, node)
    for node in ("CHANNEL_EXCHANGE", "ADAPTIVE_GREY"):
        enable(cfg, node, MODALITIES=both)
    for line in build_transforms(cfg, is_train=True).describe().splitlines():
        steps = [step.split("(")[0] for step in line.split(": ", 1)[1].split(" -> ")]
        assert steps == [
            "Resize",
            "ToTensor",
            "RandomErasing",
            "ChannelErasing",
            "ChannelExchange",
            "ChannelAdaptiveGray",
        ]
    assert "Channel" not in build_transforms(cfg, is_train=False).describe()


def test_infrared_images_may_have_a_probability_of_their_own(cfg):
    enable(cfg, "CHANNEL_ERASING", PROB=0.6, INFRARED_PROB=0.25)
    visible, infrared = build_transforms(cfg, is_train=True).describe().splitlines()
    assert "ChannelErasing(prob=0.6" in visible and "ChannelErasing(prob=0.25" in infrared
    cfg.INPUT.CHANNEL_ERASING.INFRARED_PROB = -1.0
    assert build_transforms(cfg, is_train=True).describe().count("ChannelErasing(prob=0.6") == 2


def test_every_key_reaches_the_steps_of_both_modalities(cfg):
    """Values that are no default anywhere."""
    erasing = dict(PROB=0.7, AREA=(0.1, 0.3), MIN_ASPECT=0.5, VALUE=(1.0, 2.0, 3.0))
    enable(cfg, "CHANNEL_ERASING", PER_CHANNEL=True, INFRARED_PROB=0.8, **erasing)
    enable(cfg, "CHANNEL_EXCHANGE", PROB=0.6, GREY=True)
    enable(cfg, "ADAPTIVE_GREY", PROB=0.4)
    visible, infrared = build_transforms(cfg, is_train=True).describe().splitlines()
    kept = "area=(0.1, 0.3), min_aspect=0.5, value=(1.0, 2.0, 3.0), per_channel=True"
    assert f"ChannelErasing(prob=0.7, {kept})" in visible
    assert f"ChannelErasing(prob=0.8, {kept})" in infrared
    assert "ChannelExchange(prob=0.6, gray=True)" in visible
    assert "ChannelAdaptiveGray(prob=0.4)" in infrared


def test_mean_and_deviation_are_the_models(cfg):
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [0.0, 100.0, 0.0], [1.0, 1.0, 2.0]
    enable(cfg, "CHANNEL_EXCHANGE")
    image = Image.new("RGB", (12, 24), (10, 20, 30))  # normalized: 10, -80, 15
    found = {
        tuple(build_transforms(cfg, is_train=True)(image, 0)[:, 0, 0].tolist()) for _ in range(40)
    }
    assert found == {(10.0, 110.0, 20.0), (-80.0, 20.0, -160.0), (15.0, 115.0, 30.0)}


@pytest.mark.parametrize(
    "node, values, expected",
    [
        ("CHANNEL_ERASING", {"PROB": 1.5}, "INPUT.CHANNEL_ERASING.PROB is 1.5; expected 0 to 1"),
        ("CHANNEL_ERASING", {"INFRARED_PROB": 1.5}, "INFRARED_PROB is 1.5; expected -1 to 1"),
        ("CHANNEL_ERASING", {"AREA": (0.5, 0.2)}, r"AREA is \(0.5, 0.2\); expected the smaller"),
        ("CHANNEL_ERASING", {"AREA": (0.1,)}, r"AREA is \(0.1,\); expected 2 entries"),
        ("CHANNEL_ERASING", {"MIN_ASPECT": 0.0}, "MIN_ASPECT is 0.0; expected above 0"),
        ("CHANNEL_ERASING", {"VALUE": (0.0,)}, "VALUE is .*; expected 3 entries"),
        (
            "CHANNEL_EXCHANGE",
            {"PROB": -1.0},
            "CHANNEL_EXCHANGE.PROB is -1.0; expected 0 to 1",
        ),
        ("ADAPTIVE_GREY", {"PROB": 2.0}, "INPUT.ADAPTIVE_GREY.PROB is 2.0; expected 0 to 1"),
    ],
)
def test_bad_values_name_the_key(cfg, node, values, expected):
    enable(cfg, node, **values)
    with pytest.raises(ValueError, match=expected):
        build_transforms(cfg, is_train=True)


@pytest.fixture
def three_views(cfg, make_sysu):
    """Return CAJ's views without erasing: visible as they are and exchanged, and infrared."""
    make_sysu()
    cfg.INPUT.NUM_VIEWS.VISIBLE = 2
    enable(cfg, "CHANNEL_EXCHANGE", VIEWS=(1,))
    enable(cfg, "ADAPTIVE_GREY", PROB=1.0)
    return cfg


def test_a_batch_has_original_exchanged_and_infrared_rows(three_views):
    batch = next(iter(build_train_loader(three_views)))
    kinds = Counter(zip(batch["modalities"].tolist(), batch["views"].tolist()))
    assert kinds == {(0, 0): 4, (0, 1): 4, (1, 0): 4}
    images = normalized(batch["images"])
    for row, image in enumerate(images):
        changed = batch["modalities"][row] == Modality.INFRARED or batch["views"][row] == 1
        assert equal_channels(image) == bool(changed)
        if batch["views"][row] == 1:  # one of the channels of the row before, its view 0
            original = images[row - 1]
            assert any(torch.allclose(image[0], channel, atol=1e-5) for channel in original)


def test_what_is_drawn_depends_on_the_seed_alone(three_views):
    enable(three_views, "CHANNEL_ERASING", PROB=0.5)
    found = []
    for state in (1, 2):
        random.seed(state)
        torch.manual_seed(state)
        found.append(next(iter(build_train_loader(three_views))))
    assert torch.equal(found[0]["images"], found[1]["images"])
    assert random.random() == pytest.approx(random.Random(2).random())  # put back afterwards
