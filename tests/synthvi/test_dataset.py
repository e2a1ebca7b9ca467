"""Whole synthetic datasets: layouts, splits, side files, resuming, refusing to overwrite."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from vireid_plugins.synthvi import (
    Annotations,
    make_settings,
    render_dataset,
    write_preview,
)
from vireid_plugins.synthvi.person.identity import sample_identity
from vireid_plugins.synthvi.place.camera import make_camera
from vireid_plugins.synthvi.place.domains import SYSU
from vireid_plugins.synthvi.plan import make_plan
from vireid_plugins.synthvi.render import render_image

SMALL = {"ids": (2, 2), "images_per_camera": 2, "size": (48, 32), "progress": False}
RECORDED_TEST_IDS = b"8,9,10,13,21,24,25,26\n"
RECORDED_PERMUTATIONS = [[3, 2, 4, 1], [2, 4, 3, 1]]
ALL_LAYOUTS = ("sysu", "regdb", "llcm", "market", "duke")


def digest(root):
    """Relative path -> hash of content, for every file below ``root``."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """layout -> the dataset's folder, four identities each, rendered once."""
    out = tmp_path_factory.mktemp("synthvi")
    return {layout: render_dataset(layout, out, jobs=1, **SMALL) for layout in ALL_LAYOUTS}


@pytest.fixture()
def copy(roots, tmp_path):
    """A copy of the small SYSU-MM01 dataset that a test may spoil; its parent is the ``out``."""
    return shutil.copytree(roots["sysu"], tmp_path / "SYSU-MM01")


def numbers_in(path):
    return [int(n) for n in path.read_text().strip().split(",")]


# --- layouts


@pytest.mark.parametrize(
    "preset, train, validation, test",
    # validation: the real share 99 / 395, rounded: 16 -> 4.01, 96 -> 24.06, 395 -> 99
    [("tiny", 12, 4, 8), ("small", 72, 24, 48), ("sysu", 296, 99, 96)],
)
def test_sysu_splits_have_the_sizes_of_their_preset(preset, train, validation, test):
    files = make_plan(make_settings("sysu", preset)).files
    split = {
        name: [int(n) for n in files[f"exp/{name}_id.txt"].decode().split(",")]
        for name in ("train", "val", "test", "available")
    }
    assert [len(split[name]) for name in ("train", "val", "test")] == [train, validation, test]
    everybody = split["train"] + split["val"] + split["test"]
    assert sorted(everybody) == sorted(set(everybody)) == split["available"]
    if preset == "sysu":
        assert max(everybody) <= 533  # the numbers of the real dataset


def test_sysu_tree(roots):
    root = roots["sysu"]
    numbers = numbers_in(root / "exp/available_id.txt")
    for number in numbers:
        cameras = [c for c in range(1, 7) if (root / f"cam{c}/{number:04d}").is_dir()]
        assert sum(c in (1, 2, 4, 5) for c in cameras) >= 2
        assert sum(c in (3, 6) for c in cameras) >= 1
        for camera in cameras:
            names = sorted(p.name for p in (root / f"cam{camera}/{number:04d}").iterdir())
            assert names == ["0001.jpg", "0002.jpg"]
    for line in ("train", "val", "test"):
        if line != "val":  # 2 training identities: 2 * 99 / 395 rounds to 1 validation identity
            assert len((root / f"exp/{line}_id.txt").read_text().splitlines()) == 1


def test_tiny_preset_has_every_identity_in_every_camera():
    tracklets = make_plan(make_settings("sysu", "tiny")).tracklets
    assert len(tracklets) == 24 * 6
    assert all(len(tracklet.images) == 4 for tracklet in tracklets)


def test_official_permutations_are_read_as_the_real_file_is(roots):
    root = roots["sysu"]
    cells = loadmat(root / "exp/rand_perm_cam.mat")["rand_perm_cam"]
    assert cells.shape == (6, 1)
    numbers = numbers_in(root / "exp/available_id.txt")
    for camera in range(1, 7):
        for number in range(1, max(numbers) + 1):
            folder = root / f"cam{camera}/{number:04d}"
            table = cells[camera - 1][0][number - 1][0]
            if folder.is_dir():
                assert len(table) == 10
                for trial in range(10):
                    assert sorted(table[trial].astype(int)) == [1, 2]
            else:
                assert table.size == 0


def test_plans_are_the_same_everywhere():
    # recorded with NumPy 2.4; PCG64 integers and permutations are stable across versions
    files = make_plan(make_settings("sysu", "tiny", seed=3)).files
    assert files["exp/test_id.txt"] == RECORDED_TEST_IDS
    first = loadmat(io.BytesIO(files["exp/rand_perm_cam.mat"]))["rand_perm_cam"][0][0]
    assert [row.tolist() for row in first[7][0][:2]] == RECORDED_PERMUTATIONS


