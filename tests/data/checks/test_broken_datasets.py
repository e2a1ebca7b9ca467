"""A dozen kinds of damage, each with its message. Oracle: the damage done by the test."""

import re
import shutil

import pytest

from vireid_plugins.data.datasets import LLCM, SYSUMM01, DatasetError, RegDB
from vireid_plugins.synthvi.settings import LAYOUT_FOLDERS


def delete(pattern_root, pattern):
    found = list(pattern_root.glob(pattern))
    assert found
    for path in found:
        path.unlink()


def message(build):
    with pytest.raises(DatasetError) as error:
        dataset = build()
        _ = dataset.train, dataset.query, dataset.gallery
    return str(error.value)


@pytest.mark.parametrize("kind", [SYSUMM01, RegDB, LLCM])
def test_missing_folder(kind, tmp_path):
    (tmp_path / "sysu").mkdir()
    text = message(lambda: kind(root=str(tmp_path)))
    assert kind.folder in text and kind.dataset_url in text
    assert "FASTREID_DATASETS" in text and "holds sysu" in text


@pytest.mark.parametrize("kind", [SYSUMM01, RegDB, LLCM])
def test_a_missing_folder_is_rendered_or_found_one_folder_below(kind, tmp_path):
    text = message(lambda: kind(root=str(tmp_path)))
    layout = re.search(r"vireid render --layout (\w+) --out", text)[1]
    assert LAYOUT_FOLDERS[layout] == kind.folder  # it renders this folder

    (tmp_path / "SynthVI" / kind.folder).mkdir(parents=True)
    text = message(lambda: kind(root=str(tmp_path)))
    assert f"FASTREID_DATASETS={tmp_path / 'SynthVI'}." in text and "render" not in text


def test_missing_root(tmp_path):
    assert "does not exist" in message(lambda: SYSUMM01(root=str(tmp_path / "nowhere")))


@pytest.mark.parametrize("name", ["train_id.txt", "val_id.txt", "test_id.txt"])
def test_sysu_missing_exp_file(make_sysu, tmp_path, name):
    (make_sysu() / "exp" / name).unlink()
    text = message(lambda: SYSUMM01(root=str(tmp_path)))
    assert name in text and "missing" in text and SYSUMM01.dataset_url in text


def test_sysu_missing_camera_folder(make_sysu, tmp_path):
    shutil.rmtree(make_sysu() / "cam3")
    assert "lacks cam3" in message(lambda: SYSUMM01(root=str(tmp_path)))


@pytest.mark.parametrize("name", ["train_id.txt", "test_id.txt"])
def test_sysu_id_listed_but_absent(make_sysu, tmp_path, name):
    path = make_sysu() / "exp" / name
    path.write_text(path.read_text().strip() + ",77")
    text = message(lambda: SYSUMM01(root=str(tmp_path)))
    assert name in text and "0077" in text and "extract it again" in text


def test_sysu_bad_word_in_exp_file(make_sysu, tmp_path):
    (make_sysu() / "exp" / "train_id.txt").write_text("1,2\n3,x7\n")
    text = message(lambda: SYSUMM01(root=str(tmp_path)))
    assert "train_id.txt, line 2" in text and "'x7'" in text


def test_sysu_empty_exp_file(make_sysu, tmp_path):
    (make_sysu() / "exp" / "val_id.txt").write_text("\n \n")
    assert "val_id.txt is empty" in message(lambda: SYSUMM01(root=str(tmp_path)))


def test_binary_exp_file(make_sysu, tmp_path):
    (make_sysu() / "exp" / "val_id.txt").write_bytes(b"\xff\xfe\x00\x80")
    assert "val_id.txt: expected text in UTF-8, found UTF-16" in message(
        lambda: SYSUMM01(root=str(tmp_path))
    )


def test_sysu_without_infrared_images(make_sysu, tmp_path):
    folder = make_sysu()
    for camera in (3, 6):
        delete(folder, f"cam{camera}/*/*.jpg")
    assert "no infrared images in the train split" in message(lambda: SYSUMM01(root=str(tmp_path)))


