"""Videos and folders of frames. Oracles: the pictures that were written; reasons of refusals."""

import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vireid_plugins.errors import MissingFileError, UserError
from vireid_plugins.video.frames import open_frames

from .drawn import FPS, HEIGHT, RED, WIDTH, frames, write_frames, write_video


@pytest.fixture(scope="module")
def pictures():
    """Twelve frames."""
    return frames([RED], 12)


def test_a_video_gives_its_frames_each_time(pictures, tmp_path):
    video = open_frames(write_video(tmp_path / "a.avi", pictures))
    assert video.fps == FPS and video.size == (HEIGHT, WIDTH)
    for _ in range(2):
        read = np.array(list(video))
        assert read.shape == pictures.shape
        assert np.abs(read.astype(int) - pictures).mean() < 6  # JPEG


def test_frames_per_second_may_be_given(pictures, tmp_path):
    assert open_frames(write_video(tmp_path / "a.avi", pictures), 7).fps == 7


def test_a_folder_gives_its_images_in_natural_order(pictures, tmp_path):
    folder = write_frames(tmp_path / "frames", pictures)  # 10.png comes after 9.png
    (folder / "notes.txt").write_text("x")
    read = open_frames(folder, 25)
    assert read.fps == 25 and read.size == (HEIGHT, WIDTH)
    assert (np.array(list(read)) == pictures).all()


def test_a_gray_folder_is_read_too(pictures, tmp_path):
    gray = write_frames(tmp_path / "gray", pictures[..., 0])
    assert (np.array(list(open_frames(gray, 25))) == pictures[..., :1]).all()


def refused(path, *words, fps=None):
    """Check that opening or reading is refused by a sentence with these words."""
    with pytest.raises(UserError) as caught:
        list(open_frames(path, fps))
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_what_is_no_video_is_named(pictures, tmp_path):
    with pytest.raises(MissingFileError, match="expected a video, or a folder of frames"):
        open_frames(tmp_path / "none.avi")
    (tmp_path / "empty.avi").write_bytes(b"")
    refused(tmp_path / "empty.avi", "empty.avi is empty (0 bytes)")
    (tmp_path / "text.avi").write_text("This is no video. " * 1000)
    refused(tmp_path / "text.avi", "text.avi", "cannot open", "ffmpeg -i VIDEO FOLDER/%06d.png")
    cv2.imwrite(str(tmp_path / "img_001.png"), pictures[0])
    refused(tmp_path / "img_001.png", "is one image", "name their folder")
    os.mkfifo(tmp_path / "pipe.avi")
    refused(tmp_path / "pipe.avi", "no file but a device or a pipe")


def test_a_video_without_frames_is_named(pictures, tmp_path):
    whole = write_video(tmp_path / "whole.avi", pictures).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: whole.index(b"movi") + 4])
    refused(tmp_path / "cut.avi", "cut.avi")


def test_a_video_that_was_cut_off_gives_its_first_frames(pictures, tmp_path):
    whole = write_video(tmp_path / "whole.avi", pictures).read_bytes()
    (tmp_path / "cut.avi").write_bytes(whole[: len(whole) // 2])
    assert 2 <= len(list(open_frames(tmp_path / "cut.avi"))) < 12


def test_wrong_folders_are_named(pictures, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "holds no image", fps=10)
    folder = write_frames(tmp_path / "frames", pictures[:3])
    refused(folder, "add --fps NUMBER")
    cv2.imwrite(str(folder / "9.png"), pictures[0][:100])
    refused(folder, "9.png", f"{WIDTH} x 100", f"{WIDTH} x {HEIGHT}", fps=10)
    (folder / "9.png").write_bytes(b"no image")
    refused(folder, "9.png", "Write this frame again from the video", fps=10)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e6])
def test_wrong_frames_per_second_are_named(fps, tmp_path):
    refused(tmp_path, "--fps must be above 0 and at most 1000", fps=fps)


def test_a_name_that_opencv_would_crash_at_is_refused(pictures, tmp_path):
    video = write_video(tmp_path / "a.avi", pictures)
    other = tmp_path / os.fsdecode(b"a\xff.avi")
    try:
        os.rename(video, other)
    except OSError as error:
        pytest.skip(f"no such names here: {error}")
    refused(other, "a\\xff.avi is not a name in UTF-8")
    os.symlink(other, tmp_path / "link.avi")  # the remedy works
    assert len(list(open_frames(tmp_path / "link.avi"))) == 12


@pytest.mark.parametrize("count, announced", [(-9e18, 0), (0, 0), (795, 795), (2.0**31, 0)])
def test_a_number_of_frames_that_cannot_be_is_none(monkeypatch, tmp_path, count, announced):
    """As some containers give it."""
    said = {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_FRAME_COUNT: count}
    capture = SimpleNamespace(
        isOpened=lambda: True,
        get=said.get,
        read=lambda: (True, np.zeros((4, 3, 3), np.uint8)),
        release=lambda: None,
    )
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: capture)
    (tmp_path / "a.avi").write_text("x")
    assert open_frames(tmp_path / "a.avi").announced == announced
