"""Key points in batches. Oracles: what the test has written, painted squares, batches without."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from vireid_plugins.data import build_test_loader, build_train_loader
from vireid_plugins.data.datasets.build import dataset_root
from vireid_plugins.data.item import Item
from vireid_plugins.data.keypoints import KeyPoints, file_of, folder_of, load_keypoints
from vireid_plugins.errors import FileContentError, MissingFileError
from vireid_plugins.evaluation import extract_features
from vireid_plugins.joints import OTHER_SIDE
from vireid_plugins.readers.keypoints_file import write_arrays

HEIGHT, WIDTH = 24, 12


def write_points(folder, name="keypoints.npz", leave_out=0, height=HEIGHT, width=WIDTH):
    """Paint a square at a wrist in each image below ``folder``, and write where it is."""
    paths = sorted(folder.rglob("*.jpg"))
    points = np.zeros((len(paths), 17, 3))
    for row, path in enumerate(paths):
        x, y = 2 + row % 8, 3 + row % 17
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
        Image.fromarray(pixels).save(path, quality=100, subsampling=0)
        points[row, 9] = (x, y, 0.25 + row % 50 / 100)
    names = [path.relative_to(folder).as_posix() for path in paths]
    sizes = np.full((len(paths), 2), (height, width))
    keep = slice(0, len(paths) - leave_out)
    np.savez(folder / name, **write_arrays(names[keep], points[keep], sizes[keep]))
    return dict(zip(map(str, paths), points))


@pytest.fixture
def with_points(cfg):
    cfg.INPUT.KEYPOINTS.READ = "all"
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = [36, 24]
    for node in ("REA", "CJ"):
        cfg.INPUT[node].ENABLED = False
    return cfg


def batches(cfg, epoch=1):
    loader = build_train_loader(cfg)
    loader.set_epoch(epoch)
    return list(loader)


def check_painted(batch, written):
    """Compare each wrist with the middle of its painted square; return how many were seen whole."""
    compared = 0
    rows, columns = np.indices(batch["images"].shape[2:])
    for image, points, path in zip(batch["images"], batch["keypoints"], batch["img_paths"]):
        confidence = written[path][9, 2]
        known = (points[:, 2] > 0).nonzero().flatten().tolist()
        assert set(known) <= {9, OTHER_SIDE[9]} and len(known) <= 1
        pixels = np.where(image[0] > 40, image[0], 0)
        if pixels[[0, -1]].any() or pixels[:, [0, -1]].any():
            continue
        x, y = (pixels * columns).sum() / pixels.sum(), (pixels * rows).sum() / pixels.sum()
        assert points[known[0]].tolist() == pytest.approx([x, y, confidence], abs=0.4)
        compared += 1
    return compared


@pytest.mark.parametrize("cached", [False, True])
def test_training_batches_hold_points_that_fit_the_pixels(cached, with_points, make_sysu, tmp_path):
    written = write_points(make_sysu())
    cfg = with_points
    cfg.INPUT.FLIP.ENABLED = cfg.INPUT.PADDING.ENABLED = True
    cfg.INPUT.PADDING.SIZE = 4
    cfg.INPUT.NUM_VIEWS.VISIBLE = 2
    if cached:
        cfg.DATALOADER.CACHE.ENABLED, cfg.DATALOADER.CACHE.FOLDER = True, str(tmp_path / "cache")
        batches(cfg)  # fills the cache
    found = batches(cfg)
    assert sum(check_painted(batch, written) for batch in found) > 40
    assert all(len(batch["keypoints"]) == len(batch["images"]) for batch in found)
    wrists = torch.stack([batch["keypoints"][:, [9, 10], 2].sum(0) for batch in found]).sum(0)
    assert (wrists > 1).all()  # some images are mirrored


def test_images_and_draws_are_those_without_key_points(with_points, make_sysu):
    write_points(make_sysu())
    for node in ("FLIP", "PADDING", "CJ", "REA", "GREY", "TRIVIAL_AUGMENT"):
        with_points.INPUT[node].ENABLED = True
    found = batches(with_points)
    with_points.INPUT.KEYPOINTS.READ = "none"
    plain = batches(with_points)
    assert "keypoints" not in plain[0]
    for one, other in zip(found, plain):
        assert all(torch.equal(one[key], other[key]) for key in ("images", "targets", "index"))


def test_test_batches_and_mirrored_ones(with_points, make_sysu):
    written = write_points(make_sysu())
    loader, dataset = build_test_loader(with_points, "SYSUMM01")
    assert sum(check_painted(batch, written) for batch in loader) > 20
    seen = []

    class Model(torch.nn.Module):
        def forward(self, batch):
            seen.append(batch)
            return batch["images"].mean(dim=(2, 3))

    extract_features(Model(), loader, flip=True)
    assert sum(check_painted(batch, written) for batch in seen[1::2]) > 20
    assert all((batch["keypoints"][:, 9, 2] == 0).all() for batch in seen[1::2])


def test_training_images_alone(with_points, make_sysu):
    write_points(make_sysu())
    with_points.INPUT.KEYPOINTS.READ = "train"
    assert "keypoints" in batches(with_points)[0]
    assert "keypoints" not in next(iter(build_test_loader(with_points, "SYSUMM01")[0]))


def test_several_datasets_have_their_own_files(with_points, make_sysu, make_regdb, caplog):
    write_points(make_sysu())
    regdb = make_regdb()
    names = sorted(p.relative_to(regdb).as_posix() for p in regdb.rglob("*.bmp"))
    points = np.full((len(names), 17, 3), 0.5)
    sizes = np.full((len(names), 2), (HEIGHT, WIDTH))
    np.savez(regdb / "keypoints.npz", **write_arrays(names, points, sizes))
    with_points.DATASETS.NAMES = ("SYSUMM01", "RegDB")
    with caplog.at_level(logging.INFO, logger="vireid_plugins"):
        found = batches(with_points)
    for batch in found:
        for path, row in zip(batch["img_paths"], batch["keypoints"]):
            assert (row[:, 2] > 0).sum().item() == (17 if "RegDB" in path else 1)
    assert "Key points of" in caplog.text and "% of the joints are known" in caplog.text


def test_datasets_may_not_share_the_key_points_of_one_path(with_points, make_sysu, tmp_path):
    """Two folders with images of the same names, and one file for both."""
    folder = make_sysu()
    write_points(folder)
    names = sorted(path.relative_to(folder) for path in (folder / "cam1").rglob("*.jpg"))
    items, parts = [], []
    for name in ("one", "two"):
        own = [Item.of((str(tmp_path / name / path), 1, 1)) for path in names]
        parts.append((SimpleNamespace(data_dir=str(tmp_path / name)), own))
        items += own
    with_points.INPUT.KEYPOINTS.FILE = str(folder / "keypoints.npz")
    words = "the same key points would be those of .*/one/cam1/.* and of .*/two/cam1/"
    with pytest.raises(FileContentError, match=words):
        load_keypoints(with_points, items, parts)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(folder / "keypoints.npz", tmp_path / name)
    with_points.INPUT.KEYPOINTS.FILE = "keypoints.npz"
    found = load_keypoints(with_points, items, parts)
    assert len(found.points) == 2 * len(names) and "one/keypoints.npz, " in found.source


def test_one_image_may_have_two_names_or_be_listed_twice(with_points, make_sysu, tmp_path):
    folder = make_sysu()
    written = write_points(folder)
    try:
        (tmp_path / "link").symlink_to(folder)
    except OSError:
        pytest.skip("no links here")
    items, parts = [], []
    for place in (folder, tmp_path / "link"):
        own = [Item.of((str(place / "cam1/0001/0001.jpg"), 1, 1))] * 2
        parts.append((SimpleNamespace(data_dir=str(place)), own))
        items += own
    with_points.INPUT.KEYPOINTS.FILE = str(folder / "keypoints.npz")
    found = load_keypoints(with_points, items, parts).points
    expected = torch.from_numpy(written[items[0].path]).float()
    assert found.shape == (4, 17, 3) and all(torch.equal(one, expected) for one in found)


def test_the_folder_of_a_dataset_is_the_one_with_its_images():
    """FastReID's Market1501 has ``datasets`` as ``dataset_dir``; a user's class may have none."""
    market = SimpleNamespace(data_dir="datasets/Market-1501-v15.09.15", dataset_dir="datasets")
    assert folder_of(market) == "datasets/Market-1501-v15.09.15"
    assert (
        folder_of(SimpleNamespace(data_dir="", dataset_dir="d/DukeMTMC-reID")) == "d/DukeMTMC-reID"
    )
    assert folder_of(SimpleNamespace()) == dataset_root()


def test_a_path_may_begin_at_the_dataset_at_the_root_or_at_home(with_points, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # of Windows
    expected = {"a/k.npz": "data/a/k.npz", "/a/k.npz": "/a/k.npz", "~/k.npz": f"{tmp_path}/k.npz"}
    for name, path in expected.items():
        with_points.INPUT.KEYPOINTS.FILE = name
        assert Path(file_of(with_points, "data")) == Path(path)


def test_what_is_known_is_said_in_percent():
    points = torch.zeros(2, 17, 3)
    points[0, :5, 2] = 0.1
    found = KeyPoints(points, torch.ones(2, 2, dtype=torch.int64), "k.npz")
    assert found.describe() == "Key points of 2 images from k.npz: 14.7 % of the joints are known"
    sizes = KeyPoints(points, torch.full((2, 2), 2), "k.npz")
    assert sizes.fingerprint != found.fingerprint


def test_a_missing_file_names_the_command(with_points, make_sysu):
    folder = make_sysu()
    with pytest.raises(MissingFileError) as caught:
        build_train_loader(with_points)
    assert f"vireid pose --images {folder} --out {folder / 'keypoints.npz'}" in str(caught.value)
    assert "INPUT.KEYPOINTS.FILE" in str(caught.value) and "rendered" not in str(caught.value)
    (folder / "synthvi").mkdir()
    (folder / "synthvi/index.csv").write_text("")
    with pytest.raises(MissingFileError, match="INPUT.KEYPOINTS.FILE synthvi/index.csv reads"):
        build_test_loader(with_points, "SYSUMM01")


def test_missing_images_are_counted_and_named(with_points, make_sysu):
    folder = make_sysu()
    write_points(folder, leave_out=5)
    with pytest.raises(FileContentError) as caught:
        build_train_loader(with_points)
    assert "keypoints.npz has no key points of 5 of 36 images" in str(caught.value)
    assert "cam6/0006/0002.jpg" in str(caught.value)
    assert "its first image is cam1/0001/0001.jpg" in str(caught.value)


@pytest.mark.parametrize("height,width", [(48, WIDTH), (HEIGHT, 6)])
def test_key_points_of_images_of_another_size_are_refused(height, width, with_points, make_sysu):
    write_points(make_sysu(), height=height, width=width)
    words = f"{height} x {width} pixels .* and the image has 24 x 12"
    with pytest.raises(FileContentError, match=words):
        batches(with_points)


def test_other_key_points_are_other_data(with_points, make_sysu):
    folder = make_sysu()
    write_points(folder)
    one = build_train_loader(with_points).dataset.fingerprint
    assert build_train_loader(with_points).dataset.fingerprint == one
    arrays = dict(np.load(folder / "keypoints.npz"))
    arrays["keypoints"][0, 9, 0] += 1
    np.savez(folder / "keypoints.npz", **arrays)
    assert build_train_loader(with_points).dataset.fingerprint != one
    with_points.INPUT.KEYPOINTS.READ = "none"
    plain = build_train_loader(with_points).dataset.fingerprint
    assert one.startswith(f"{plain}-")
