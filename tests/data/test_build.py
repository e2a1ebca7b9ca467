"""Loaders. Oracles: the files on disk, loops over the batches, one process against two workers."""

import logging
import os
import pickle
import random
from collections import Counter

import numpy as np
import pytest
import torch

from vireid_plugins.data import build
from vireid_plugins.data import dataset as dataset_module
from vireid_plugins.data.build import build_test_loader, build_train_loader
from vireid_plugins.data.datasets import DatasetError
from vireid_plugins.data.training_items import join_items

from fastreid.data.datasets import DATASET_REGISTRY


def augmented(cfg):
    for node in ("FLIP", "PADDING", "CJ", "REA", "GREY", "TRIVIAL_AUGMENT"):
        cfg.INPUT[node].ENABLED = True
    return cfg


def epochs(loader, numbers=(0, 1)):
    batches = []
    for epoch in numbers:
        loader.batch_sampler.set_epoch(epoch)
        batches += list(loader)
    return batches


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(a[key], b[key]) if torch.is_tensor(a[key]) else a[key] == b[key]
        for a, b in zip(first, second)
        for key in a
    )


def test_batches_hold_what_the_contract_says(make_sysu, cfg):
    make_sysu()
    loader = build_train_loader(cfg)
    assert loader.dataset.num_classes == 4 and len(loader.dataset) == 4 * 6 * 3
    # 4 x 4 x 3 = 48 visible images, P*K = 4
    assert len(loader) == loader.iterations_per_epoch == 12
    batches = list(loader)
    assert len(batches) == 12
    for batch in batches:
        assert batch["images"].shape == (8, 3, 24, 12) and batch["images"].dtype == torch.float32
        assert 0 <= batch["images"].min() and batch["images"].max() <= 255
        pairs = Counter(zip(batch["targets"].tolist(), batch["modalities"].tolist()))
        assert len(pairs) == 4 and set(pairs.values()) == {2}
        for row, index in enumerate(batch["index"].tolist()):
            path, pid, camid, modality = loader.dataset.items[index]
            assert batch["img_paths"][row] == path
            assert loader.dataset.class_ids[batch["targets"][row]] == pid
            assert batch["camids"][row] == camid and batch["modalities"][row] == modality


def test_workers_do_not_change_a_bit(make_sysu, cfg):
    make_sysu()
    augmented(cfg)
    alone = epochs(build_train_loader(cfg))
    cfg.DATALOADER.NUM_WORKERS = 2
    assert same(alone, epochs(build_train_loader(cfg)))
    assert not same(alone[:12], alone[12:])


def test_loading_disturbs_no_generator(make_sysu, cfg):
    make_sysu()
    loader = build_train_loader(augmented(cfg))
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    epochs(loader)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


def test_seed_and_epoch_decide_and_nothing_else(make_sysu, cfg):
    make_sysu()
    augmented(cfg)
    expected = epochs(build_train_loader(cfg), [3])
    random.seed(8), np.random.seed(8), torch.manual_seed(8)
    again = build_train_loader(cfg)
    epochs(again, [0])
    assert same(epochs(again, [3]), expected)
    cfg.SEED = 1
    assert not same(epochs(build_train_loader(cfg), [3]), expected)


def test_an_image_drawn_twice_is_augmented_differently(make_sysu, cfg):
    make_sysu(images=1)
    cfg.DATALOADER.NUM_INSTANCE, cfg.SOLVER.IMS_PER_BATCH = 6, 24
    cfg.INPUT.PADDING.ENABLED = True
    cfg.INPUT.TRIVIAL_AUGMENT.ENABLED = True
    batch = next(iter(build_train_loader(cfg)))
    by_index = {}
    for row, index in enumerate(batch["index"].tolist()):
        by_index.setdefault(index, []).append(batch["images"][row])
    repeated = [rows for rows in by_index.values() if len(rows) > 1]
    assert repeated and any(not torch.equal(rows[0], rows[1]) for rows in repeated)


def ranked(monkeypatch, rank, world_size):
    monkeypatch.setattr("fastreid.utils.comm.get_rank", lambda: rank)
    monkeypatch.setattr("fastreid.utils.comm.get_world_size", lambda: world_size)
    monkeypatch.setattr("fastreid.utils.comm.all_gather", lambda data: [data])


def test_two_ranks_share_the_batches_of_one(make_sysu, cfg, monkeypatch):
    make_sysu()
    whole = [batch["index"].tolist() for batch in build_train_loader(cfg)]
    parts = []
    for rank in (0, 1):
        ranked(monkeypatch, rank, 2)
        parts.append([batch["index"].tolist() for batch in build_train_loader(cfg)])
    assert [a + b for a, b in zip(*parts)] == whole


def test_ranks_augment_with_seeds_of_their_own(make_sysu, cfg, monkeypatch):
    make_sysu()
    seeds = []
    for rank in (0, 1):
        ranked(monkeypatch, rank, 2)
        batches = list(build_train_loader(cfg).batch_sampler)
        seeds.append({request.seed for batch in batches for request in batch})
    assert len(seeds[0]) == len(seeds[1]) == 12 * 4 and not seeds[0] & seeds[1]


@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_every_test_image_comes_exactly_once(make_sysu, cfg, monkeypatch, world_size):
    make_sysu()
    rows, paths = [], {}
    for rank in range(world_size):
        ranked(monkeypatch, rank, world_size)
        loader, dataset = build_test_loader(cfg, "SYSUMM01")
        for batch in loader:
            rows += batch["index"].tolist()
            paths.update(zip(batch["index"].tolist(), batch["img_paths"]))
    listed = dataset.query + dataset.gallery
    assert rows == list(range(2 * 6 * 3))
    assert [paths[row] for row in rows] == [item.path for item in listed]


