"""The folder of a video's persons. Oracles: the pictures that were drawn; what was there before."""

import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from vireid_plugins.errors import ExistingFileError, UnwritableError, UserError
from vireid_plugins.video import cut_video, read_cut
from vireid_plugins.video.cut import _crop, image_name
from vireid_plugins.video.sightings import Sighting

from .drawn import BLUE, RED, frames, write_frames, write_video


@pytest.fixture(scope="module")
def pictures():
    """Four seconds of two persons who do not meet."""
    return frames([RED, BLUE], 40)


@pytest.fixture(scope="module")
def folder(pictures, tmp_path_factory):
    """Return the pictures as a folder of frames."""
    return write_frames(tmp_path_factory.mktemp("source") / "frames", pictures)


@pytest.fixture(scope="module")
def cut(folder, tmp_path_factory):
    """Return the cut of the folder."""
    return cut_video(folder, tmp_path_factory.mktemp("out"), fps=10)


def test_crops_are_parts_of_the_frames(cut, pictures):
    assert cut.num_tracks == 2 and len(cut.sightings) >= 14
    for one in cut.sightings:
        crop = np.array(Image.open(cut.folder / "crops" / image_name(one)))[..., ::-1]
        margin = round(0.05 * one.height)
        top, left = max(one.top - margin, 0), max(one.left - margin, 0)
        height, width = crop.shape[:2]
        assert (crop == pictures[one.frame][top : top + height, left : left + width]).all()
        assert one.height <= height <= one.height + 2 * margin


def test_a_margin_ends_at_the_border_of_the_frame():
    """A person of 60 pixels has a margin of 3, of which 2 and 1 are left."""
    frame = np.arange(100 * 50 * 3).reshape(100, 50, 3)
    assert (_crop(frame, Sighting(1, 0, 2, 1, 20, 60)) == frame[0:64, 0:25]).all()
    assert (_crop(frame, Sighting(1, 0, 29, 38, 20, 60)) == frame[35:100, 26:50]).all()


def test_gray_crops_are_the_red_channel(cut):
    name = image_name(cut.sightings[0])
    gray = np.array(Image.open(cut.folder / "gray" / name))
    assert gray.ndim == 2
    assert (gray == np.array(Image.open(cut.folder / "crops" / name))[..., 0]).all()


def test_the_table_says_who_is_where_and_when(cut):
    with open(cut.folder / "tracks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(cut.sightings)
    assert [(int(row["track"]), int(row["frame"])) for row in rows] == [
        (one.track, one.frame) for one in cut.sightings
    ]
    assert all(float(row["seconds"]) == int(row["frame"]) / 10 for row in rows)
    assert {int(row["frame"]) % 5 for row in rows} == {0}  # twice a second
    files = {p.relative_to(cut.folder / "crops").as_posix() for p in cut.folder.glob("crops/*/*")}
    assert files == {row["image"] for row in rows}
    facts = json.loads((cut.folder / "video.json").read_text())
    assert facts["found"] == {
        "frames": 40,
        "frames left out": 0,
        "moving": 2,
        "groups": 0,
        "tracks": 2,
        "crops": len(rows),
    }


def test_a_cut_that_is_there_is_read_again(cut, folder, monkeypatch):
    monkeypatch.setattr("vireid_plugins.video.cut.find_sightings", None)  # it would fail
    again = cut_video(folder, cut.folder, fps=10)
    assert again.sightings == cut.sightings == read_cut(cut.folder).sightings
    assert again.fps == 10


def test_another_video_or_setting_is_refused(cut, folder):
    before = (cut.folder / "tracks.csv").read_bytes()
    with pytest.raises(ExistingFileError, match="every 5 there, 10 now.*Give another folder"):
        cut_video(folder, cut.folder, fps=10, every=1)
    assert (cut.folder / "tracks.csv").read_bytes() == before


def test_a_stopped_cut_begins_anew(cut, folder, tmp_path):
    (tmp_path / "video.json").write_text("{}")  # it is written first, tracks.csv last
    for name in ("crops", "gray"):
        (tmp_path / name / "track0009").mkdir(parents=True)
        (tmp_path / name / "track0009" / "frame000000.png").write_bytes(b"")
    assert cut_video(folder, tmp_path, fps=10).sightings == cut.sightings
    assert not list(tmp_path.rglob("track0009"))


def test_a_folder_with_other_things_is_left_alone(folder, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ExistingFileError, match="holds other things .thesis.tex.*new or empty"):
        cut_video(folder, tmp_path, fps=10)
    with pytest.raises(ExistingFileError, match="is a file; expected a folder"):
        cut_video(folder, tmp_path / "thesis.tex", fps=10)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(folder, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UnwritableError, match="cannot be written"):
        cut_video(folder, tmp_path / "out", fps=10)


def test_an_out_below_a_file_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnwritableError, match="cannot be written"):
        cut_video(folder, tmp_path / "file" / "out", fps=10)


def test_nobody_is_said_with_what_moved(tmp_path):
    source = write_frames(tmp_path / "frames", frames([], 25))
    with pytest.raises(UserError, match="nobody was found in 25 frames. 0 things moved"):
        cut_video(source, tmp_path / "out", fps=10)
    assert not (tmp_path / "out" / "tracks.csv").exists()


def test_a_video_that_was_cut_off_is_warned_of(pictures, tmp_path, caplog):
    whole = write_video(tmp_path / "whole.avi", pictures).read_bytes()
    (tmp_path / "part.avi").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()  # of a file manager; the folder counts as empty
    cut_video(tmp_path / "part.avi", tmp_path / "out")
    assert "of 40 frames can be decoded; the file was cut off" in caplog.text


@pytest.mark.parametrize("every", [0, -1, float("nan"), 100])
def test_wrong_moments_are_named(folder, tmp_path, every):
    with pytest.raises(UserError, match="--every must be above 0 and at most 60"):
        cut_video(folder, tmp_path / "out", fps=10, every=every)


@pytest.mark.parametrize("height", [0, 7, 151, float("nan")])
def test_wrong_heights_are_named(folder, tmp_path, height):
    with pytest.raises(UserError, match="--min-height must be from 8 to 150 pixels"):
        cut_video(folder, tmp_path / "out", fps=10, min_height=height)


def test_a_damaged_table_is_named(cut, tmp_path):
    for name in ("video.json", "tracks.csv"):
        (tmp_path / name).write_bytes((cut.folder / name).read_bytes())
    text = (tmp_path / "tracks.csv").read_text()
    (tmp_path / "tracks.csv").write_text(text.replace(",0,", ",zero,", 1))
    with pytest.raises(UserError, match="tracks.csv .* was changed .*zero"):
        read_cut(tmp_path)