def test_sysu_test_without_infrared_images(make_sysu, tmp_path):
    folder = make_sysu(test=(6,))
    for camera in (3, 6):
        delete(folder, f"cam{camera}/0006/*.jpg")
    text = message(lambda: SYSUMM01(root=str(tmp_path)))
    assert "no images in the query split" in text


@pytest.mark.parametrize("trial", [0, 11, "1", True, 1.5])
def test_regdb_wrong_trial(make_regdb, tmp_path, trial):
    make_regdb()
    with pytest.raises(ValueError, match=r"1\.\.10.*REGDB_TRIAL"):
        RegDB(root=str(tmp_path), trial=trial)


def test_regdb_missing_idx_file(make_regdb, tmp_path):
    make_regdb(trials=(1,))
    text = message(lambda: RegDB(root=str(tmp_path), trial=2))
    assert "train_visible_2.txt is missing" in text and RegDB.dataset_url in text


@pytest.mark.parametrize("line", ["Visible/1/male_1.bmp", "Visible/1/male_1.bmp zero", "7"])
def test_regdb_bad_line(make_regdb, tmp_path, line):
    path = make_regdb() / "idx" / "train_visible_1.txt"
    path.write_text(path.read_text() + "\n" + line + "\n")
    text = message(lambda: RegDB(root=str(tmp_path)))
    assert "train_visible_1.txt, line 8" in text and line in text  # 3 x 2 lines and a blank one


def test_regdb_list_names_an_absent_image(make_regdb, tmp_path):
    (make_regdb() / "Thermal" / "2" / "male_1.bmp").unlink()
    text = message(lambda: RegDB(root=str(tmp_path)))
    assert "train_thermal_1.txt" in text and "Thermal/2/male_1.bmp (line 3)" in text


@pytest.mark.parametrize("name", ["train_vis.txt", "train_nir.txt", "test_id.txt"])
def test_llcm_missing_idx_file(make_llcm, tmp_path, name):
    (make_llcm() / "idx" / name).unlink()
    assert f"{name} is missing" in message(lambda: LLCM(root=str(tmp_path)))


def test_llcm_name_without_a_camera(make_llcm, tmp_path):
    folder = make_llcm()
    path = folder / "idx" / "train_vis.txt"
    (folder / "vis" / "0001" / "picture.jpg").write_bytes(b"x")
    path.write_text(path.read_text() + "vis/0001/picture.jpg 0\n")
    text = message(lambda: LLCM(root=str(tmp_path)))
    assert "train_vis.txt" in text and "'picture.jpg'" in text and "_c04" in text


def test_llcm_camera_from_the_folder(make_llcm, write_image, tmp_path):
    folder = make_llcm()
    path = folder / "idx" / "train_vis.txt"
    write_image(folder / "vis" / "cam8" / "0001" / "picture.jpg")
    path.write_text(path.read_text() + "vis/cam8/0001/picture.jpg 0\n")
    assert 8 in {item.camid for item in LLCM(root=str(tmp_path)).train}


def test_llcm_missing_test_folder(make_llcm, tmp_path):
    shutil.rmtree(make_llcm() / "test_nir")
    assert "test_nir missing" in message(lambda: LLCM(root=str(tmp_path)))


def test_llcm_id_listed_but_absent(make_llcm, tmp_path):
    (make_llcm() / "idx" / "test_id.txt").write_text("7,12,99")
    assert "0099" in message(lambda: LLCM(root=str(tmp_path)))


def without_cameras(folder):
    for place in sorted(folder.glob("test_nir/cam*/0007")):
        for image in place.iterdir():
            (folder / "test_nir" / "0007").mkdir(exist_ok=True)
            image.rename(folder / "test_nir" / "0007" / image.name)


def flat(folder):
    for image in sorted(folder.glob("test_nir/cam*/0007/*.jpg")):
        image.rename(folder / "test_nir" / image.name)


def one_beside(folder):
    image = next(folder.glob("test_nir/cam*/0007/*.jpg"))
    image.rename(folder / "test_nir" / image.name)


