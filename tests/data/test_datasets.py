"""Whole datasets. Oracle: what the fixtures wrote, listed by hand or by a loop over the folders."""

import logging
import os
import unicodedata

import pytest

from vireid_plugins.data.datasets import LLCM, SYSUMM01, RegDB
from vireid_plugins.data.datasets.base import MARKER
from vireid_plugins.modality import Modality

from fastreid.data.datasets import DATASET_REGISTRY

VISIBLE, INFRARED = int(Modality.VISIBLE), int(Modality.INFRARED)


def brief(items, folder):
    return [i._replace(path=os.path.relpath(i.path, folder).replace(os.sep, "/")) for i in items]


def test_registered_as_the_host_calls_them(make_sysu, tmp_path):
    make_sysu()
    dataset = DATASET_REGISTRY.get("SYSUMM01")(root=str(tmp_path))
    assert dataset.data == dataset.train
    assert {"SYSUMM01", "RegDB", "LLCM", "CSVDataset"} <= set(DATASET_REGISTRY._obj_map)


def test_sysu_train_is_train_and_val(make_sysu, tmp_path):
    folder = make_sysu(train=(2, 11), val=(9,), test=(4,), images=2)
    modalities = {1: VISIBLE, 2: VISIBLE, 3: INFRARED, 4: VISIBLE, 5: VISIBLE, 6: INFRARED}
    expected = [
        (f"cam{camera}/{pid:04d}/{k:04d}.jpg", pid, camera, modality)
        for pid in (2, 9, 11)
        for camera, modality in modalities.items()
        for k in (1, 2)
    ]
    assert brief(SYSUMM01(root=str(tmp_path)).train, folder) == expected


def test_sysu_test_holds_all_images_sorted(make_sysu, tmp_path):
    folder = make_sysu(test=(10, 6), images=2)  # listed out of order
    dataset = SYSUMM01(root=str(tmp_path))
    assert brief(dataset.query, folder) == [
        (f"cam{camera}/{pid:04d}/{k:04d}.jpg", pid, camera, INFRARED)
        for pid in (6, 10)
        for camera in (3, 6)
        for k in (1, 2)
    ]
    assert brief(dataset.gallery, folder) == [
        (f"cam{camera}/{pid:04d}/{k:04d}.jpg", pid, camera, VISIBLE)
        for pid in (6, 10)
        for camera in (1, 2, 4, 5)
        for k in (1, 2)
    ]


def test_regdb_reads_the_trial(make_regdb, tmp_path):
    folder = make_regdb(ids=2, images=1)
    first, second = RegDB(root=str(tmp_path)), RegDB(root=str(tmp_path), trial=2)
    assert brief(first.train, folder) == [
        ("Visible/1/male_1.bmp", 0, 1, VISIBLE),
        ("Thermal/1/male_1.bmp", 0, 2, INFRARED),
        ("Visible/2/male_1.bmp", 1, 1, VISIBLE),
        ("Thermal/2/male_1.bmp", 1, 2, INFRARED),
    ]
    assert [i.path for i in brief(second.train, folder)] == [
        "Visible/3/male_1.bmp",
        "Thermal/3/male_1.bmp",
        "Visible/4/male_1.bmp",
        "Thermal/4/male_1.bmp",
    ]
    assert {i.modality for i in first.query} == {VISIBLE}
    assert {i.modality for i in first.gallery} == {INFRARED}
    assert [i.path for i in first.query] == [i.path for i in second.train if i.modality == VISIBLE]


def test_llcm_reads_the_camera_from_the_name(make_llcm, tmp_path):
    folder = make_llcm(train=(3,), test=(7,))
    dataset = LLCM(root=str(tmp_path))
    assert brief(dataset.train, folder) == [
        ("vis/0003/0003_c01_s1_f1_vis.jpg", 0, 1, VISIBLE),
        ("vis/0003/0003_c01_s1_f2_vis.jpg", 0, 1, VISIBLE),
        ("nir/0003/0003_c02_s1_f1_nir.jpg", 0, 2, INFRARED),
        ("nir/0003/0003_c02_s1_f2_nir.jpg", 0, 2, INFRARED),
        ("nir/0003/0003_c04_s1_f1_nir.jpg", 0, 4, INFRARED),
        ("nir/0003/0003_c04_s1_f2_nir.jpg", 0, 4, INFRARED),
        ("vis/0003/0003_c04_s1_f1_vis.jpg", 0, 4, VISIBLE),
        ("vis/0003/0003_c04_s1_f2_vis.jpg", 0, 4, VISIBLE),
    ]
    assert [i.camid for i in dataset.query] == [1, 1, 4, 4]
    assert [i.camid for i in dataset.gallery] == [2, 2, 4, 4]
    assert {i.pid for i in dataset.query} == {7}


def test_combine_all_keeps_four_fields_and_separates_persons(make_regdb, tmp_path):
    make_regdb(ids=3, images=2)
    combined = RegDB(root=str(tmp_path), combineall=True)
    plain = RegDB(root=str(tmp_path))
    assert len(combined.train) == len(plain.train + plain.query + plain.gallery)
    assert sorted({i.pid for i in combined.train}) == [0, 1, 2, 3, 4, 5]
    person_of = {i.path: i.pid for i in combined.train}
    for path, pid, camid, modality in plain.query + plain.gallery:
        assert person_of[path] == pid + 3
        assert (path, pid + 3, camid, modality) in combined.train


