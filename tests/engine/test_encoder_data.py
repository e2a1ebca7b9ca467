"""What an encoder has seen. Oracle: lists of images that are written here."""

import logging
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from vireid_plugins.data.datasets import DatasetError
from vireid_plugins.engine.encoder_data import check_same_encoder, check_unseen
from vireid_plugins.engine.model import build_model
from vireid_plugins.engine.setup import build_config
from vireid_plugins.errors import CheckpointError

from tests.onnx_export.small import small_checkpoint

BASELINE = "configs/baseline/synthetic.yml"


def stage_two(encoder, **keys):
    words = {"MODEL.NFORMER.ENCODER": str(encoder), "MODEL.DEVICE": "cpu", "MODEL.NFORMER.DIM": "8"}
    words.update({key.replace("__", "."): str(value) for key, value in keys.items()})
    return build_config("nformer/sysu.yml", [word for pair in words.items() for word in pair])


def images(fingerprint):
    """A loader of training images."""
    return SimpleNamespace(dataset=SimpleNamespace(fingerprint=fingerprint))


def on_csv(name):
    return dict(
        DATASETS__NAMES="('CSVDataset',)",
        DATASETS__TESTS="('CSVDataset',)",
        DATASETS__CSV_FILE=name,
    )


def write_list(path, train, test, folder=""):
    """A list of persons; each has an image of each modality."""
    lines = ["path,pid,camid,modality,split"]
    for split, people in (("train", train), ("test", test)):
        for person in people:
            for camera, word in enumerate(("visible", "infrared")):
                image = f"{folder}{person}_{word}.png"
                (path.parent / image).parent.mkdir(exist_ok=True, parents=True)
                Image.new("RGB", (8, 16)).save(path.parent / image)
                lines.append(f"{image},p{person},{camera},{word},{split}")
    path.write_text("\n".join(lines))


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """Four lists in one folder, and one of other persons of the same names in another."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    write_list(tmp_path / "first.csv", (1, 2, 3), (4, 5))
    write_list(tmp_path / "good.csv", (1, 2), (4, 5))
    write_list(tmp_path / "shared.csv", (1, 4), (2, 5))
    write_list(tmp_path / "later.csv", (1, 4), (3, 5), folder="later/")  # other images of persons
    write_list(tmp_path / "elsewhere" / "site.csv", (4,), (1, 2))
    return tmp_path


@pytest.mark.parametrize(
    "name,said",
    [
        ("first.csv", ""),
        ("good.csv", ""),
        ("shared.csv", r"first.pth: CSVDataset and CSVDataset: 2 image\(s\) are in training and"),
        ("later.csv", r"1 identit\(ies\) with 2 test image\(s\) are in training and in test: p3\."),
        ("elsewhere/site.csv", ""),
    ],
)
def test_an_encoder_of_another_list_has_seen_no_test_image(lists, name, said, caplog):
    path = small_checkpoint(lists / "first.pth", BASELINE, **on_csv("first.csv"))
    cfg = stage_two(path, **on_csv(name))
    if not said:
        check_unseen(cfg, images("of the second stage"))
        return
    with pytest.raises(DatasetError, match=said):
        check_unseen(cfg, images("of the second stage"))
    with caplog.at_level(logging.WARNING):
        check_unseen(stage_two(path, DATASETS__ALLOW_OVERLAP=True, **on_csv(name)), images("other"))
    assert "are in training and in test" in caplog.text


def test_lists_that_are_gone_are_said_and_equal_ones_are_not_read(lists, caplog):
    path = small_checkpoint(lists / "first.pth", BASELINE, **on_csv("first.csv"))
    content = torch.load(path, weights_only=True)
    content["vireid"]["fingerprint"] = "one"
    torch.save(content, path)
    cfg = stage_two(path, **on_csv("shared.csv"))
    check_unseen(
        cfg, images("one")
    )  # as if the training images were the same: the dataset checks itself
    (lists / "first.csv").unlink()
    with caplog.at_level(logging.WARNING):
        check_unseen(cfg, images("other"))
    assert "first.pth was trained on other images than" in caplog.text
    assert "no file" in caplog.text and "Make sure that no test image" in caplog.text


def test_an_encoder_that_was_trained_on_the_test_images_too(datasets, tmp_path):
    path = small_checkpoint(tmp_path / "all.pth", BASELINE, DATASETS__COMBINEALL=True)
    with pytest.raises(DatasetError, match=r"all.pth: SYSUMM01 and SYSUMM01: \d+ image"):
        check_unseen(stage_two(path), images("other"))
    check_unseen(stage_two(path, DATASETS__COMBINEALL=True), images("other"))  # which is warned of


def test_a_run_is_not_resumed_with_another_encoder(tmp_path):
    path = small_checkpoint(tmp_path / "encoder.pth", BASELINE)
    cfg, own = stage_two(path, MODEL__HEADS__NUM_CLASSES=5), str(tmp_path / "own.pth")
    model = build_model(cfg)
    content = torch.load(path, weights_only=True)
    held = {**model.encoder.state_dict(), **content["model"]}
    held["heads.weight"] = torch.zeros(5, 512)  # of other identities
    model.encoder.load_state_dict(held)
    torch.save({"model": model.state_dict()}, own)
    check_same_encoder(cfg, own)
    name = next(name for name in content["model"] if name.endswith("layer2.0.conv1.weight"))
    content["model"][name] = content["model"][name] + 1e-6
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="with the encoder .*/encoder.pth.* choose another"):
        check_same_encoder(cfg, own)
    path.unlink()
    check_same_encoder(cfg, own)  # the run holds its encoder
