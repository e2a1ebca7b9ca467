"""Whole synthetic datasets: bytes, side files, resuming, refusing to overwrite."""

from __future__ import annotations

import hashlib
import json
import shutil

import cv2
import numpy as np
import pytest

from vireid_plugins.synthvi import (
    Annotations,
    make_settings,
    render_dataset,
    write_preview,
)
from vireid_plugins.synthvi.person.identity import sample_identity
from vireid_plugins.synthvi.place.camera import make_camera
from vireid_plugins.synthvi.place.domains import SYSU
from vireid_plugins.synthvi.render import render_image
from vireid_plugins.synthvi.settings import RENDERER_VERSION

from tests.synthvi.small import ALL_LAYOUTS, SMALL, numbers_in


def digest(root):
    """Return a hash of every file below ``root``, by its relative path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture()
def copy(roots, tmp_path):
    """Return a copy of the small SYSU-MM01 dataset, for a test to change; its parent is ``out``."""
    return shutil.copytree(roots["sysu"], tmp_path / "SYSU-MM01")


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
    with pytest.raises(FileExistsError, match="seed: 0 there, 5 wanted.*--overwrite"):
        render_dataset("sysu", copy.parent, seed=5, jobs=1, **SMALL)
    assert digest(copy) == before
    render_dataset("sysu", copy.parent, seed=5, jobs=1, overwrite=True, **SMALL)
    assert json.loads((copy / "synthvi.json").read_text())["parameters"]["seed"] == 5
    assert digest(copy) != before


def test_dyes_are_in_the_marker_and_other_ones_need_overwrite(copy):
    told = json.loads((copy / "synthvi.json").read_text())["parameters"]
    assert told["infrared"] == {"dense": 0.5, "clear": 0.3, "free": 0.2}
    assert told["version"] == RENDERER_VERSION
    before = digest(copy)
    words = "infrared: 0.5 dense .* 0.3 clear .* 0.2 free there, 1 dense wanted.*--overwrite"
    with pytest.raises(FileExistsError, match=words):
        render_dataset("sysu", copy.parent, jobs=1, infrared="dense", **SMALL)
    assert digest(copy) == before
    render_dataset("sysu", copy.parent, jobs=1, infrared="dense", overwrite=True, **SMALL)
    changed = {name for name, value in digest(copy).items() if before[name] != value}
    assert {name for name in changed if name.endswith(".jpg")} == {
        name for name in before if name.startswith(("cam3/", "cam6/"))
    }
    assert changed >= {"synthvi.json", "synthvi/identities.json"}
    assert not any(name.endswith((".npz", ".txt", ".mat")) for name in changed)


def test_a_folder_from_before_the_dyes_is_the_free_form(tmp_path, caplog):
    options = {**SMALL, "images_per_camera": 1, "jobs": 1}
    root = render_dataset("regdb", tmp_path, infrared="free", **options)
    marker = root / "synthvi.json"
    content = json.loads(marker.read_text())
    del content["parameters"]["infrared"]
    content["parameters"]["version"] = 2
    marker.write_text(json.dumps(content))
    before = digest(root)
    with caplog.at_level("INFO"):
        render_dataset("regdb", tmp_path, infrared="free", **options)
    assert "reusing" in caplog.text and digest(root) == before
    with pytest.raises(FileExistsError, match="1 free there.*--infrared free reuses it"):
        render_dataset("regdb", tmp_path, **options)
    assert digest(root) == before


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
        ({"infrared": "0.5,0.5"}, "infrared"),
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
    assert sheet.shape[1] == 82 + 6 * 2 * 80  # six cameras, two moments, 80 pixels wide
