"""Where files are put: trees, lists and splits of each layout. Oracle: the real datasets' rules."""

from __future__ import annotations

import io
import re

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

from vireid_plugins.synthvi import make_settings
from vireid_plugins.synthvi.plan import make_plan

from tests.synthvi.small import numbers_in

RECORDED_TEST_IDS = b"8,9,10,13,21,24,25,26\n"
RECORDED_PERMUTATIONS = [[3, 2, 4, 1], [2, 4, 3, 1]]


@pytest.mark.parametrize(
    "preset, train, validation, test",
    # validation: the real share 99 / 395, rounded: 16 -> 4.01, 96 -> 24.06, 160 -> 40.1, 395 -> 99
    [("tiny", 12, 4, 8), ("small", 72, 24, 48), ("medium", 120, 40, 160), ("sysu", 296, 99, 96)],
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
