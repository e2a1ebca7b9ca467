"""Gray of more than 8 bits. Oracle: arithmetic by hand on thermal images whose values are known."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from vireid_plugins.data.build import build_test_loader, build_train_loader
from vireid_plugins.data.range_survey import check_ranges_suit, survey
from vireid_plugins.data.reading import ImageReader, range_facts, restore_ranges, with_ranges
from vireid_plugins.errors import UserError
from vireid_plugins.modality import Modality

LOW, HIGH = 7000, 9000  # counts of a 14-bit thermal camera
SHAPE = (24, 12)


def thermal(seed, low=LOW, high=HIGH):
    """Counts of a camera; the first two pixels have the ends of the range."""
    counts = np.random.default_rng(seed).integers(low, high + 1, SHAPE)
    counts[0, :2] = low, high
    return counts.astype(np.uint16)


def by_hand(counts, low, high):
    """Every count by itself, as a reader of the documentation would compute it."""
    return [
        [round(255 * (min(max(int(c), low), high) - low) / (high - low)) for c in row]
        for row in counts
    ]


@pytest.fixture
def thermal_sysu(make_sysu, cfg):
    """SYSU-MM01 whose infrared images are 14-bit PNGs (by their content; names end in .jpg)."""
    folder = make_sysu(train=(1, 2), test=(6, 10), images=2)
    for number, path in enumerate(sorted(folder.glob("cam[36]/*/*.jpg"))):
        Image.fromarray(thermal(number)).save(path, format="PNG")
    return cfg


def pixels(loader, row):
    return loader.dataset[row]["images"]


def test_auto_finds_the_range_of_the_training_set_and_says_it(thermal_sysu, caplog):
    caplog.set_level(logging.INFO)
    loader = build_train_loader(thermal_sysu)
    assert loader.dataset.reader.limits == (None, (LOW, HIGH))
    assert "INPUT.INFRARED_RANGE auto" in caplog.text and "values 7000..9000" in caplog.text
    infrared = [item for item in loader.dataset.items if item.modality == Modality.INFRARED]
    counts = np.asarray(Image.open(infrared[0].path))
    found = np.asarray(loader.dataset.reader(infrared[0].path, Modality.INFRARED))
    assert np.abs(found[:, :, 0] - np.array(by_hand(counts, LOW, HIGH), float)).max() <= 0.5
    assert found.std() > 50  # divided by 65535 it was below 3


def test_the_range_is_frozen_into_config_and_facts_and_reads_the_same_pixels(thermal_sysu):
    loader = build_train_loader(thermal_sysu)
    thermal_sysu.freeze()
    frozen = with_ranges(thermal_sysu, loader.dataset.reader)
    assert frozen.INPUT.INFRARED_RANGE == "7000..9000" and frozen.INPUT.VISIBLE_RANGE == "auto"
    assert frozen.is_frozen() and thermal_sysu.INPUT.INFRARED_RANGE == "auto"
    later = thermal_sysu.clone()
    later.defrost()
    restore_ranges(later, range_facts(frozen), "model.pth")
    test, _ = build_test_loader(later, "SYSUMM01")
    place = next(n for n, i in enumerate(test.dataset.items) if i.modality == Modality.INFRARED)
    item = test.dataset.items[place]
    expected = np.array(by_hand(np.asarray(Image.open(item.path)), LOW, HIGH), np.float32)
    assert (pixels(test, place) - torch.from_numpy(expected)).abs().max() <= 0.5
    assert test.dataset.reader == loader.dataset.reader


def test_one_cold_image_is_not_stretched_to_its_own_range(thermal_sysu, tmp_path):
    reader = build_train_loader(thermal_sysu).dataset.reader
    Image.fromarray(thermal(0, 7000, 7100)).save(tmp_path / "cold.png")
    found = np.asarray(reader(str(tmp_path / "cold.png"), Modality.INFRARED))
    assert found.max() == round(255 * 100 / 2000)
    alone = np.asarray(ImageReader()(str(tmp_path / "cold.png"), Modality.INFRARED))
    assert alone.min() == 0 and alone.max() == 255


def test_images_of_8_bits_leave_auto_open_and_their_pixels_alone(make_sysu, cfg):
    make_sysu(train=(1, 2), test=(6, 10), images=2)
    loader = build_train_loader(cfg)
    assert loader.dataset.reader == ImageReader()
    assert with_ranges(cfg, loader.dataset.reader) is cfg
    path = loader.dataset.items[0].path
    ranged = ImageReader(((5, 9), (5, 9)))
    for modality in Modality:
        assert np.array_equal(np.asarray(ranged(path, modality)), np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0, 65535], "auto"),
        ([100, 40_000], "auto"),
        ([29_315, 31_015], "29315..31015"),
        ([0, 4095], "0..4095"),
    ],
)
def test_only_a_range_below_half_of_16_bits_changes_how_files_are_read(
    make_sysu, cfg, values, expected
):
    folder = make_sysu(train=(1, 2), test=(6, 10), images=2)
    for number, path in enumerate(sorted(folder.glob("cam[36]/*/*.jpg"))):
        Image.fromarray(thermal(number, *values)).save(path, format="PNG")
    reader = build_train_loader(cfg).dataset.reader
    expected = "0..65535" if expected == "auto" else expected
    assert with_ranges(cfg, reader).INPUT.INFRARED_RANGE == expected


def test_a_range_that_the_user_gives_holds(thermal_sysu):
    thermal_sysu.INPUT.INFRARED_RANGE = "0..16383"
    assert build_train_loader(thermal_sysu).dataset.reader.limits[1] == (0, 16383)
    thermal_sysu.INPUT.INFRARED_RANGE = "file"
    assert build_train_loader(thermal_sysu).dataset.reader.limits[1] is None


@pytest.mark.parametrize("words", ["7000..9500", " 7e3 .. 9.5e3", "[7000, 9500]", "(7000,9500.0)"])
def test_words_that_are_a_range(cfg, words):
    cfg.INPUT.INFRARED_RANGE = words
    assert ImageReader.from_config(cfg).limits == (None, (7000, 9500))


@pytest.mark.parametrize("words", ["9..7", "5..5", "0..x", "", "Auto", "0..inf", "1....2", "7000"])
def test_words_that_are_no_range(cfg, words):
    cfg.INPUT.INFRARED_RANGE = words
    with pytest.raises(UserError, match="INPUT.INFRARED_RANGE is .*LOW..HIGH"):
        ImageReader.from_config(cfg)


def test_degrees_as_floating_point_numbers_need_a_range(make_sysu, cfg, tmp_path):
    folder = make_sysu(train=(1, 2), test=(6, 10), images=2)
    for number, path in enumerate(sorted(folder.glob("cam[36]/*/*.jpg"))):
        degrees = thermal(number).astype(np.float32) / 100 - 60  # 10 to 30 degrees Celsius
        Image.fromarray(degrees).save(path, format="TIFF")
    loader = build_train_loader(cfg)
    low, high = loader.dataset.reader.limits[1]
    assert (low, high) == pytest.approx((10, 30), abs=0.1)
    words = with_ranges(cfg, loader.dataset.reader).INPUT.INFRARED_RANGE
    cfg.INPUT.INFRARED_RANGE = words
    assert ImageReader.from_config(cfg).limits[1] == pytest.approx((low, high))


def test_checkpoints_from_before_the_ranges_divide_by_65535(cfg):
    restore_ranges(cfg, {"version": "0"}, "old.pth")
    assert cfg.INPUT.INFRARED_RANGE == cfg.INPUT.VISIBLE_RANGE == "0..65535"
    assert ImageReader.from_config(cfg).fingerprint == ""


def test_a_given_range_is_kept_and_a_difference_is_told(cfg, caplog):
    cfg.INPUT.INFRARED_RANGE = "1..2"
    facts = {"infrared_range": "7000..9000", "visible_range": "auto"}
    restore_ranges(cfg, facts, "model.pth", given=["INPUT.INFRARED_RANGE"])
    assert cfg.INPUT.INFRARED_RANGE == "1..2" and cfg.INPUT.VISIBLE_RANGE == "auto"
    assert "model.pth was trained with 7000..9000" in caplog.text
    with pytest.raises(UserError, match="model.pth.*infrared_range"):
        restore_ranges(cfg, {"infrared_range": 5}, "model.pth")


def test_a_range_that_does_not_suit_the_images_is_one_warning(thermal_sysu, caplog):
    items = build_train_loader(thermal_sysu).dataset.items
    caplog.clear()
    check_ranges_suit(ImageReader(((0, 1), (0, 65535))), items, "Test")
    warnings = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 1 and "3.1 % of INPUT.INFRARED_RANGE 0..65535" in caplog.text
    assert "7000..9000" in warnings[0].message
    caplog.clear()
    check_ranges_suit(ImageReader(), items, "Test")
    assert "each is scaled by its own range, because the model has none" in caplog.text


def test_hot_and_dead_pixels_do_not_stretch_the_range(tmp_path):
    counts = thermal(0).repeat(20, axis=0).repeat(20, axis=1)
    counts[0, 0], counts[1, 1] = 0, 65535
    Image.fromarray(counts).save(tmp_path / "a.png")
    assert survey([str(tmp_path / "a.png")]).limits == (LOW, HIGH)


def test_color_of_16_bits_that_uses_12_is_told(tmp_path, caplog):
    from tests.readers.png16 import write_color_png

    write_color_png(tmp_path / "a.png", np.random.default_rng(0).integers(0, 4096, (8, 4, 3)))
    found = survey([str(tmp_path / "a.png")])
    assert (found.num_color, found.brightest) == (1, 15)


def test_the_cache_keeps_images_of_other_ranges_apart(thermal_sysu, tmp_path):
    thermal_sysu.DATALOADER.CACHE.ENABLED = True
    thermal_sysu.DATALOADER.CACHE.FOLDER = str(tmp_path / "cache")
    found = []
    for words in ("auto", "0..65535", "auto"):
        thermal_sysu.INPUT.INFRARED_RANGE = words
        loader = build_train_loader(thermal_sysu)
        place = next(n for n, i in enumerate(loader.dataset.items) if i.modality == 1)
        image = loader.dataset._pixels(place, 0)["images"]
        path = loader.dataset.items[place].path
        fresh = loader.dataset.transform.begin(loader.dataset.reader(path, Modality.INFRARED), 1)
        kept = loader.dataset.cache.image(path, _kind(loader), lambda: pytest.fail("not kept"))
        assert np.array_equal(np.asarray(kept), np.asarray(fresh))
        found.append(np.asarray(kept).astype(int))
        assert image.shape[0] == 3
    assert np.array_equal(found[0], found[2]) and np.abs(found[0] - found[1]).max() > 50


def _kind(loader):
    dataset = loader.dataset
    words = dataset.reader.describe(Modality.INFRARED)
    return f"{dataset.transform.common(Modality.INFRARED)}, gray values {words}"
