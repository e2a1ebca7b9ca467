"""Oracle: the rows the test wrote."""

import os

import numpy as np
import pytest
import torch

from vireid_plugins.data import build_dataset, check_dataset
from vireid_plugins.data.datasets import CSVDataset, DatasetError
from vireid_plugins.evaluation import TestFeatures, evaluate

GOOD = [
    ("a/v 1.png", 3, 1, "visible", "train"),
    ("a\\i1.png", 3, 2, "infrared", "train"),
    ("q.png", 8, 2, "Infrared", "query"),
    ("g.png", 8, 1, "visible", "Gallery"),
]


def brief(items):
    return [(os.path.basename(item.path), *item[1:]) for item in items]


def message(path, **kwargs):
    with pytest.raises(DatasetError) as error:
        CSVDataset(root=str(path.parent), csv_file=path.name, **kwargs)
    return str(error.value)


def test_rows_become_items(make_csv, tmp_path):
    path = make_csv(GOOD)
    dataset = CSVDataset(root=str(tmp_path), csv_file="own/list.csv")
    assert brief(dataset.train) == [("v 1.png", 3, 1, 0), ("i1.png", 3, 2, 1)]
    assert brief(dataset.query) == [("q.png", 8, 2, 1)]
    assert brief(dataset.gallery) == [("g.png", 8, 1, 0)]
    assert all(os.path.isfile(item.path) for item in dataset.train)
    absolute = CSVDataset(root="/nowhere", csv_file=str(path))
    assert absolute.fingerprint() == dataset.fingerprint()


def test_words_are_numbered_in_natural_order(make_csv, tmp_path):
    make_csv(
        [
            ("1.png", "anna", "c10", "visible", "train"),
            ("2.png", "bob", "c2", "infrared", "train"),
            ("3.png", "carl", "c2", "visible", "query"),
        ]
    )
    dataset = CSVDataset(root=str(tmp_path), csv_file="own/list.csv")
    assert brief(dataset.train) == [("1.png", 0, 1, 0), ("2.png", 1, 0, 1)]
    assert brief(dataset.query) == [("3.png", 2, 0, 0)]


def test_split_named_test(make_csv, tmp_path):
    make_csv([("v.png", 5, 1, "visible", "test"), ("i.png", 5, 2, "infrared", "test")])
    dataset = CSVDataset(root=str(tmp_path), csv_file="own/list.csv", mode="query")
    assert brief(dataset.query) == [("v.png", 5, 1, 0)]
    assert brief(dataset.gallery) == [("i.png", 5, 2, 1)]


def test_quotes_mark_and_extra_columns(make_csv, tmp_path):
    path = make_csv(GOOD[:2])
    path.write_bytes(
        b"\xef\xbb\xbfsplit, camid,path,pid,modality,note\r\n"
        b'train,1,"a/v 1.png",3,visible,"x, y"\r\n\r\ntrain,2,a/i1.png,3,infrared,\r\n'
    )
    dataset = CSVDataset(root=str(tmp_path), csv_file="own/list.csv")
    assert brief(dataset.train) == [("v 1.png", 3, 1, 0), ("i1.png", 3, 2, 1)]


def test_no_file_given(tmp_path):
    with pytest.raises(DatasetError, match="DATASETS.CSV_FILE.*path,pid,camid,modality,split"):
        CSVDataset(root=str(tmp_path))


def test_file_does_not_exist(tmp_path):
    with pytest.raises(DatasetError, match="no file .*none.csv.*FASTREID_DATASETS"):
        CSVDataset(root=str(tmp_path), csv_file="none.csv")


@pytest.mark.parametrize(
    "row, expected",
    [
        (("x.png", 1, 1, "thermal", "train"), r"line 6: Unknown modality 'thermal'"),
        (("x.png", 1, 1, "visible", "trian"), r"line 6: unknown split 'trian'.*mean 'train'"),
        (("x.png", "", 1, "visible", "train"), r"line 6: no value for pid"),
        (("x.png", 1, 1), r"line 6: no value for modality, split"),
    ],
)
def test_bad_row_is_named_with_its_line(make_csv, row, expected):
    path = make_csv([*GOOD, row])
    with pytest.raises(DatasetError, match=expected):
        CSVDataset(root=str(path.parent), csv_file=path.name)


