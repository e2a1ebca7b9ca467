"""Loaders with an image cache. Oracle: their batches without one."""

import logging

import pytest
import torch

from vireid_plugins.data import build_test_loader, build_train_loader
from vireid_plugins.data import cache as module
from vireid_plugins.data.cache import build_cache

GIB = 2**30


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def entries(folder):
    return sorted(folder.glob("*/*.u8"))


def switched_on(cfg, folder, **options):
    cfg = cfg.clone()
    cfg.DATALOADER.CACHE.ENABLED = True
    cfg.DATALOADER.CACHE.FOLDER = str(folder)
    for key, value in options.items():
        cfg.merge_from_list([key.replace("__", "."), value])
    return cfg


def batches(cfg, epochs=2):
    loader, found = build_train_loader(cfg), []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        found += [batch["images"] for batch in loader]
    return found


@pytest.mark.parametrize("workers,first", [(0, "Resize"), (2, "Resize"), (0, "TrivialAugment")])
def test_batches_are_bitwise_the_same(workers, first, cfg, make_sysu, folder, caplog):
    """With every random step on; resized images are kept, or decoded ones where none is first."""
    make_sysu()
    cfg.INPUT.SIZE_TRAIN = [20, 10]  # not the size of the files
    for node in (cfg.INPUT.CJ, cfg.INPUT.REA, cfg.INPUT.PADDING, cfg.INPUT.FLIP):
        node.ENABLED, node.PROB = True, 0.5
    cfg.INPUT.TRIVIAL_AUGMENT.ENABLED = first == "TrivialAugment"
    cfg.DATALOADER.NUM_WORKERS = workers
    plain = batches(cfg)
    with caplog.at_level(logging.INFO, logger="vireid_plugins"):
        filled = batches(switched_on(cfg, folder))
        used = batches(switched_on(cfg, folder))
    assert len(plain) == len(filled) == len(used) > 0
    assert all(torch.equal(a, b) for a, b in zip(plain, filled))
    assert all(torch.equal(a, b) for a, b in zip(plain, used))
    kept = entries(folder)[0].stat().st_size - module._HEADER.size
    assert (kept == 20 * 10 * 3) == (first == "Resize")
    assert "Image cache " in caplog.text
    counted = [record.message for record in caplog.records if " decoded" in record.message]
    assert counted[-1].endswith(" 0 decoded")  # the second run found all, also in its workers


def test_test_images_are_kept_too(cfg, make_sysu, folder):
    make_sysu()
    plain, _ = build_test_loader(cfg, "SYSUMM01")
    for _ in range(2):
        cached, _ = build_test_loader(switched_on(cfg, folder), "SYSUMM01")
        assert all(torch.equal(a["images"], b["images"]) for a, b in zip(plain, cached))
    assert len(entries(folder)) == len(plain.dataset)


def test_a_key_switches_it_on_and_the_others_reach_it(cfg, folder, monkeypatch, tmp_path):
    assert build_cache(cfg) is None
    found = build_cache(switched_on(cfg, folder, DATALOADER__CACHE__MAX_GB=0.5))
    assert found.folder == folder and found.max_bytes == GIB // 2
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path / "mine"))
    assert build_cache(switched_on(cfg, "")).folder == tmp_path / "mine" / "images"
    with pytest.raises(ValueError, match="MAX_GB is 0"):
        build_cache(switched_on(cfg, folder, DATALOADER__CACHE__MAX_GB=0.0))
