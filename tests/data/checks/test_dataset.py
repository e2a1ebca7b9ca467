"""Oracle: what the fixtures wrote and what the test damaged."""

import shutil

import pytest

from vireid.cli import run_verb
from vireid_plugins.data.checks.dataset import check_dataset, dataset_class
from vireid_plugins.data.datasets import LLCM, SYSUMM01, CSVDataset, RegDB


def check(*words):
    """Run the command; return its exit status."""
    return run_verb("check-data", words)


def synthetic(folder):
    (folder / "synthvi.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    "name, kind",
    [
        ("sysu", SYSUMM01),
        ("SYSU-MM01", SYSUMM01),
        ("sysumm01", SYSUMM01),
        ("RegDB", RegDB),
        ("regdb", RegDB),
        ("llcm", LLCM),
        ("csv", CSVDataset),
    ],
)
def test_names_and_aliases(name, kind):
    assert dataset_class(name) is kind


def test_unknown_name_gives_the_nearest():
    with pytest.raises(KeyError, match="Did you mean 'RegDB'"):
        dataset_class("RegBD")


def test_rendered_folder_is_said_to_be_synthetic(make_sysu, tmp_path):
    synthetic(make_sysu())
    report = check_dataset("sysu", str(tmp_path), full=True)
    text = str(report)
    assert report.usable and "SynthVI" in text and "22258" not in text
    assert "108 image files decoded, 0 unusable" in text  # 6 identities x 6 cameras x 3
    assert "| infrared   |        3 |      12 |       6 |         0 |" in text
    assert "rand_perm_cam.mat is not there" in text


def test_counts_are_compared_with_the_published_ones(make_sysu, tmp_path):
    make_sysu()
    report = check_dataset("sysu", str(tmp_path))
    assert not report.usable
    assert "train visible: 48 found, 22258 published" in str(report)
    assert SYSUMM01.dataset_url in str(report)


def test_broken_images_are_listed(make_regdb, tmp_path):
    folder = synthetic(make_regdb())
    path = folder / "Thermal" / "1" / "male_1.bmp"
    path.write_bytes(path.read_bytes()[:100])
    assert check_dataset("regdb", str(tmp_path)).usable
    report = check_dataset("regdb", str(tmp_path), full=True)
    assert not report.usable and str(path) in str(report)


def test_identity_without_a_modality(make_sysu, tmp_path):
    folder = synthetic(make_sysu())
    for camera in (3, 6):
        shutil.rmtree(folder / f"cam{camera}" / "0002")
    report = check_dataset("sysu", str(tmp_path))
    assert "1 training identit(ies) have no infrared image: 2" in str(report)


def test_a_broken_split_does_not_hide_the_others(make_llcm, tmp_path):
    folder = synthetic(make_llcm())
    path = folder / "idx" / "train_vis.txt"
    path.write_text(path.read_text() + "vis/none.jpg 1\n")
    report = check_dataset("llcm", str(tmp_path))
    assert not report.usable and "vis/none.jpg (line 9)" in str(report)
    assert "| test visible   |       8 |" in str(report)  # 2 identities x 2 cameras x 2
    assert "Camera 3 has no infrared images by design" in str(report)


@pytest.mark.parametrize("name", ["sysu", "regdb", "llcm"])
def test_missing_dataset_names_the_request_page(name, tmp_path):
    report = check_dataset(name, str(tmp_path))
    assert not report.usable and f"Request page: {dataset_class(name).dataset_url}" in str(report)


def test_command_exit_codes(make_regdb, make_csv, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    synthetic(make_regdb())
    assert check("regdb", "--full", "--trial", "2") == 0
    assert "Usable: no problem found." in capsys.readouterr().out
    assert check("regdb", "--trial", "3") == 1
    assert "train_visible_3.txt is missing" in capsys.readouterr().out
    assert check("sysu", "--root", str(tmp_path / "none")) == 1
    assert check("regdb", "--trial", "11") == 2
    assert check("market") == 2
    make_csv(
        [
            (f"{split}{pid}{m}.png", pid, m, word, split)
            for m, word in enumerate(("visible", "infrared"))
            for split, pid in (("train", 1), ("train", 2), ("query", 3), ("gallery", 3))
        ]
    )
    assert check("csv", "--csv", "own/list.csv") == 0


@pytest.mark.parametrize("option", [["--trial", "2"], ["--csv", "a.csv"]])
def test_options_of_other_datasets_are_refused(option, make_sysu, tmp_path, capsys):
    synthetic(make_sysu())
    assert check("sysu", "--root", str(tmp_path), *option) == 2
    assert option[0] in capsys.readouterr().err
