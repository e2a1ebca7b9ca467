"""A standard output that nobody reads, or that is on a full disk."""

import io
import os
import subprocess
import sys

import pytest

from vireid.output import checks_output
from vireid.verb import say

from tests.engine.small import ROOT

FULL = "/dev/full"


def start(words, output):
    return subprocess.Popen(
        [sys.executable, "-m", "vireid", *words],
        cwd=ROOT,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Windows report no broken pipe")
@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_a_closed_pipe_ends_a_command_quietly(words):
    reading, writing = os.pipe()
    os.close(reading)
    process = start(words, writing)
    os.close(writing)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (141, "")


@pytest.mark.skipif(not os.path.exists(FULL), reason="this system has no device that is full")
@pytest.mark.parametrize("words", [["--help"], ["render", "--help"]])
def test_a_full_disk_is_one_line(words):
    with open(FULL, "w") as output:
        process = start(words, output)
        _, error = process.communicate(timeout=60)
    expected = "error: the standard output cannot be written: No space left on device.\n"
    assert (process.returncode, error) == (2, expected)


def test_what_concerns_another_file_is_raised():
    @checks_output
    def command():
        raise FileNotFoundError("list.csv")

    with pytest.raises(FileNotFoundError, match="list.csv"):
        command()


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "utf-8"])
def test_letters_that_a_terminal_lacks_are_escaped(monkeypatch, encoding):
    """Oracle: the escapes that Python itself writes for letters that an encoding lacks."""
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding=encoding))
    text = "21.09 ± 0.78 → 行人 " + os.fsdecode(b"\xff") + " é"

    @checks_output
    def command():
        say(text)
        return 0

    assert command() == 0
    shown = content.getvalue().decode(encoding)
    assert shown == text.encode(encoding, "backslashreplace").decode(encoding) + "\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX closes the streams")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_is_closed_is_no_error(closed):
    words = f"{sys.executable} -m vireid --version {closed}"
    ended = subprocess.run(["sh", "-c", words], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
