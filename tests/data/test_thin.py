"""A thinned training set. Oracles: counts by hand, and the whole set."""

import logging
from collections import Counter

import pytest

from vireid_plugins.data.build import build_train_loader
from vireid_plugins.data.item import Item
from vireid_plugins.data.thin import thin_items
from vireid_plugins.modality import Modality

NUMBERS = {"a": 10, "b": 3, "c": 1}  # images of each identity in each modality


@pytest.fixture
def items():
    return [
        Item(f"{pid}{modality}{n}", pid, 1, modality)
        for pid, number in NUMBERS.items()
        for modality in (0, 1)
        for n in range(number)
    ]


def test_a_share_of_each_identitys_images_stays_and_at_least_one(cfg, items):
    cfg.DATASETS.THIN.MODALITY, cfg.DATASETS.THIN.KEEP = "infrared", 0.3
    left = thin_items(cfg, items)
    assert [item for item in items if item in left] == left  # a part, in its order
    assert Counter(pid for _, pid, _, modality in left if modality == 0) == NUMBERS
    infrared = Counter(pid for _, pid, _, modality in left if modality == 1)
    assert infrared == {"a": 3, "b": 1, "c": 1}  # 10 x 0.3, 3 x 0.3 rounded, never none
    cfg.DATASETS.THIN.KEEP = 0.6
    infrared = Counter(pid for _, pid, _, modality in thin_items(cfg, items) if modality == 1)
    assert infrared == {"a": 6, "b": 2, "c": 1}  # 3 x 0.6 is rounded, not cut


def test_the_seed_chooses_and_nothing_else(cfg, items):
    cfg.DATASETS.THIN.MODALITY, cfg.DATASETS.THIN.KEEP = "visible", 0.5
    first = thin_items(cfg, items)
    cfg.SEED = 9
    assert thin_items(cfg, items) == first
    cfg.DATASETS.THIN.SEED = 1
    assert thin_items(cfg, items) != first
    cfg.DATASETS.THIN.KEEP = 1.0
    assert thin_items(cfg, items) == items


def test_a_thinned_set_is_trained_and_has_a_fingerprint_of_its_own(make_sysu, cfg, caplog):
    make_sysu()
    whole = build_train_loader(cfg).dataset
    cfg.DATASETS.THIN.MODALITY, cfg.DATASETS.THIN.KEEP = "infrared", 0.5
    with caplog.at_level(logging.INFO, logger="vireid_plugins"):
        thinned = build_train_loader(cfg).dataset
    assert "12 of 24 infrared training images stay (KEEP 0.5, SEED 0)" in caplog.text
    infrared = [item for item in thinned.items if item.modality == Modality.INFRARED]
    assert len(infrared) == 4 * 3 and len(thinned) == 4 * (3 + 12)  # of 6 and 12 for each of 4
    assert thinned.fingerprint == f"{whole.fingerprint}-infrared-0.5-0"
    cfg.DATASETS.THIN.KEEP = 1.0  # thins nothing: it is the whole set
    assert build_train_loader(cfg).dataset.fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    "values,message",
    [
        ({"MODALITY": "thermal"}, r"DATASETS\.THIN\.MODALITY.*'thermal'"),
        ({"MODALITY": "visible", "KEEP": 0.0}, r"DATASETS\.THIN\.KEEP.*0\.0"),
        ({"KEEP": 0.25}, r"DATASETS\.THIN\.KEEP is 0\.25 and MODALITY is empty"),
        ({"MODALITY": "visible", "SEED": -1}, r"DATASETS\.THIN\.SEED.*-1"),
    ],
)
def test_wrong_words_are_named(cfg, items, values, message):
    for name, value in values.items():
        cfg.DATASETS.THIN[name] = value
    with pytest.raises(ValueError, match=message):
        thin_items(cfg, items)


def test_a_set_without_the_modality_is_named(cfg, items):
    cfg.DATASETS.THIN.MODALITY, cfg.DATASETS.THIN.KEEP = "infrared", 0.5
    with pytest.raises(ValueError, match="no such training image"):
        thin_items(cfg, [item for item in items if item.modality == Modality.VISIBLE])
