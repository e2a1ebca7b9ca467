"""Lines of lists. Oracle: the lines that the test wrote."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import FileContentError, MissingFileError
from vireid_plugins.readers.list_file import read_lines


@pytest.mark.parametrize(
    "content",
    [
        "a b\n\n行人.jpg 1\n",
        "a b\r\n \r\n行人.jpg 1",
        "a b\r\r行人.jpg 1\r",
        "a b\n\r\n行人.jpg 1",
        "\ufeffa b \n\t\n  行人.jpg 1\n\n",
    ],
)
def test_lines_with_their_numbers(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content.encode())
    assert read_lines(path) == [(1, "a b"), (3, "行人.jpg 1")]


@pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b", "\x1c"])
def test_characters_within_a_name_end_no_line(tmp_path, separator):
    path = tmp_path / "a.txt"
    path.write_bytes(f"a{separator}b.jpg 1\n".encode())
    assert read_lines(path) == [(1, f"a{separator}b.jpg 1")]


@pytest.mark.parametrize("content", [b"", b"\n \r\n\t", b"\xef\xbb\xbf"])
def test_an_empty_list_is_told(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(FileContentError, match="a.txt is empty. Fetch it."):
        read_lines(path, "Fetch it.")


def test_other_bytes_are_told(tmp_path):
    path = tmp_path / "a.txt"
    for content, words in (
        ("名.jpg 1\n".encode("utf-16"), "found UTF-16"),
        ("a.jpg 1\n名.jpg 1\n".encode("gbk"), "line 2: expected text in UTF-8"),
        (b"a\0b 1\n", "found a NUL byte"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileContentError, match=words):
            read_lines(path)
    with pytest.raises(MissingFileError):
        read_lines(tmp_path / "absent.txt")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")), min_size=1))
def test_any_lines_come_back(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes("\n".join(lines).encode())
    expected = [(n, line.strip()) for n, line in enumerate(lines, 1)]
    if lines[0].startswith("\ufeff"):
        expected[0] = (1, lines[0][1:].strip())
    expected = [pair for pair in expected if pair[1]]
    if expected:
        assert read_lines(path) == expected
    else:
        with pytest.raises(FileContentError):
            read_lines(path)
