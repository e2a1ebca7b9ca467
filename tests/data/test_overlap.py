"""What training and test may not share. Oracle: what each test wrote into the lists.

The first two tests run over every registered dataset, so a new class fails until a leak of its own
is written here and is found.
"""

import logging
import os
import shutil

import numpy as np
import pytest

from vireid_plugins.data import build_dataset, check_dataset
from vireid_plugins.data.build import build_test_loader, build_train_loader
from vireid_plugins.data.datasets import SYSUMM01, CrossModalityDataset, DatasetError
from vireid_plugins.data.datasets.files import FileKeys
from vireid_plugins.data.training_items import build_train_items
from vireid_plugins.registry import registered_names

from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

KINDS = [DATASET_REGISTRY.get(name) for name in registered_names(DATASET_REGISTRY)]
OURS = [kind for kind in KINDS if issubclass(kind, CrossModalityDataset)]
STOCK = [kind for kind in KINDS if not issubclass(kind, CrossModalityDataset)]


def people(*splits):
    """Return rows of a CSV file: two images in each modality of the persons of each split."""
    return [
        (f"{pid}_{split}_{word}_{k}.png", pid, camera, word, split)
        for split, pids in splits
        for pid in pids
        for camera, word in ((1, "visible"), (2, "infrared"))
        for k in (1, 2)
    ]


TRAIN = ("train", (1, 2, 3))


def leak_csv(make):
    make("csv")(people(TRAIN, ("test", (3, 4))))


def leak_sysu(make):
    folder = make("sysu")(test=(6, 10))
    (folder / "exp" / "val_id.txt").write_text("5,6\n")


def leak_regdb(make):
    folder = make("regdb")()
    path = folder / "idx" / "test_thermal_1.txt"
    path.write_text(path.read_text() + "Thermal/2/male_1.bmp 2\n")


def leak_llcm(make):
    folder = make("llcm")()
    (folder / "idx" / "test_id.txt").write_text("2,7,12")
    for word in ("vis", "nir"):
        shutil.copytree(folder / word / "0002", folder / f"test_{word}" / "cam4" / "0002")


LEAKS = {
    "CSVDataset": (leak_csv, "1 identit.* with 4 test image.*: 3"),
    "LLCM": (leak_llcm, "1 identit.*: 2"),
    "RegDB": (leak_regdb, "1 image.* are in training and in test: Thermal/2/male_1.bmp"),
    "SYSUMM01": (leak_sysu, "1 identit.* with 18 test image.*: 6"),
}


@pytest.fixture
def make(request):
    """Return a function that returns the fixture ``make_<layout>``."""
    return lambda layout: request.getfixturevalue(f"make_{layout}")


@pytest.fixture
def own_cfg(cfg):
    """Return the config with a CSV file as its dataset."""
    cfg.DATASETS.CSV_FILE = "own/list.csv"
    cfg.DATASETS.NAMES = cfg.DATASETS.TESTS = ("CSVDataset",)
    return cfg


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_a_leak_is_refused_in_every_dataset_class(kind, make, own_cfg, tmp_path, caplog):
    name = kind.__name__
    write, expected = LEAKS[name]  # a new class: write a leak of its own above
    write(make)
    own_cfg.DATASETS.NAMES = own_cfg.DATASETS.TESTS = (name,)
    for build in (build_train_loader, lambda cfg: build_test_loader(cfg, name)):
        with pytest.raises(DatasetError, match=f"(?s){name}: .*{expected}.*ALLOW_OVERLAP"):
            build(own_cfg)
    options = {"csv_file": "own/list.csv"} if "csv_file" in kind.config_keys else {}
    report = check_dataset(name, str(tmp_path), **options)
    assert any("in training and in test" in problem for problem in report.problems)
    accepted = check_dataset(name, str(tmp_path), allow_overlap=True, **options)
    assert any("in training and in test" in line for line in accepted.lines)
    assert not any("in training and in test" in problem for problem in accepted.problems)
    own_cfg.DATASETS.ALLOW_OVERLAP = True
    with caplog.at_level(logging.WARNING):
        assert build_train_loader(own_cfg)
        assert build_test_loader(own_cfg, name)
    assert "in training and in test" in caplog.text