def test_regdb_tree_and_splits(roots):
    root = roots["regdb"]
    assert sorted(int(p.name) for p in (root / "Visible").iterdir()) == [1, 2, 3, 4]
    for trial in range(1, 11):
        members = {}
        for split in ("train", "test"):
            for modality in ("Visible", "Thermal"):
                path = root / f"idx/{split}_{modality.lower()}_{trial}.txt"
                rows = [line.split(" ") for line in path.read_text().splitlines()]
                assert len(rows) == 2 * 2  # half of four identities, two images each
                assert all((root / name).is_file() for name, _ in rows)
                assert sorted({int(label) for _, label in rows}) == [0, 1]
                labels = {name.split("/")[1]: label for name, label in rows}
                assert members.setdefault(split, labels) == labels  # one label in both modalities
        assert not set(members["train"]) & set(members["test"])
    splits = {(root / f"idx/train_visible_{t}.txt").read_text() for t in range(1, 11)}
    assert len(splits) > 1
    thermal = cv2.imread(str(next((root / "Thermal/1").iterdir())))
    assert (thermal == thermal[..., :1]).all()


def test_regdb_has_ten_images_of_everybody_by_default():
    tracklets = make_plan(make_settings("regdb", "small")).tracklets
    assert {len(tracklet.images) for tracklet in tracklets} == {10}
    assert len(tracklets) == 2 * (96 + 48)


def test_llcm_tree_and_lists(roots):
    root = roots["llcm"]
    test_ids = numbers_in(root / "idx/test_id.txt")
    for short in ("vis", "nir"):
        listed = {}
        for split in ("train", "test"):
            for line in (root / f"idx/{split}_{short}.txt").read_text().splitlines():
                name, label = line.split(" ")
                assert (root / name).is_file()
                number = int(name.split("/")[1])
                assert (number in test_ids) == (split == "test")
                assert listed.setdefault(number, label) == label
                # public code reads the camera between "_c" and the next "_"
                camera = int(re.search(r"_c(\d+)_", name).group(1))
                assert 1 <= camera <= 9 and not (short == "nir" and camera == 3)
        assert len(set(listed.values())) == len(listed) == 4
        # public test code walks test_<modality>/cam<c>/<id> and reads id and camera after "cam"
        walked = sorted((root / f"test_{short}").rglob("*.jpg"))
        assert walked
        for path in walked:
            tail = path.as_posix().split("cam")[1]
            assert int(tail[2:6]) in test_ids
            assert f"_c{int(tail[0]):02d}_" in path.name
            assert path.read_bytes() == (root / short / tail[2:6] / path.name).read_bytes()


@pytest.mark.parametrize("layout, cameras", [("market", 6), ("duke", 8)])
def test_single_modality_trees(roots, layout, cameras):
    found = {}
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        for path in (roots[layout] / folder).iterdir():
            # the pattern of FastReID's own loaders
            number, camera = map(int, re.search(r"([-\d]+)_c(\d)", path.name).groups())
            assert 0 < number <= 1501 and 1 <= camera <= cameras
            found.setdefault(folder, []).append((number, camera))
    people = {folder: {number for number, _ in items} for folder, items in found.items()}
    assert len(people["bounding_box_train"]) == 2
    assert people["query"] == people["bounding_box_test"]
    assert not people["query"] & people["bounding_box_train"]
    assert len(set(found["query"])) == len(found["query"])  # one query per identity and camera


def test_market_and_duke_look_different(roots):
    def mean_color(layout):
        images = sorted((roots[layout] / "bounding_box_train").iterdir())
        return np.mean([cv2.imread(str(path)).mean(axis=(0, 1)) for path in images], axis=0)

    blue, _, red = (mean_color("market") - mean_color("duke")).tolist()
    assert red - blue > 20  # warm summer light against cold winter light


# --- bytes


@pytest.mark.slow
def test_processes_and_order_change_no_byte(roots, tmp_path):
    parallel = render_dataset("sysu", tmp_path, jobs=2, **SMALL)
    assert digest(parallel) == digest(roots["sysu"])


def test_a_larger_dataset_holds_the_same_images(roots, tmp_path):
    larger = render_dataset("regdb", tmp_path, jobs=1, **{**SMALL, "images_per_camera": 3})
    few, many = digest(roots["regdb"]), digest(larger)
    images = [name for name in few if name.endswith(".bmp")]
    assert len(images) == 4 * 2 * 2
    assert all(few[name] == many[name] for name in images)


def test_another_seed_gives_other_images(roots, tmp_path):
    other = render_dataset("regdb", tmp_path, seed=1, jobs=1, **SMALL)
    first, second = (sorted((r / "Visible/1").iterdir())[0] for r in (roots["regdb"], other))
    assert first.read_bytes() != second.read_bytes()


# --- side files


@pytest.mark.parametrize("layout", ALL_LAYOUTS)
def test_every_image_has_key_points_and_a_mask(roots, layout):
    root = roots[layout]
    annotations = Annotations(root)
    images = [p for p in root.rglob("*") if p.suffix in (".jpg", ".bmp")]
    assert len(annotations) == len(images)
    for path in images[::7]:
        assert annotations.keypoints(path).shape == (17, 3)
        mask = annotations.mask(path.relative_to(root))
        assert mask.shape == cv2.imread(str(path)).shape[:2]
        assert 0.05 < mask.mean() < 0.8


