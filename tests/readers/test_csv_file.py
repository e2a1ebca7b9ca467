"""Rows of CSV files. Oracle: the cells that ``csv.writer`` or the test wrote."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import FileContentError, MissingFileError
from vireid_plugins.readers.csv_file import Row, read_csv, read_table

COLUMNS = ("path", "pid")


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("path,pid\na,1\nb,2\n", [(2, "a", "1"), (3, "b", "2")]),
        ("path,pid\r\na,1\r\n\r\nb,2", [(2, "a", "1"), (4, "b", "2")]),
        ("path,pid\ra,1\rb,2\r", [(2, "a", "1"), (3, "b", "2")]),
        ("path,pid\na,1\r\nb,2\rc,3\n", [(2, "a", "1"), (3, "b", "2"), (4, "c", "3")]),
        ("\ufeffpid , path\n 1 , 行人.jpg \n", [(2, "行人.jpg", "1")]),
        ('pid,note,path\n1,"x, y","a,b"\n,,\n2,,c\n', [(2, "a,b", "1"), (4, "c", "2")]),
        ('path,pid\n"a\nb",1\nc,2\n', [(2, "a\nb", "1"), (4, "c", "2")]),
        ('path,pid\n"a ""b""",1\n', [(2, 'a "b"', "1")]),
        ("path,pid,\na,1,\nb,2,,,\n", [(2, "a", "1"), (3, "b", "2")]),
        ("path,pid\n", []),
    ],
)
def test_cells_come_as_they_were_written(tmp_path, text, rows):
    expected = [Row(line, {"path": path, "pid": pid}) for line, path, pid in rows]
    assert read_csv(write(tmp_path, text), COLUMNS) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: lacks the column(s) path, pid; the header must be path,pid; got ''"),
        ("path,id\na,1\n", "line 1: lacks the column(s) pid"),
        ("path;pid\na;1\n", "Separate the columns by commas instead of ';'"),
        ("path\tpid\na\t1\n", "by commas instead of"),
        ("path,pid,pid\na,1,2\n", "line 1: the column pid appears twice"),
        ("path,pid\na,1\nb\n", "line 3: no value for pid"),
        ("path,pid\na,1\n , 2\n", "line 3: no value for path"),
        ("path,pid\na,b.jpg,1\n", "line 2: 3 cells; the header has 2"),
        ('path,pid\na,1\n"b,2\nc,3\n', "line 3: not a row of a CSV file"),
        ('path,pid\n"a"b,1\n', "line 2: not a row of a CSV file"),
        ("path,pid\n" + "x" * 200_000 + ",1\n", "line 2: not a row of a CSV file"),
        ("path,pid\n\0,1\n", "found a NUL byte"),
        ("x" * 500 + "\n", "lacks the column(s)"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(FileContentError) as caught:
        read_csv(path, COLUMNS)
    told = str(caught.value)
    assert told.startswith(str(path))
    assert words in told
    assert len(told) < 400


def test_other_bytes_are_told(tmp_path):
    with pytest.raises(FileContentError, match="found UTF-16"):
        read_csv(write(tmp_path, "path,pid\n名,1\n", "utf-16"), COLUMNS)
    with pytest.raises(FileContentError, match="line 2: expected text in UTF-8"):
        read_csv(write(tmp_path, "path,pid\n名,1\n", "gbk"), COLUMNS)
    with pytest.raises(MissingFileError):
        read_csv(tmp_path / "absent.csv", COLUMNS)


def test_a_table_without_a_header(tmp_path):
    path = write(tmp_path, 'a,"b,c",1\n\nd,e,2\n')
    assert read_table(path, 3) == [(1, ["a", "b,c", "1"]), (3, ["d", "e", "2"])]
    with pytest.raises(FileContentError, match="line 1: expected 2 cells, found 3. Make it again."):
        read_table(path, 2, "Make it again.")


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(CELL, CELL), max_size=4))
def test_what_the_library_writes_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([COLUMNS, *rows])
    path.write_bytes(text.getvalue().encode())
    kept = [(a.strip(), b.strip()) for a, b in rows if a.strip() or b.strip()]
    if all(a and b for a, b in kept):
        assert [tuple(row.cells.values()) for row in read_csv(path, COLUMNS)] == kept
    else:
        with pytest.raises(FileContentError, match="no value for"):
            read_csv(path, COLUMNS)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 5))
def test_damaged_bytes_give_rows_or_an_error(tmp_path_factory, inserted, place, skipped):
    content = 'path,pid\n"行,人",1\r\nb,"2"\n'.encode()
    path = tmp_path_factory.getbasetemp() / "damaged.csv"
    path.write_bytes(content[:place] + inserted + content[place + skipped :])
    try:
        rows = read_csv(path, COLUMNS)
    except FileContentError as error:
        assert str(error).startswith(str(path))
    else:
        assert all(set(row.cells) == set(COLUMNS) and all(row.cells.values()) for row in rows)