def test_test_targets_are_the_identities(make_sysu, cfg):
    make_sysu()
    loader, dataset = build_test_loader(cfg, "SYSUMM01")
    batches = list(loader)
    targets = torch.cat([batch["targets"] for batch in batches]).tolist()
    assert targets == [item.pid for item in dataset.query + dataset.gallery]
    assert set(targets) == {6, 10}


def test_root_is_read_when_called(make_sysu, cfg, monkeypatch, tmp_path):
    make_sysu()
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "other"))
    with pytest.raises(DatasetError, match="other"):
        build_train_loader(cfg)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    assert len(build_train_loader(cfg)) == 12


def test_regdb_trial_and_csv_file_come_from_the_config(make_regdb, make_csv, cfg):
    make_regdb()
    make_csv([("q.png", 8, 2, "infrared", "query"), ("g.png", 8, 1, "visible", "gallery")])
    cfg.DATASETS.REGDB_TRIAL = 2
    cfg.DATASETS.CSV_FILE = "own/list.csv"
    assert build_test_loader(cfg, "RegDB")[1].trial == 2
    assert build_test_loader(cfg, "CSVDataset")[1].csv_file.endswith("own/list.csv")


def test_combine_all(make_regdb, cfg):
    make_regdb()
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("RegDB",)
    assert build_train_loader(cfg).dataset.num_classes == 3
    cfg.DATASETS.COMBINEALL = True
    assert build_train_loader(cfg).dataset.num_classes == 6


def test_persons_of_several_datasets_stay_apart(make_sysu, make_regdb, cfg):
    make_sysu(train=(0, 1, 2))
    make_regdb()  # persons 0, 1, 2 as well
    cfg.DATASETS.NAMES = ("SYSUMM01", "RegDB")
    loader = build_train_loader(cfg)
    assert loader.dataset.num_classes == 4 + 3
    owners = {}
    for path, pid, _, _ in loader.dataset.items:
        owners.setdefault(pid, set()).add("RegDB" in path)
    assert all(len(owner) == 1 for owner in owners.values())
    assert {item.camid for item in loader.dataset.items} == {1, 2, 3, 4, 5, 6}
    assert len(loader.sources) == 2 and len(loader.dataset.fingerprint.split("-")) == 2


def test_fingerprint_is_that_of_the_training_items(make_regdb, cfg):
    make_regdb()
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("RegDB",)
    first = build_train_loader(cfg).dataset.fingerprint
    assert first == build_train_loader(cfg).dataset.fingerprint != ""
    cfg.DATASETS.REGDB_TRIAL = 2
    assert build_train_loader(cfg).dataset.fingerprint != first


def make_market(root, write_image):
    folder = root / "Market-1501-v15.09.15"
    parts = {"bounding_box_train": (2, 10, 7), "query": (3,), "bounding_box_test": (3,)}
    for part, pids in parts.items():
        for pid in pids:
            for camera in (1, 2):
                for k in range(2):
                    write_image(folder / part / f"{pid:04d}_c{camera}s1_{k:06d}_00.jpg", pid + k)


@pytest.mark.parametrize("sampler", ["TrainingSampler", "NaiveIdentitySampler"])
def test_stock_dataset_with_a_stock_sampler(write_image, cfg, tmp_path, sampler):
    make_market(tmp_path, write_image)
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("Market1501",)
    cfg.DATALOADER.SAMPLER_TRAIN = sampler
    cfg.SOLVER.IMS_PER_BATCH = 4
    loader = build_train_loader(cfg)
    batches = epochs(loader)
    assert len(loader) == 12 // 4 and len(batches) == 6
    assert {int(m) for batch in batches for m in batch["modalities"]} == {0}
    paths = [item.path for item in loader.dataset.items]
    assert paths == sorted(paths)  # the host lists them as the file system does
    test_loader, dataset = build_test_loader(cfg, "Market1501")
    assert sum(len(batch["index"]) for batch in test_loader) == len(dataset.query + dataset.gallery)


def test_stock_dataset_with_our_sampler_is_refused(write_image, cfg, tmp_path):
    make_market(tmp_path, write_image)
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("Market1501",)
    with pytest.raises(ValueError, match="no infrared image.*SAMPLER_TRAIN"):
        build_train_loader(cfg)


def test_datasets_can_be_sent_to_spawned_workers(make_sysu, cfg):
    make_sysu()
    dataset = build_train_loader(augmented(cfg)).dataset
    copy = pickle.loads(pickle.dumps(dataset))
    request = dataset_module.ItemRequest(3, 7)
    assert torch.equal(copy[request]["images"], dataset[request]["images"])


def test_transforms_and_counts_are_logged(make_sysu, cfg, caplog):
    make_sysu()
    with caplog.at_level(logging.INFO):
        build_train_loader(augmented(cfg))
    assert "72 images, 4 identities, 12 iterations of 8 images" in caplog.text
    assert "infrared: TrivialAugment(prob=1.0) -> Resize" in caplog.text


def test_cpu_loaders_pin_nothing(make_sysu, cfg):
    make_sysu()
    cfg.MODEL.DEVICE = "cuda" if not torch.cuda.is_available() else "cpu"
    assert build_train_loader(cfg).pin_memory is False


def test_joined_items_of_one_dataset_are_its_own(make_regdb, cfg, tmp_path):
    make_regdb()
    source = build.build_dataset(cfg, "RegDB")
    assert join_items([source]) == source.train
    assert isinstance(source, DATASET_REGISTRY.get("RegDB"))
    assert os.path.samefile(source.root, tmp_path)
