"""``vireid video``. Oracles: the folder that it makes, and sentences about wrong words."""

import logging
import os
import subprocess
import sys

import pytest

from vireid.cli import main

from tests.engine.small import ROOT

from .drawn import BLUE, RED, frames, write_video


def run(capsys, *words):
    """Run the verb in this process, and leave logging as it was: status, output and error."""
    loggers = [logging.getLogger(name) for name in ("fastreid", "vireid_plugins.engine")]
    levels = [logger.level for logger in loggers]
    status = main(["video", *map(str, words)])
    said = capsys.readouterr()
    assert [logger.level for logger in loggers] == levels
    return status, said.out, said.err


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Return a video of three seconds."""
    return write_video(tmp_path_factory.mktemp("video") / "a.avi", frames([RED, BLUE], 30))


def test_a_video_is_cut_and_the_next_step_is_said(video, tmp_path, capsys):
    status, out, _ = run(capsys, video, "--out", tmp_path / "out")
    assert status == 0 and "crops of 2 tracks" in out and "--weights random:mobilenetv2" in out
    assert len(list((tmp_path / "out" / "crops").iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.avi", "--out", "{}/out"], "none.avi does not exist"),
        (["{}", "--out", "{}/out", "--fps", "10"], "holds no image"),
        (["VIDEO", "--out", "VIDEO"], "is a file; expected a folder"),
        (["VIDEO", "--out", "{}/out", "--every", "0"], "--every must be above 0"),
        (["VIDEO", "--out", "{}/out", "--fps", "nan"], "--fps must be above 0"),
        (["VIDEO", "--out", "{}/out", "--min-height", "1"], "--min-height must be from 8"),
        (["VIDEO", "--out", "{}/out", "--weights", "no.pth"], "no such file; expected the path"),
        (["VIDEO", "--out", "{}/out", "--weights", "{}/a.pth", "--persons", "no.csv"], "no.csv"),
        (["VIDEO", "--out", "{}/out", "--weights", "{}/a.pth", "--device", "tpu"], "tpu"),
        (
            ["VIDEO", "--out", "{}/out", "--gaps", "1", "--weights", "random:resnet18", "--size"]
            + ["1x1"],
            "--size [1, 1] does not suit this model",
        ),
    ],
)
def test_mistakes_are_one_line(video, tmp_path, capsys, words, said):
    words = [str(video) if word == "VIDEO" else word.format(tmp_path) for word in words]
    (tmp_path / "a.pth").write_text("x")
    status, _, error = run(capsys, *words)
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert status == 2 and len(lines) == 1 and said in lines[0], error


def test_a_list_of_persons_and_a_damaged_folder_are_named_without_models(video, tmp_path, capsys):
    words = [video, "--out", tmp_path / "out"]
    status, _, error = run(capsys, *words, "--persons", "no.csv")
    assert status == 2 and "no.csv" in error
    (tmp_path / "out" / "video.json").write_text("{")
    status, _, error = run(capsys, *words)
    assert status == 2 and "video.json is not JSON" in error and "into a new folder" in error


@pytest.mark.slow
def test_nothing_but_the_sentence_is_written_about_a_wrong_file(tmp_path):
    """Libraries inside OpenCV write about it too, and are told not to before they are loaded."""
    (tmp_path / "text.mp4").write_text("This is no video. " * 1000)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "video.py"), "text.mp4", "--out", "out"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "OPENCV_FFMPEG_LOGLEVEL"},
    )
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "cannot open text.mp4" in done.stderr
