"""The image cache. Oracle: the pixels without a cache, whatever happened to its folder."""

import logging
import multiprocessing
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vireid_plugins.data import cache as module
from vireid_plugins.data.cache import ImageCache
from vireid_plugins.readers.image import ImageError, read_image

GIB = 2**30
ENTRY = 20 * 10 * 3 + module._HEADER.size  # bytes of an image that ``write`` makes


def write(path, seed, size=(20, 10)):
    """Write a PNG file of (height, width) random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, compress_level=0)  # so the size of the file is the same
    return str(path)


def look(cache, path, kind="decoded"):
    """Return the pixels, and whether they were decoded."""
    decoded = []

    def make():
        decoded.append(path)
        return read_image(path)

    return np.asarray(cache.image(path, kind, make)), bool(decoded)


def entries(folder):
    return sorted(folder.glob("*/*.u8"))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def cache(folder):
    return ImageCache(folder, GIB)


@pytest.fixture
def image(tmp_path):
    return write(tmp_path / "images" / "a.png", 0)


def test_the_second_look_reads_no_image_and_sees_the_same(cache, image):
    (first, decoded), (second, again) = look(cache, image), look(cache, image)
    assert decoded and not again
    assert np.array_equal(first, second) and np.array_equal(first, np.asarray(read_image(image)))
    assert "1 images found, 1 decoded" in cache.describe()


def test_another_process_finds_it(folder, cache, image):
    look(cache, image)
    assert not look(ImageCache(folder, GIB), image)[1]


def test_a_picture_can_be_changed_without_harm(cache, image):
    look(cache, image)
    picture = cache.image(image, "decoded", lambda: pytest.fail("was decoded"))
    picture.putpixel((0, 0), (1, 2, 3))
    assert np.array_equal(look(cache, image)[0], np.asarray(read_image(image)))


def test_changed_content_of_the_same_size_is_seen(cache, image, tmp_path):
    look(cache, image)
    before = os.stat(image)
    write(tmp_path / "images" / "a.png", 1)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # a nanosecond later
    assert os.stat(image).st_size == before.st_size
    found, decoded = look(cache, image)
    assert decoded and np.array_equal(found, np.asarray(read_image(image)))


def test_another_size_with_the_same_time_is_seen(cache, image, tmp_path):
    look(cache, image)
    before = os.stat(image)
    write(tmp_path / "images" / "a.png", 1, (30, 10))
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert look(cache, image)[0].shape == (30, 10, 3)


@pytest.mark.parametrize("part", ["_READER", "torchvision.__version__", "Image.__version__"])
def test_other_decoders_and_other_preparation_find_nothing(cache, folder, image, part, monkeypatch):
    look(cache, image)
    assert look(cache, image, "Resize(size=(9, 9))")[1]
    monkeypatch.setattr(f"vireid_plugins.data.cache.{part}", "other")
    assert look(ImageCache(folder, GIB), image)[1]


def test_the_same_file_elsewhere_is_another(cache, image, tmp_path):
    look(cache, image)
    other = shutil.copy2(image, tmp_path / "images" / "b.png")
    assert look(cache, str(other))[1]


def damaged(content, name):
    if name == "short":
        return content[: len(content) // 2]
    if name == "empty":
        return b""
    if name == "header only":
        return content[:20]
    if name == "flipped bit":
        return content[:-1] + bytes([content[-1] ^ 1])
    if name == "zeros":
        return bytes(len(content))
    return content + b"x"  # long


@pytest.mark.parametrize("name", ["short", "empty", "header only", "flipped bit", "zeros", "long"])
def test_a_damaged_entry_is_decoded_again_and_replaced(name, cache, folder, image):
    look(cache, image)
    (entry,) = entries(folder)
    entry.write_bytes(damaged(entry.read_bytes(), name))
    found, decoded = look(cache, image)
    assert decoded and np.array_equal(found, np.asarray(read_image(image)))
    assert not look(cache, image)[1]


def test_an_entry_of_another_image_under_this_name_is_refused(cache, folder, image, tmp_path):
    look(cache, image)
    (own,) = entries(folder)
    other = write(tmp_path / "images" / "b.png", 7)
    look(cache, other)
    (foreign,) = set(entries(folder)) - {own}
    shutil.copy(foreign, own)
    found, decoded = look(cache, image)
    assert decoded and np.array_equal(found, np.asarray(read_image(image)))


def test_the_bound_holds_and_is_logged_once(folder, tmp_path, caplog):
    """Room for three entries of one KiB each; the others are decoded, every time."""
    cache = ImageCache(folder, 3 * 1024)
    assert ENTRY <= 1024
    paths = [write(tmp_path / "images" / f"{n}.png", n) for n in range(6)]
    with caplog.at_level(logging.WARNING):
        assert all(look(cache, path)[1] for path in paths)
    assert [look(cache, path)[1] for path in paths] == [False] * 3 + [True] * 3
    assert sum(entry.stat().st_size for entry in entries(folder)) <= 3 * 1024
    (record,) = caplog.records
    assert "is full at DATALOADER.CACHE.MAX_GB" in record.message
    again = ImageCache(folder, 3 * 1024)  # another run: what is there counts
    assert look(again, paths[5])[1] and len(entries(folder)) == 3


def fill(folder, paths, barrier, results):
    cache = ImageCache(folder, 100 * 1024)
    barrier.wait()
    sums = [int(look(cache, path)[0].astype(np.int64).sum()) for path in paths]
    results.put(sums)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_two_processes_at_once(method, folder, tmp_path):
    """Both see every image right, the bound holds for both together, nothing is left behind."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    paths = [write(tmp_path / "images" / f"{n}.png", n) for n in range(150)]
    expected = [int(np.asarray(read_image(path)).astype(np.int64).sum()) for path in paths]
    context = multiprocessing.get_context(method)
    barrier, results = context.Barrier(2), context.Queue()
    arguments = [(folder, order, barrier, results) for order in (paths, paths)]
    processes = [context.Process(target=fill, args=words) for words in arguments]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    assert found == [expected, expected]
    assert 50 <= len(entries(folder)) <= 100
    assert not list(folder.glob("*/.*.partial"))
    cache = ImageCache(folder, GIB)
    assert [int(look(cache, path)[0].astype(np.int64).sum()) for path in paths] == expected