@pytest.mark.parametrize("kind", STOCK, ids=lambda kind: kind.__name__)
def test_a_shared_image_is_refused_in_every_dataset_of_fastreid(
    kind, own_cfg, tmp_path, monkeypatch
):
    paths = [str(tmp_path / f"{n}.jpg") for n in range(3)]
    for path in paths:
        open(path, "w").close()
    train = [(paths[0], "x_1", "x_0"), (paths[1], "x_2", "x_0")]
    test = [(str(tmp_path / "sub" / ".." / "1.jpg"), 7, 1)], [(paths[2], 7, 2)]
    (tmp_path / "sub").mkdir()
    monkeypatch.setattr(
        kind,
        "__init__",
        lambda self, root, **kwargs: ImageDataset.__init__(self, train, *test, **kwargs),
    )
    with pytest.raises(DatasetError, match=rf"{kind.__name__}: 1 image.*: .*1\.jpg.*ALLOW_OVERLAP"):
        build_test_loader(own_cfg, kind.__name__)


def test_a_person_in_both_parts_of_market_is_refused(own_cfg, write_image, tmp_path, caplog):
    root = tmp_path / "Market-1501-v15.09.15"
    for folder, names in {
        "bounding_box_train": ("0002_c1s1_1_01", "0007_c2s1_1_01", "-1_c1s1_1_01"),
        "query": ("0007_c3s1_1_01",),
        "bounding_box_test": ("0007_c4s1_1_01", "0000_c4s1_1_01", "-1_c4s1_1_01"),
    }.items():
        for name in names:
            write_image(root / folder / f"{name}.jpg")
    with pytest.raises(DatasetError, match="Market1501: 1 identit.* with 2 test image.*: 7"):
        build_test_loader(own_cfg, "Market1501")
    (root / "bounding_box_train" / "0007_c2s1_1_01.jpg").unlink()
    assert build_test_loader(own_cfg, "Market1501")  # distractors, identity 0, are no leak
    own_cfg.DATASETS.NAMES = ("Market1501",)
    with pytest.raises(DatasetError, match="show 1 identit"):
        build_train_items(own_cfg)


def test_a_name_that_fastreid_cannot_read_is_one_sentence(own_cfg, write_image, tmp_path):
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        write_image(tmp_path / "DukeMTMC-reID" / folder / "photo.jpg")
    with pytest.raises(DatasetError, match="DukeMTMC: AttributeError: .*its authors distribute"):
        build_dataset(own_cfg, "DukeMTMC")


def test_junk_of_fastreids_datasets_is_left_out(own_cfg, write_image, tmp_path, caplog):
    root = tmp_path / "DukeMTMC-reID"
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        for name in ("-1_c1_f1.jpg", f"{len(folder):04d}_c1_f1.jpg"):
            write_image(root / folder / name)
    with caplog.at_level(logging.WARNING):
        source = build_dataset(own_cfg, "DukeMTMC")
        assert [pid for _, pid, _ in source.train] == ["dukemtmc_18"]
        assert [pid for _, pid, _ in source.gallery] == [17]
    assert "DukeMTMC: 1 images in train have a negative identity" in caplog.text


def added(*rows):
    """Return rows that hold a good set and further rows."""
    return [*people(TRAIN, ("test", (8, 9))), *rows]


