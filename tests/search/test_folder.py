"""Finding images. Oracle: trees made by hand and their names as written down here."""

import os

import pytest

from vireid_plugins.search.folder import natural_key, scan_images, shown_name, sorted_images


def make(folder, *names):
    for name in names:
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"x")


def found(folder, **options):
    problems = []

    def note(*problem):
        problems.append(problem)

    return sorted(image.name for image in scan_images(folder, note, **options)), problems


def test_numbers_are_sorted_as_numbers():
    names = [
        b"a/2.jpg",
        b"a/10.jpg",
        b"a/010.jpg",
        b"a/b/1.jpg",
        b"a-b/1.jpg",
        b"b2/x1.jpg",
        b"b10/x0.jpg",
        b"a/" + b"9" * 300 + b".jpg",
    ]
    assert sorted(names, key=lambda name: (natural_key(name), name)) == [
        b"a/2.jpg",
        b"a/010.jpg",
        b"a/10.jpg",
        b"a/" + b"9" * 300 + b".jpg",
        b"a/b/1.jpg",
        b"a-b/1.jpg",
        b"b2/x1.jpg",
        b"b10/x0.jpg",
    ]


def test_images_of_all_folders_and_nothing_else(tmp_path):
    make(
        tmp_path,
        b"2.JPG",
        b"10.jpg",
        b"a/b/c.webp",
        "a/人 $1$.png".encode(),
        b"a/bad\xff.png",
        b"a/text.txt",
        b".hidden.jpg",
        b".git/x.jpg",
        b"index/y.jpg",
    )
    os.mkfifo(tmp_path / "pipe.jpg")  # opening it would wait for ever
    names = list(sorted_images(tmp_path, lambda *problem: pytest.fail(str(problem))))
    assert names == [
        b"2.JPG",
        b"10.jpg",
        b"a/b/c.webp",
        b"a/bad\xff.png",
        "a/人 $1$.png".encode(),
        b"index/y.jpg",
    ]
    assert b"index/y.jpg" not in found(tmp_path, skip=tmp_path / "index")[0]
    assert shown_name(b"a/bad\xff\n.png") == "a/bad\\xff\\n.png"


def test_links_are_followed_once(tmp_path):
    make(tmp_path / "in", b"a/1.jpg")
    make(tmp_path / "out", b"2.jpg")
    (tmp_path / "in" / "a" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "in" / "nothing.jpg").symlink_to("gone")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "file.jpg").symlink_to(tmp_path / "out" / "2.jpg")
    names, problems = found(tmp_path / "in")
    assert names == [b"a/1.jpg", b"file.jpg", b"other/2.jpg"]
    assert {problem[0] for problem in problems} == {b"nothing.jpg", b"self.jpg"}


def test_a_folder_that_cannot_be_read_is_reported(tmp_path, monkeypatch):
    make(tmp_path, b"1.jpg", b"shut/2.jpg")
    scandir = os.scandir

    def refusing(path):
        if os.fsencode(path).endswith(b"shut"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    names, problems = found(tmp_path)
    assert names == [b"1.jpg"]
    assert problems == [(b"shut", "the folder cannot be read (Permission denied)", True)]
