"""JSON is read or refused in a sentence. Oracle: ``json.loads``, and the values written."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireid_plugins.errors import FileContentError, MissingFileError
from vireid_plugins.readers.json_file import parse_json, read_json

VALUES = {"rank-1": 12.5, "names": ["行人", None, True], "group": {"a": 1}}
ANYTHING = (dict, list, str, int, float, bool, type(None))


def test_values_come_as_they_were_written(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(VALUES), encoding="utf-8")
    assert read_json(path) == VALUES
    path.write_text(json.dumps(VALUES, ensure_ascii=False), encoding="utf-8-sig")
    assert read_json(path) == VALUES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("not JSON", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1} {"a": 1}', "is not JSON"),
        ("[1, 2]", "expected a mapping of names to values, found a list of 2"),
        ("null", "found nothing (null)"),
        ('"word"', "found 'word'"),
        ('{"a": {"b": 1, "b": 2}}', "the name 'b' appears twice"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "found 1"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, text, words):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileContentError) as caught:
        read_json(path, remedy="Delete nothing.")
    told = str(caught.value)
    assert told.startswith(str(path))
    assert words in told or text.startswith("111")  # Python 3.11 reads no number of 5000 digits
    assert told.endswith("Delete nothing.")
    assert len(told) < 400


def test_other_bytes_and_absent_files_are_told(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps(VALUES).encode("utf-16"))
    with pytest.raises(FileContentError, match="found UTF-16"):
        read_json(path)
    with pytest.raises(MissingFileError):
        read_json(tmp_path / "absent.json")


def test_another_kind_may_be_asked_for():
    assert parse_json("[1]", "a", list) == [1]
    assert parse_json("[1]", "a", (dict, list)) == [1]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_text_gives_a_value_or_an_error(data):
    text = json.dumps(VALUES)
    cut = data.draw(st.integers(0, len(text)))
    inserted = data.draw(st.text(max_size=8) | st.sampled_from(["{", "]", '"', ",", "\\ud800"]))
    skipped = data.draw(st.integers(0, 5))
    damaged = text[:cut] + inserted + text[cut + skipped :]
    try:
        value = parse_json(damaged, "a.json", ANYTHING)
    except FileContentError as error:
        assert str(error).startswith("a.json")
    else:
        assert json.dumps(value) == json.dumps(json.loads(damaged))