A, B = "1_train_visible_1.png", "1_train_infrared_1.png"


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([(A, 8, 1, "visible", "test")], rf"1 image.* in training and in test: {A}\. "),
        ([(f"./{A}", 2, 1, "visible", "train")], rf"1 training .* two identities: {A} \(1, 2\)"),
        ([(f"sub//../{A}", 1, 2, "infrared", "train")], rf"modalities: {A} \(visible, infrared\)"),
        ([(A, 1, 5, "visible", "train")], rf"two cameras: {A} \(1, 5\)"),
        ([("link.png", 2, 1, "visible", "train")], r"two identities: .*\(1, 2 as link.png\)"),
        ([("hard.png", 2, 1, "visible", "train")], r"two identities: .*\(1, 2 as hard.png\)"),
        ([("link.png", 8, 1, "visible", "query")], "1 image.* in training and in test: link.png"),
        ([(r"sub\..\link.png", 8, 1, "visible", "query")], "in training and in test: link.png"),
        ([("8_test_visible_1.png", 8, 1, "infrared", "test")], "1 test image.* two modalities"),
        ([(A, "2", 1, "visible", "train"), (B, "3", 2, "infrared", "train")], "2 training image"),
    ],
)
def test_what_contradicts_itself_is_refused(make_csv, own_cfg, tmp_path, rows, expected, caplog):
    good = added()
    path = make_csv(good)
    (path.parent / "sub").mkdir()
    os.symlink(path.parent / A, path.parent / "link.png")
    os.link(path.parent / A, path.parent / "hard.png")
    make_csv([*good, *rows], images=False)
    with pytest.raises(DatasetError, match=f"(?s){expected}"):
        build_train_loader(own_cfg)
    own_cfg.DATASETS.ALLOW_OVERLAP = True
    with caplog.at_level(logging.WARNING):
        build_train_loader(own_cfg)
    assert "ALLOW_OVERLAP" in caplog.text


def test_an_image_that_is_listed_twice_is_used_once(make_csv, own_cfg, caplog):
    rows = added()
    make_csv(rows)
    once = build_train_items(own_cfg)
    twice = [(f"./{row[0]}", *row[1:]) for row in rows if row[4] == "train"]
    make_csv([*rows, *twice], images=False)
    with caplog.at_level(logging.WARNING):
        assert build_train_items(own_cfg) == once
    assert caplog.text.count("12 training image(s) are listed more than once") == 1


def test_an_image_that_is_query_and_gallery_is_one_test_image(make_csv, own_cfg, caplog):
    good = people(TRAIN)
    tests = people(("query", (8, 9))), people(("gallery", (8, 9)))
    both = [(name.replace("gallery", "query"), *rest) for name, *rest in tests[1]]
    make_csv([*good, *tests[0], *both])
    with caplog.at_level(logging.WARNING):
        _, source = build_test_loader(own_cfg, "CSVDataset")
    assert "8 test image(s) are listed more than once" in caplog.text
    assert {item.modality for item in source.query} == {0} and len(source.query) == 4
    assert {item.modality for item in source.gallery} == {1} and len(source.gallery) == 4


def test_negative_identities_are_left_out(make_csv, own_cfg, caplog):
    make_csv(added(*people(("train", (-1,)), ("test", (-1, -7)))))
    with caplog.at_level(logging.WARNING):
        loader = build_train_loader(own_cfg)
        _, source = build_test_loader(own_cfg, "CSVDataset")
    assert loader.dataset.class_ids == [1, 2, 3]
    assert {item.pid for item in source.query + source.gallery} == {8, 9}
    assert "4 training image(s) have a negative identity (-1)" in caplog.text
    assert "8 test image(s) have a negative identity (-7, -1)" in caplog.text


def test_two_datasets_may_not_share_images_either(make_csv, make_sysu, own_cfg):
    folder = make_sysu()
    rows = people(TRAIN, ("test", (8, 9)))
    rows += [("../SYSU-MM01/cam1/0001/0001.jpg", 4, 1, "visible", "train")]
    rows += [("../SYSU-MM01/cam3/0001/0001.jpg", 4, 3, "infrared", "train")]
    make_csv(rows)
    own_cfg.DATASETS.TESTS = ()
    own_cfg.DATASETS.NAMES = ("CSVDataset", "SYSUMM01")
    with pytest.raises(DatasetError, match="CSVDataset and SYSUMM01: 2 training .* two identities"):
        build_train_loader(own_cfg)
    shutil.copy(folder / "exp" / "test_id.txt", folder / "exp" / "old.txt")
    (folder / "exp" / "test_id.txt").write_text("1")
    (folder / "exp" / "train_id.txt").write_text("2,3")
    own_cfg.DATASETS.NAMES, own_cfg.DATASETS.TESTS = ("CSVDataset",), ("SYSUMM01",)
    with pytest.raises(
        DatasetError, match="CSVDataset and SYSUMM01: 2 image.* training and in test"
    ):
        build_train_loader(own_cfg)