def test_missing_column(make_csv):
    path = make_csv(GOOD)
    path.write_text("path,pid,camera,modality,split\n")
    text = message(path)
    assert "line 1" in text and "camid" in text


def test_absent_image(make_csv):
    path = make_csv(GOOD)
    (path.parent / "g.png").unlink()
    assert "g.png (line 5)" in message(path)


def test_not_text(make_csv):
    path = make_csv(GOOD)
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    assert "line 1: expected text in UTF-8, found the byte 0xff" in message(path)


def test_training_needs_both_modalities(make_csv, tmp_path):
    make_csv(GOOD[:1])
    with pytest.raises(DatasetError, match="no infrared images in the train split.*Add rows"):
        CSVDataset(root=str(tmp_path), csv_file="own/list.csv")


def test_empty_split(make_csv, tmp_path):
    make_csv(GOOD[:3])
    dataset = CSVDataset(root=str(tmp_path), csv_file="own/list.csv")
    with pytest.raises(DatasetError, match="no images in the gallery split"):
        _ = dataset.gallery


@pytest.mark.parametrize("skip, rank_1, mean_ap", [(True, 0, 50), (False, 100, 250 / 3)])
def test_the_camera_rule_reaches_the_evaluation(make_csv, cfg, skip, rank_1, mean_ap):
    """One query of camera 1; the gallery by score: its person by camera 1, another, its person.

    Without the first image the only hit is second: AP = 1/2. With it, hits are first and third:
    AP = (1 + 2/3) / 2.
    """
    make_csv(
        [
            ("q.png", 8, 1, "infrared", "query"),
            ("a.png", 8, 1, "visible", "gallery"),
            ("b.png", 9, 2, "visible", "gallery"),
            ("c.png", 8, 2, "visible", "gallery"),
        ]
    )
    assert cfg.DATASETS.CSV_SKIP_SAME_CAMERA is True
    cfg.DATASETS.CSV_FILE, cfg.DATASETS.CSV_SKIP_SAME_CAMERA = "own/list.csv", skip
    cfg.TEST.PROTOCOL.DIRECTIONS = ("infrared_to_visible",)
    dataset = build_dataset(cfg, "CSVDataset", mode="query")
    items = dataset.query + dataset.gallery
    _, targets, camids, modalities = map(np.array, zip(*items))
    assert [name[0] for name, *_ in brief(items)] == ["q", "a", "c", "b"]
    angles = torch.tensor([0.0, 0.1, 0.3, 0.2])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    table = evaluate(
        cfg,
        "CSVDataset",
        dataset,
        TestFeatures(features, targets, camids, modalities, np.arange(len(items))),
    )
    found = [table.metrics[f"CSVDataset/infrared_to_visible/multi/{m}"] for m in ("Rank-1", "mAP")]
    assert found == pytest.approx([rank_1, mean_ap])


def test_wrong_lines_and_lacking_images_are_told_in_the_words_of_the_file(make_csv, tmp_path):
    rows = [("1.png", "anna", 1, "visible", "train"), ("2.png", "bob", 1, "visible", "train")]
    rows += [("3.png", "bob", 2, "infrared", "train")]
    rows += [(f"x{n}.png", "nan", 1, "visible", "test") for n in range(5)]
    path = make_csv(rows)
    report = check_dataset("csv", str(tmp_path), csv_file="own/list.csv")
    assert "no infrared image: anna." in str(report)
    assert f"{path}: 5 line(s) are wrong. line 5: pid: 'nan' means" in str(report)
    assert "line. ... and 2 more" in str(report)


def test_names_that_look_alike_are_warned_of_once(make_csv, tmp_path, caplog):
    rows = [
        (f"{pid}{split}{modality}.png", pid, 1 + (modality == "infrared"), modality, split)
        for pid, split in (("Anna", "train"), ("anna", "train"), ("bob", "test"))
        for modality in ("visible", "infrared")
    ]
    make_csv(rows)
    check_dataset("csv", str(tmp_path), csv_file="own/list.csv")
    assert caplog.text.count("look alike are different: 'Anna' and 'anna'.") == 1
