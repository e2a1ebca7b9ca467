"""Files that are written whole or not at all. Oracle: the system's refusals, real and injected."""

import errno
import json
import os
import pickle
import re

import numpy as np
import pytest
import torch

from vireid_plugins.errors import MissingFileError, UnwritableError
from vireid_plugins.files import append_line, check_can_write, write_atomically, write_json, writing
from vireid_plugins.readers.json_file import read_json


@pytest.fixture
def small_files():
    """Let no file of this process grow beyond 20,000 bytes."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write(b"x" * 50_000),
        lambda file: [file.write(b"x" * 100) for _ in range(500)],
        lambda file: torch.save({"a": torch.zeros(50_000), "b": torch.zeros(50_000)}, file),
        lambda file: np.save(file, np.zeros(50_000)),
    ],
    ids=["once", "in parts", "torch", "numpy"],
)
def test_what_does_not_fit_leaves_the_earlier_file(small_files, tmp_path, write):
    target = tmp_path / "a.pth"
    target.write_bytes(b"earlier")
    with pytest.raises(UnwritableError, match=r"a\.pth cannot be written: .*Then continue\."):
        write_atomically(target, write, "Then continue.")
    assert target.read_bytes() == b"earlier"
    assert os.listdir(tmp_path) == ["a.pth"]


def test_a_line_is_added_whole_or_not_at_all(small_files, tmp_path):
    path = tmp_path / "metrics.json"
    append_line(path, "x" * 15_000)
    with pytest.raises(UnwritableError, match="too large"):
        append_line(path, "y" * 15_000)
    append_line(path, "z")
    assert path.read_bytes() == b"x" * 15_000 + b"\nz\n"
    with pytest.raises(UnwritableError):
        append_line(tmp_path / "new.json", "y" * 25_000)
    assert os.listdir(tmp_path) == ["metrics.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device here is always full")
def test_a_full_disk_says_how_much_is_free(tmp_path):
    with pytest.raises(UnwritableError, match=r"No space left on device; .* MB are free") as caught:
        with writing(tmp_path / "log.txt"):
            with open("/dev/full", "w") as file:
                file.write("x")
    assert caught.value.number == errno.ENOSPC
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("number", ["EACCES", "EROFS", "EDQUOT", "EFBIG", "ENOTDIR", "EIO"])
def test_each_refusal_is_one_sentence_with_the_path(number):
    number = getattr(errno, number)
    with pytest.raises(UnwritableError, match="^there/a cannot be written: ") as caught:
        with writing("there/a"):
            raise OSError(number, os.strerror(number), "other")
    assert os.strerror(number) in str(caught.value) and caught.value.number == number


@pytest.mark.parametrize(
    "error", [OSError(errno.ECHILD, "No child"), MissingFileError("gone"), ValueError("program")]
)
def test_what_is_no_refusal_stays_as_it_is(error):
    with pytest.raises(type(error)) as caught:
        with writing("a"):
            raise error
    assert caught.value is error


def test_a_fault_of_the_writer_is_no_refusal(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "a", lambda file: 1 / 0)
    assert not os.listdir(tmp_path)


def test_a_path_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError, match="Not a directory"):
        write_json(tmp_path / "file" / "a.json", {})


def test_a_place_that_cannot_be_written_is_known_before(tmp_path):
    check_can_write(tmp_path / "new" / "folder" / "file.csv")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    check_can_write(tmp_path / "file")
    for path in (tmp_path, tmp_path / "file" / "below.csv"):
        with pytest.raises(UnwritableError, match=f"{re.escape(str(path))} cannot be written"):
            check_can_write(path)


def test_json_is_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"name": "中文", "value": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"name": "中文", "value": 1.5}
    assert read_json(tmp_path / "a.json")["name"] == "中文"