@pytest.mark.parametrize(
    "spoil, lost",
    [
        (lambda folder: (folder / "test_vis/cam4").rename(folder / "test_vis/cam_4"), 4),
        (lambda folder: (folder / "test_vis/cam4").rename(folder / "test_vis/camera4"), 4),
        (lambda folder: (folder / "test_vis/cam4").rename(folder / "test_vis/cam41"), 4),
        (lambda folder: (folder / "test_vis/cam4/0007").rename(folder / "test_vis/cam4/x7"), 2),
        (without_cameras, 4),
        (flat, 4),
        (one_beside, 1),
    ],
)
def test_llcm_images_that_would_be_lost_are_counted(make_llcm, tmp_path, spoil, lost):
    spoil(make_llcm())
    text = message(lambda: LLCM(root=str(tmp_path)))
    assert f"LLCM: {lost} image(s) of identities in test_id.txt" in text


@pytest.mark.parametrize("name", ["Cam4", "cam04", "CAM4"])
def test_llcm_camera_folders_may_be_spelled_otherwise(make_llcm, tmp_path, name):
    folder = make_llcm()
    (folder / "test_vis" / "cam4").rename(folder / "test_vis" / name)
    for place in ("notes", "__MACOSX/cam4/0007"):
        (folder / "test_vis" / place).mkdir(parents=True)
    (folder / "test_vis" / "cam1" / "0099").mkdir()
    shutil.copy(next(folder.glob("test_vis/cam1/0007/*")), folder / "test_vis/cam1/0099/x.jpg")
    assert len(LLCM(root=str(tmp_path)).query) == 8


def test_sysu_identity_folders_need_no_zeros(make_sysu, tmp_path):
    folder = make_sysu()
    (folder / "cam1" / "0006").rename(folder / "cam1" / "6")
    assert len(SYSUMM01(root=str(tmp_path)).gallery) == 2 * 4 * 3


@pytest.mark.parametrize("part", ["train", "test"])
def test_regdb_thermal_list_that_names_visible_images(make_regdb, tmp_path, part):
    folder = make_regdb() / "idx"
    path, other = folder / f"{part}_thermal_1.txt", folder / f"{part}_visible_1.txt"
    path.write_text(path.read_text().replace("Thermal", "Visible"))
    other.write_text(other.read_text().replace("Visible", "Thermal"))  # no file has two modalities
    text = message(lambda: RegDB(root=str(tmp_path)))
    assert "6 " in text and "listed as infrared and lie in a folder of the other modality" in text


def test_regdb_person_in_training_and_test(make_regdb, write_image, tmp_path):
    folder = make_regdb()
    write_image(folder / "Visible" / "2" / "male_9.bmp")
    path = folder / "idx" / "test_visible_1.txt"
    path.write_text(path.read_text() + "Visible/2/male_9.bmp 0\n")
    assert "1 identit(ies) with 1 test image(s)" in message(lambda: RegDB(root=str(tmp_path)))


def test_llcm_infrared_list_that_names_visible_images(make_llcm, tmp_path):
    path = make_llcm() / "idx" / "train_nir.txt"
    path.write_text(path.read_text() + "vis/0001/0001_c01_s1_f1_vis.jpg 0\n")
    text = message(lambda: LLCM(root=str(tmp_path)))
    assert "two modalities" in text and "lie in a folder of the other modality" in text


def test_sysu_camera_that_is_a_link_to_another(make_sysu, tmp_path):
    folder = make_sysu()
    shutil.rmtree(folder / "cam3")
    (folder / "cam3").symlink_to(folder / "cam1", target_is_directory=True)
    text = message(lambda: SYSUMM01(root=str(tmp_path)))
    assert "12 training image(s) are listed under two modalities" in text


def test_sysu_identity_in_both_training_lists_is_used_once(make_sysu, tmp_path):
    (make_sysu() / "exp" / "val_id.txt").write_text("5,3")
    assert len(SYSUMM01(root=str(tmp_path)).train) == 4 * 6 * 3