def test_side_files_say_what_was_rendered(roots):
    root = roots["sysu"]
    number = numbers_in(root / "exp/available_id.txt")[0]
    camera = next(c for c in range(1, 7) if (root / f"cam{c}/{number:04d}").is_dir())
    person = sample_identity(0, SYSU, number)
    fresh = render_image(0, SYSU, person, make_camera(SYSU, SYSU.cameras[camera - 1]), 1, (48, 32))
    annotations = Annotations(root)
    name = f"cam{camera}/{number:04d}/0002.jpg"
    assert np.array_equal(annotations.mask(name), fresh.mask)
    np.testing.assert_array_equal(annotations.keypoints(name), fresh.keypoints)
    stored = cv2.imread(str(root / name)).astype(int)
    assert np.abs(stored - fresh.image).mean() < 12  # JPEG only


def test_identities_are_described(roots):
    people = json.loads((roots["sysu"] / "synthvi/identities.json").read_text())
    assert [p["number"] for p in people] == numbers_in(roots["sysu"] / "exp/available_id.txt")
    assert people[0]["upper"]["kind"] == sample_identity(0, SYSU, people[0]["number"]).upper.kind


def test_foreign_folders_and_images_have_no_side_files(roots, tmp_path):
    with pytest.raises(FileNotFoundError, match="make_synthetic"):
        Annotations(tmp_path)
    with pytest.raises(KeyError, match="not an image"):
        Annotations(roots["sysu"]).mask("cam1/9999/0001.jpg")


# --- resuming and refusing


def test_a_finished_dataset_is_reused(copy, caplog):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    with caplog.at_level("INFO"):
        assert render_dataset("sysu", copy.parent, jobs=1, **SMALL) == copy
    assert "reusing" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_what_is_missing_is_rendered_again(copy, roots):
    whole = digest(roots["sysu"])
    marker = json.loads((copy / "synthvi.json").read_text())
    (copy / "synthvi.json").write_text(json.dumps({**marker, "finished": False}))
    for path in sorted(copy.rglob("*.jpg"))[::3]:
        path.unlink()
    next(copy.rglob("*.npz")).unlink()
    (copy / "synthvi/writing").mkdir()
    (copy / "synthvi/writing/.writing-killed").write_bytes(b"half an image")
    (copy / "exp/rand_perm_cam.mat").unlink()
    render_dataset("sysu", copy.parent, jobs=1, **SMALL)
    assert digest(copy) == whole


def test_files_deleted_after_the_end_come_back(copy, roots):
    (copy / "exp/test_id.txt").unlink()
    sorted(copy.rglob("*.jpg"))[0].unlink()
    render_dataset("sysu", copy.parent, jobs=1, **SMALL)
    assert digest(copy) == digest(roots["sysu"])


def test_a_foreign_folder_is_never_touched(tmp_path):
    real = tmp_path / "SYSU-MM01"
    real.mkdir()
    (real / "precious.txt").write_text("signed agreement")
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="did not make"):
            render_dataset("sysu", tmp_path, jobs=1, overwrite=overwrite, **SMALL)
    assert [path.name for path in real.iterdir()] == ["precious.txt"]


def test_a_marker_that_cannot_be_read_is_not_ours(tmp_path):
    root = tmp_path / "SYSU-MM01"
    root.mkdir()
    (root / "synthvi.json").write_text("[]")
    with pytest.raises(FileExistsError, match="not a marker"):
        render_dataset("sysu", tmp_path, jobs=1, overwrite=True, **SMALL)


def test_other_settings_need_overwrite(copy):
    before = digest(copy)
    with pytest.raises(FileExistsError, match="seed: there 0, wanted 5.*--overwrite"):
        render_dataset("sysu", copy.parent, seed=5, jobs=1, **SMALL)
    assert digest(copy) == before
    render_dataset("sysu", copy.parent, seed=5, jobs=1, overwrite=True, **SMALL)
    assert json.loads((copy / "synthvi.json").read_text())["parameters"]["seed"] == 5
    assert digest(copy) != before


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"layout": "sysu-mm01"}, "layout"),
        ({"preset": "huge"}, "preset"),
        ({"ids": (0, 4)}, "ids"),
        ({"ids": (4,)}, "ids"),
        ({"layout": "regdb", "ids": (3, 2)}, "even"),
        ({"layout": "market", "ids": (1300, 300)}, "1380"),
        ({"layout": "duke", "images_per_camera": 1}, "images_per_camera"),
        ({"size": (16, 8)}, "size"),
        ({"seed": -1}, "seed"),
        ({"difficulty": 7.0}, "difficulty"),
    ],
)
def test_wrong_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        make_settings(**{"layout": "sysu", **arguments})


def test_a_picture_sheet_is_written(tmp_path):
    settings = make_settings("sysu", "tiny", ids=(1, 1))
    sheet = cv2.imread(str(write_preview(tmp_path / "sheet.png", settings)))
    # one row per identity, two strips of overlays, 160 pixels each, below a header of 26
    assert sheet.shape[0] == 26 + (2 + 2) * 160
    assert sheet.shape[1] == 54 + 6 * 2 * 80  # six cameras, two moments, 80 pixels wide
