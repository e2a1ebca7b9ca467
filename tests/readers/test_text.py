"""Text is read as UTF-8. Oracle: the bytes that the test writes, and Python's own decoder."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import FileContentError, MissingFileError, UserError
from vireid_plugins.readers.text import decode, is_text, is_utf8, read_bytes, read_text, shown

CHINESE = "# 可见光与红外\nNAME: 行人\n"


def write(tmp_path, content):
    path = tmp_path / "a.yml"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [CHINESE, "", "a\r\nb\rc\n", "±→é\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_comes_as_it_was_written(tmp_path, content, encoding):
    assert read_text(write(tmp_path, content.encode(encoding))) == content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CHINESE.encode("utf-16"), "found UTF-16"),
        (CHINESE.encode("utf-32"), "found UTF-32"),
        (b"A: 1\n" + "行人".encode("gbk"), "line 2: expected text in UTF-8, found the byte 0xd0"),
        ("é: 1".encode("latin-1"), "line 1"),
        ("A: 1".encode("utf-16-le"), "found a NUL byte (byte 1 of the file)"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "found a PNG picture"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "found a JPEG picture"),
        (b"PK\x03\x04\0\0", "found a ZIP archive"),
        (b"A: 1\n\0", "NUL byte"),
        (b"\0A: 1", "NUL byte (byte 0 of the file)"),
        (CHINESE.encode()[:-2], "line 2"),
    ],
)
def test_other_bytes_are_told(tmp_path, content, words):
    path = write(tmp_path, content)
    with pytest.raises(FileContentError) as caught:
        read_text(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_remedy_of_the_caller_is_shown(tmp_path):
    with pytest.raises(FileContentError, match="Move it away."):
        read_text(write(tmp_path, b"\xff"), "Move it away.")


def test_what_is_not_a_file_is_refused(tmp_path):
    with pytest.raises(MissingFileError, match="There is no file"):
        read_text(tmp_path / "absent")
    with pytest.raises(MissingFileError, match="There is no file"):
        read_text(write(tmp_path, b"") / "below a file")
    with pytest.raises(UserError, match="is a folder"):
        read_text(tmp_path)
    with pytest.raises(MissingFileError, match="not a valid file name"):
        read_text("a\0b")
    with pytest.raises(UserError, match="cannot be read"):
        read_text("a" * 5000)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_is_told_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="a device or a pipe"):
        read_bytes(tmp_path / "pipe")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file"
)
def test_a_file_without_permission_is_told(tmp_path):
    path = write(tmp_path, b"")
    path.chmod(0)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        read_text(path)


def test_a_name_that_is_not_utf8_can_be_shown(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.yml")
    with pytest.raises(MissingFileError) as caught:
        read_text(name)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("行人/a b.jpg", "行人/a b.jpg"),
        (b"\xe8\xa1\x8c.jpg".decode("ascii", "surrogateescape"), "行.jpg"),  # as under LC_ALL=C
        (os.fsdecode(b"a\xff.jpg"), "a\\xff.jpg"),
        ("a\ud800.jpg", "a\\ud800.jpg"),
        ("a\n\x1b[2J.jpg", "a\\n\\x1b[2J.jpg"),
        ("", "''"),
    ],
)
def test_names_are_shown_in_letters_that_can_be_written(name, expected):
    assert shown(name) == expected
    assert shown(name).encode("utf-8").decode("utf-8") == expected


@pytest.mark.parametrize(
    ("name", "text", "utf8"),
    [
        ("行人", True, True),
        (b"\xe8\xa1\x8c".decode("ascii", "surrogateescape"), True, False),  # as under LC_ALL=C
        (os.fsdecode(b"\xff"), False, False),
        ("\ud800", False, False),
    ],
)
def test_names_that_are_text(name, text, utf8):
    assert is_text(name) == text
    assert is_utf8(name) == utf8


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_give_their_text_or_an_error(content):
    try:
        text = decode(content, "a.txt")
    except FileContentError as error:
        assert str(error).startswith("a.txt")
        assert b"\0" in content or content[:2] in (b"\xff\xfe", b"\xfe\xff") or not decodes(content)
    else:
        assert text.encode() == content.removeprefix(b"\xef\xbb\xbf")


def decodes(content):
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
