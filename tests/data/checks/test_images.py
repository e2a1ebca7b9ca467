"""Oracle: files damaged on purpose, and counts of how often an image is decoded."""

import os

import pytest

from vireid_plugins.data.checks import images as verify
from vireid_plugins.readers.image import ImageError


@pytest.fixture
def paths(tmp_path, write_image):
    found = [tmp_path / f"{i}.jpg" for i in range(6)]
    for i, path in enumerate(found):
        write_image(path, i)
    return list(map(str, found))


@pytest.fixture
def decoded(monkeypatch):
    """Return the names of the images that were decoded; the list grows."""
    names = []
    real = verify.read_image

    def counting(path):
        names.append(os.path.basename(path))
        return real(path)

    monkeypatch.setattr(verify, "read_image", counting)
    return names


def truncate(path):
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)


def test_all_broken_images_are_named_at_once(paths):
    truncate(paths[1])
    truncate(paths[4])
    messages = verify.find_broken_images(paths)
    assert [p for p in paths if any(p in m for m in messages)] == [paths[1], paths[4]]
    with pytest.raises(ImageError, match="2 unusable"):
        verify.raise_if_broken(verify.find_broken_images(paths))


def test_sizes_sees_empty_and_absent_but_not_truncated(paths):
    truncate(paths[0])
    open(paths[1], "w").close()
    os.remove(paths[2])
    messages = verify.find_broken_images(paths, "sizes")
    assert len(messages) == 2
    assert paths[1] in messages[0] and "empty" in messages[0]
    assert paths[2] in messages[1]


def test_second_run_decodes_nothing(paths, decoded, monkeypatch):
    assert verify.find_broken_images(paths) == [] and len(decoded) == 6
    monkeypatch.setattr(verify, "_verified_here", set())  # as in a new process
    assert verify.find_broken_images(paths) == [] and len(decoded) == 6


def test_a_changed_file_is_read_again(paths, decoded):
    verify.find_broken_images(paths)
    truncate(paths[3])
    assert len(verify.find_broken_images(paths)) == 1 and len(decoded) == 12


def test_a_cache_that_cannot_be_written_only_costs_time(paths, tmp_path, decoded):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert verify.find_broken_images(paths, cache_dir=str(blocked)) == []
    assert verify.find_broken_images(paths, cache_dir=str(blocked)) == []
    assert len(decoded) == 6  # the process itself remembers


def test_nothing_is_written_beside_the_images(paths, tmp_path):
    before = sorted(os.listdir(tmp_path))
    verify.find_broken_images(paths)
    assert sorted(os.listdir(tmp_path)) == before


def test_unknown_level():
    with pytest.raises(ValueError, match="'sizes', 'full'.*'deep'"):
        verify.find_broken_images([], "deep")