def test_combined_with_its_test_images_a_set_is_warned_of(make_sysu, cfg, caplog):
    make_sysu()
    cfg.DATASETS.COMBINEALL = True
    with caplog.at_level(logging.WARNING):
        assert build_train_loader(cfg).dataset.num_classes == 6
    assert "trained on the test images of SYSUMM01" in caplog.text


def test_training_needs_two_persons(make_csv, own_cfg, tmp_path):
    make_csv(people(("train", (1,)), ("test", (8, 9))))
    with pytest.raises(DatasetError, match="CSVDataset: .*show 1 identit"):
        build_train_loader(own_cfg)
    assert not check_dataset("csv", str(tmp_path), csv_file="own/list.csv").usable


def test_one_number_on_the_disk_is_no_proof_of_one_file(tmp_path, monkeypatch):
    """Some network disks renumber their files, so two files may have one number."""
    one, two, link = (str(tmp_path / name) for name in ("one.jpg", "two.jpg", "link.jpg"))
    for path in (one, two):
        open(path, "w").close()
    os.symlink(two, link)
    same = os.stat(one)
    monkeypatch.setattr(os, "stat", lambda path, **options: same)
    keys = FileKeys()
    assert keys[one] != keys[two] == keys[link]
    assert keys[one] == keys[str(tmp_path / "." / "one.jpg")]
    assert keys[one] == keys[str(tmp_path / "ONE.JPG")]  # as on a disk that ignores case


def test_persons_whom_nothing_tells_apart_are_no_leak(make_sysu, tmp_path):
    class Unknown(SYSUMM01):
        def person_of(self, part, item):
            return None

    make_sysu()
    assert Unknown(root=str(tmp_path)).leaks() == []


@pytest.mark.parametrize(
    "pid, expected",
    [(1.0, "whole number or a word; got 1.0"), (None, "got None"), (2**63, "64 bits")],
)
def test_a_class_that_lists_no_labels_is_one_sentence(pid, expected, make_sysu, tmp_path):
    class Odd(SYSUMM01):
        def read_train(self):
            return [item._replace(pid=pid) for item in super().read_train()]

    make_sysu()
    with pytest.raises(DatasetError, match=f"SYSUMM01: The identity .*{expected}"):
        Odd(root=str(tmp_path))


def test_a_class_may_list_words_and_numbers_of_numpy(make_sysu, tmp_path):
    class Named(SYSUMM01):
        def read_train(self):
            items = super().read_train()
            return [
                item._replace(
                    pid="anna" if item.pid == 2 else np.int64(item.pid), camid=f"c{item.camid}"
                )
                for item in items
            ]

    make_sysu()
    train = Named(root=str(tmp_path)).train
    assert list(dict.fromkeys(item.pid for item in train)) == [1, 3, 5, "anna"]
    assert type(train[0].pid) is int
    combined = {item.pid for item in Named(root=str(tmp_path), combineall=True).train}
    assert combined == {1, 3, 5, "anna", "test/6", "test/10"}


def test_regdb_folders_of_one_number_are_one_person(make_regdb, tmp_path, caplog):
    """A thermal list whose identities are shifted would train and test wrong pairs in silence."""
    path = make_regdb() / "idx" / "train_thermal_1.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    labels = sorted({label for _, label in lines})
    after = dict(zip(labels, labels[1:] + labels[:1]))
    path.write_text("".join(f"{name} {after[label]}\n" for name, label in lines))
    report = check_dataset("regdb", str(tmp_path))
    assert "listed under two identities: " in str(report) and not report.usable
    assert "two identities" not in caplog.text
    accepted = check_dataset("regdb", str(tmp_path), allow_overlap=True)
    assert "two identities" not in str(accepted.problems)
    assert "listed under two identities: " in caplog.text


def test_a_class_that_lists_the_same_item_twice_is_noticed(make_sysu, tmp_path, caplog):
    class Twice(SYSUMM01):
        def read_train(self):
            return super().read_train() * 2

    make_sysu()
    once = SYSUMM01(root=str(tmp_path)).train
    assert Twice(root=str(tmp_path)).train == once
    assert f"{len(once)} training image(s) are listed more than once" in caplog.text