@pytest.mark.slow
def test_a_kill_in_the_middle_of_a_write_leaves_nothing_to_be_found(folder, image):
    code = f"""
import os, sys
from pathlib import Path
import vireid_plugins
from vireid_plugins.data.cache import ImageCache
from vireid_plugins.readers.image import read_image
def half(self, content):
    with open(self, "wb") as file:
        file.write(content[:len(content) // 2]); file.flush(); os._exit(9)
Path.write_bytes = half
ImageCache({str(folder)!r}, {GIB}).image({image!r}, "decoded", lambda: read_image({image!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    (partial,) = folder.glob("*/.*.partial")
    assert not entries(folder)
    cache = ImageCache(folder, GIB)
    assert look(cache, image)[1] and not look(cache, image)[1]
    assert partial.exists()  # of a process that may be at work
    os.utime(partial, (0, 0))
    ImageCache(folder, GIB)
    assert not partial.exists()


@pytest.mark.parametrize("failing", ["write_bytes", "mkdir"])
def test_a_full_disk_costs_time_only(failing, cache, folder, tmp_path, monkeypatch, caplog):
    def fail(self, *args, **kwargs):
        if failing == "write_bytes":
            with open(self, "wb") as file:
                file.write(args[0][:50])
        raise OSError(28, "No space left on device")

    paths = [write(tmp_path / "images" / f"{n}.png", n) for n in range(3)]
    monkeypatch.setattr(module.Path, failing, fail)
    with caplog.at_level(logging.WARNING):
        for path in paths + paths:
            found, decoded = look(cache, path)
            assert decoded and np.array_equal(found, np.asarray(read_image(path)))
    (record,) = caplog.records
    assert "No space left on device" in record.message and "Training continues" in record.message
    assert not entries(folder) and not list(folder.glob("*/.*"))


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path, image, caplog):
    """A file stands where the folder should be: this fails for a superuser too."""
    (tmp_path / "taken").write_text("x")
    cache = ImageCache(tmp_path / "taken" / "cache", GIB)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found, decoded = look(cache, image)
            assert decoded and np.array_equal(found, np.asarray(read_image(image)))
    assert len(caplog.records) == 1


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="a superuser writes anywhere"
)
def test_a_read_only_folder_is_read(folder, cache, image, tmp_path):
    look(cache, image)
    os.chmod(folder, 0o500)
    try:
        again = ImageCache(folder, GIB)
        assert not look(again, image)[1]
        assert look(again, write(tmp_path / "images" / "b.png", 1))[1]
    finally:
        os.chmod(folder, 0o700)


def test_an_image_that_is_gone_is_named_as_without_a_cache(cache, image):
    look(cache, image)
    os.remove(image)
    assert cache.digest(image, "decoded") is None
    with pytest.raises(ImageError, match="a.png"):
        look(cache, image)


def test_a_file_that_changes_while_it_is_read_is_not_kept(cache, folder, image, tmp_path):
    def make():
        picture = read_image(image)
        write(tmp_path / "images" / "a.png", 1, (30, 10))
        return picture

    cache.image(image, "decoded", make)
    assert not entries(folder)