def test_tables_name_the_modalities(make_sysu, tmp_path, caplog):
    make_sysu()
    dataset = SYSUMM01(root=str(tmp_path))
    with caplog.at_level(logging.INFO):
        dataset.show_train()
        dataset.show_test()
    # 4 identities x 4 cameras x 3 images; 2 identities x 2 cameras x 3 images
    assert "| train    | visible    | 4       | 48 " in caplog.text
    assert "| query    | infrared   | 2       | 12 " in caplog.text


def test_fingerprint_is_that_of_the_content(make_sysu, make_regdb, tmp_path):
    folder = make_sysu()
    make_regdb()
    first = SYSUMM01(root=str(tmp_path)).fingerprint()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    folder.rename(moved / "SYSU-MM01")
    assert SYSUMM01(root=str(moved)).fingerprint() == first
    (moved / "SYSU-MM01" / "cam1" / "0001" / "0002.jpg").unlink()
    assert SYSUMM01(root=str(moved)).fingerprint() != first
    prints = {RegDB(root=str(tmp_path), trial=trial).fingerprint() for trial in (1, 2)}
    assert len(prints) == 2 and all(len(value) == 16 for value in prints)


def test_fingerprint_ignores_how_accents_are_stored(tmp_path):
    from vireid_plugins.data.datasets.base import fingerprint

    composed, split = (unicodedata.normalize(form, "é.jpg") for form in ("NFC", "NFD"))
    assert composed != split
    assert fingerprint("x", "/a", {"train": [(f"/a/{composed}", 1)]}) == fingerprint(
        "x", "/b", {"train": [(f"/b/{split}", 1)]}
    )


def test_odd_files_do_not_matter(make_sysu, tmp_path):
    folder = make_sysu()
    before = SYSUMM01(root=str(tmp_path))
    expected = [len(before.train), len(before.query), len(before.gallery)]
    first = folder / "cam1" / "0001"
    for name in ("Thumbs.db", ".DS_Store", "._0001.jpg", "notes.txt"):
        (first / name).write_bytes(b"x")
    (first / "0001.jpg").rename(first / "0001 copy é.JPG")
    (folder / "exp" / "train_id.txt").write_bytes(b"\xef\xbb\xbf1, 2\r\n\r\n3,\r\n")
    after = SYSUMM01(root=str(tmp_path) + "/")
    assert [len(after.train), len(after.query), len(after.gallery)] == expected


def test_regdb_list_from_windows(make_regdb, tmp_path):
    folder = make_regdb(ids=2, images=1, trials=(1,))
    (folder / "Visible" / "1" / "male_1.bmp").rename(folder / "Visible" / "1" / "a b.BMP")
    (folder / "idx" / "train_visible_1.txt").write_bytes(
        b"\xef\xbb\xbfVisible\\1\\a b.BMP 0\r\n\r\nVisible\\2\\male_1.bmp\t1\r\n"
    )
    visible = [i for i in RegDB(root=str(tmp_path)).train if i.modality == VISIBLE]
    assert [(os.path.basename(i.path), i.pid) for i in visible] == [
        ("a b.BMP", 0),
        ("male_1.bmp", 1),
    ]
    assert all(os.path.isfile(i.path) for i in visible)


def test_an_empty_identity_folder_is_normal(make_sysu, tmp_path):
    folder = make_sysu()
    for path in (folder / "cam2" / "0001").iterdir():
        path.unlink()
    assert len([i for i in SYSUMM01(root=str(tmp_path)).train if i.pid == 1]) == 15


def test_an_empty_camera_is_warned_about(make_sysu, tmp_path, caplog):
    folder = make_sysu()
    for path in (folder / "cam4").glob("*/*.jpg"):
        path.unlink()
    with caplog.at_level(logging.WARNING):
        train = SYSUMM01(root=str(tmp_path)).train
    assert {i.camid for i in train} == {1, 2, 3, 5, 6}
    assert "under cam4" in caplog.text


@pytest.mark.parametrize("kind", [SYSUMM01, RegDB, LLCM])
def test_published_counts_are_consistent(kind):
    # SYSU-MM01: 29,033 visible and 15,712 infrared images; RegDB: 8,240; LLCM: 46,767
    totals = {"SYSUMM01": (491, 44745), "RegDB": (412, 8240), "LLCM": (1064, 46767)}
    counts = kind.published
    ids = counts["train ids"] + counts["test ids"]
    images = sum(number for what, number in counts.items() if not what.endswith("ids"))
    assert (ids, images) == totals[kind.dataset_name]


def test_notes_name_the_trial_and_rendered_images(tmp_path):
    from vireid_plugins.synthvi import LAYOUT_FOLDERS, render_dataset

    options = dict(ids=(2, 2), images_per_camera=1, size=(48, 32), jobs=1, progress=False)
    for layout in ("sysu", "regdb"):
        render_dataset(layout, tmp_path, "tiny", **options)
        assert (tmp_path / LAYOUT_FOLDERS[layout] / MARKER).is_file()
    note = SYSUMM01(root=str(tmp_path)).note
    assert note.startswith("Rendered images (SynthVI, infrared 0.5 dense + 0.3 clear + 0.2 free):")
    note = RegDB(root=str(tmp_path), trial=3).note
    assert note.startswith("RegDB trial 3;") and "Rendered" in note
