"""A dozen kinds of damage, each with its message. Oracle: the damage done by the test."""

import shutil

import pytest

from vireid_plugins.data.datasets import LLCM, SYSUMM01, DatasetError, RegDB


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
