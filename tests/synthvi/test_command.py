"""The command line that renders SynthVI: arguments, exit codes and what it leaves behind."""

from __future__ import annotations

import json

import cv2
import pytest

from vireid.cli import run_verb
from vireid.verbs.render import LAYOUTS, PRESETS
from vireid_plugins import synthvi
from vireid_plugins.synthvi import LAYOUT_FOLDERS

FEW = ["--images-per-camera", "1", "--size", "48x32", "--jobs", "1"]


def render(words):
    """Run the command; return its exit status."""
    try:
        return run_verb("render", words)
    except SystemExit as end:  # argparse's way
        return end.code


def test_the_words_are_the_renderers():
    assert LAYOUTS == tuple(LAYOUT_FOLDERS) and PRESETS == tuple(synthvi.PRESETS)


@pytest.mark.parametrize("ids", [["2+4"], ["2", "4"]])
def test_one_command_renders_and_shows(tmp_path, ids):
    sheet = tmp_path / "sheets" / "regdb.png"
    arguments = ["--layout", "regdb", "--out", str(tmp_path), "--ids", *ids, "--seed", "3"]
    assert render([*arguments, *FEW, "--preview", str(sheet)]) == 0
    told = json.loads((tmp_path / "RegDB" / "synthvi.json").read_text())["parameters"]
    asked = {"train": 2, "test": 4, "seed": 3, "size": [48, 32], "images_per_camera": 1}
    assert {name: told[name] for name in asked} == asked
    assert len(list((tmp_path / "RegDB").rglob("*.bmp"))) == 6 * 2
    assert cv2.imread(str(sheet)) is not None


@pytest.mark.parametrize(
    "words, shares",
    [
        ([], [0.5, 0.3, 0.2]),
        (["--infrared", "free"], [0, 0, 1]),
        (["--infrared", "0.25,0.75,0"], [0.25, 0.75, 0]),
        (["--infrared", "0.25", "0.75", "0"], [0.25, 0.75, 0]),
    ],
)
def test_shares_of_dyes_are_words(tmp_path, words, shares):
    arguments = ["--layout", "regdb", "--out", str(tmp_path), "--ids", "1+1"]
    assert render([*arguments, *FEW, *words]) == 0
    told = json.loads((tmp_path / "RegDB" / "synthvi.json").read_text())["parameters"]
    assert list(told["infrared"].values()) == shares


@pytest.mark.parametrize(
    "extra, named",
    [
        (["--ids", "2x4"], "TRAIN"),
        (["--size", "48"], "HEIGHTxWIDTH"),
        (["--layout", "casia"], "casia"),
        (["--ids", "1+2"], "even"),
        (["--jobs", "0"], "jobs"),
        (["--infrared", "0.5,0.3"], "infrared"),
        (["--infrared", "0.5", "0.3", "0.3"], "sum is 1.1"),
    ],
)
def test_wrong_words_end_with_status_two_and_a_reason(tmp_path, capsys, extra, named):
    assert render(["--layout", "regdb", "--out", str(tmp_path), *FEW, *extra]) == 2
    assert named in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_foreign_folder_ends_with_status_two(tmp_path, capsys):
    (tmp_path / "RegDB").mkdir()
    (tmp_path / "RegDB" / "mine.txt").write_text("mine")
    assert render(["--layout", "regdb", "--out", str(tmp_path), *FEW]) == 2
    assert "did not make" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["--out", "--preview"])
def test_a_place_that_cannot_be_written_is_named_in_one_line(tmp_path, capfd, wrong):
    """A file stands where a folder is needed."""
    (tmp_path / "file").write_text("")
    places = {"--out": str(tmp_path), "--preview": str(tmp_path / "sheet.png")}
    places[wrong] = str(tmp_path / "file" / "inside.png")
    words = ["--layout", "regdb", "--ids", "1+1", *FEW]
    assert render([*words, *(word for pair in places.items() for word in pair)]) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {places[wrong]}") and "cannot be written" in last
