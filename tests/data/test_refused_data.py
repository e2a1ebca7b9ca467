"""What is refused, or said, before anything is trained. Oracle: what each test damaged."""

import logging
import os

import pytest

from vireid_plugins.data.build import build_test_loader, build_train_loader
from vireid_plugins.data.datasets import DatasetError
from vireid_plugins.evaluation import rehearse_tests
from vireid_plugins.readers.image import ImageError


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("damage", ["truncated", "empty"])
def test_broken_images_are_found_before_training(make_sysu, cfg, split, damage):
    pid = "0001" if split == "train" else "0006"
    path = make_sysu() / "cam4" / pid / "0002.jpg"
    path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-300])
    with pytest.raises(ImageError) as error:
        build_train_loader(cfg)
    assert str(path) in str(error.value) and "original archive" in str(error.value)


def test_sizes_only_verification_lets_a_truncated_image_pass(make_sysu, cfg):
    path = make_sysu() / "cam4" / "0001" / "0002.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    cfg.DATASETS.VERIFY_IMAGES = "sizes"
    assert build_train_loader(cfg)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("part", ["train", "test"])
def test_an_image_that_breaks_in_a_worker_is_one_sentence(make_sysu, cfg, part, workers):
    folder = make_sysu(train=(1, 2), test=(6, 10), images=2)
    pid = "0001" if part == "train" else "0006"
    broken = list(folder.glob(f"cam*/{pid}/0001.jpg"))
    for path in broken:
        path.write_bytes(path.read_bytes()[:-300])
    cfg.DATASETS.VERIFY_IMAGES = "sizes"
    cfg.DATALOADER.NUM_WORKERS = workers
    train = part == "train"
    loader = build_train_loader(cfg) if train else build_test_loader(cfg, "SYSUMM01")[0]
    with pytest.raises(ImageError) as error:
        list(loader)
    message = str(error.value)
    assert any(message.startswith(f"{path}: not a readable image") for path in broken)
    assert "Traceback" not in message and "\n" not in message and len(message) < 400


def test_a_fault_of_the_program_in_a_worker_keeps_its_traceback(make_sysu, cfg, monkeypatch):
    make_sysu(train=(1, 2), test=(6, 10), images=2)
    cfg.DATALOADER.NUM_WORKERS = 1
    loader = build_train_loader(cfg)
    monkeypatch.setattr(loader.dataset, "transform", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError, match="Traceback"):
        list(loader)


@pytest.mark.parametrize("spoil", ["folder", "pipe", "forbidden"])
def test_verification_by_size_finds_what_is_no_file(make_sysu, cfg, monkeypatch, spoil):
    path = make_sysu(train=(1, 2), test=(6, 10), images=2) / "cam4" / "0001" / "0002.jpg"
    path.unlink()
    if spoil == "folder":
        path.mkdir()
    elif spoil == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"some")
        access = os.access  # root may read everything
        monkeypatch.setattr(os, "access", lambda one, *how: one != str(path) and access(one, *how))
    cfg.DATASETS.VERIFY_IMAGES = "sizes"
    with pytest.raises(ImageError, match="0002.jpg: cannot be opened"):
        build_train_loader(cfg)


def test_without_evaluation_no_test_set_is_needed(make_sysu, cfg):
    make_sysu()
    cfg.DATASETS.TESTS = ("RegDB",)
    with pytest.raises(DatasetError, match="RegDB"):
        build_train_loader(cfg)
    cfg.TEST.EVAL_PERIOD = 0
    assert build_train_loader(cfg)


def test_test_loader_verifies_too(make_sysu, cfg):
    path = make_sysu() / "cam3" / "0010" / "0001.jpg"
    path.write_bytes(b"")
    with pytest.raises(ImageError, match="0010"):
        build_test_loader(cfg, "SYSUMM01")


def test_queries_without_a_match_are_counted(make_sysu, cfg, caplog):
    folder = make_sysu()
    for camera in (1, 2, 4, 5):
        for path in (folder / f"cam{camera}" / "0006").iterdir():
            path.unlink()
    with caplog.at_level(logging.INFO):
        build_test_loader(cfg, "SYSUMM01")
    assert "1 query identities have no gallery image (6" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):  # one warning is enough: the rehearsal's
        rehearse_tests(cfg)
        build_test_loader(cfg, "SYSUMM01")
    assert "6 of identities that the gallery lacks" in caplog.text and len(caplog.records) == 1


def test_no_query_with_a_match_is_an_error(make_csv, cfg):
    make_csv([("q.png", 1, 2, "infrared", "query"), ("g.png", 2, 1, "visible", "gallery")])
    cfg.DATASETS.CSV_FILE = "own/list.csv"
    with pytest.raises(DatasetError, match="no query identity has a gallery image in the other"):
        build_test_loader(cfg, "CSVDataset")


def test_a_query_with_a_match_in_its_own_modality_only_is_not_matched(make_csv, cfg, caplog):
    rows = [
        ("q1.png", 1, 2, "infrared", "query"),
        ("g1.png", 1, 1, "visible", "gallery"),
        ("q2.png", 2, 2, "infrared", "query"),
        ("g2.png", 2, 3, "infrared", "gallery"),
    ]
    make_csv(rows)
    cfg.DATASETS.CSV_FILE = "own/list.csv"
    with caplog.at_level(logging.INFO):
        build_test_loader(cfg, "CSVDataset")
    assert "1 query identities" in caplog.text


@pytest.mark.parametrize(
    "change, error, expected",
    [
        (["DATASETS.NAMES", "('SYSUMM1',)"], KeyError, "DATASETS.NAMES.*'SYSUMM01'"),
        (["DATASETS.TESTS", "('RegBD',)"], KeyError, "DATASETS.TESTS.*'RegDB'"),
        (["DATASETS.NAMES", "('SYSUMM01', 'SYSUMM01')"], ValueError, "each once"),
        (["DATASETS.NAMES", "()"], ValueError, "must name datasets"),
        (["DATALOADER.SAMPLER_TRAIN", "Random"], KeyError, "DATALOADER.SAMPLER_TRAIN"),
        (["SOLVER.IMS_PER_BATCH", 9], ValueError, r"= 2\*P\*K"),
        (["SOLVER.IMS_PER_BATCH", 20], ValueError, "5 identities, the training set has 4"),
        (["DATASETS.VERIFY_IMAGES", "no"], ValueError, "'sizes', 'full'"),
        (["INPUT.AUTOAUG.ENABLED", True], ValueError, "INPUT.TRIVIAL_AUGMENT"),
    ],
)
def test_bad_configs_are_refused_before_training(make_sysu, cfg, change, error, expected):
    make_sysu()
    cfg.merge_from_list(change)
    with pytest.raises(error, match=expected):
        build_train_loader(cfg)
