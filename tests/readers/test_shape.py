"""Types of what a file holds. Oracle: the table of values below."""

import pytest

from vireid_plugins.errors import FileContentError
from vireid_plugins.readers.shape import expect, field, optional_field


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, int),
        (-5, int),
        (1.5, float),
        (True, bool),
        ("a", str),
        ([], list),
        ({}, dict),
        (None, (str, type(None))),
        ("a", (str, type(None))),
    ],
)
def test_right_kinds_come_back(value, kind):
    assert expect(value, kind, "here") is value


def test_a_whole_number_becomes_a_number():
    found = expect(3, float, "here")
    assert found == 3.0
    assert type(found) is float


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        (True, int, "expected a whole number, found True"),
        (1.0, int, "expected a whole number, found 1.0"),
        ("1", float, "expected a number, found '1'"),
        (float("nan"), float, "expected a number, found nan"),
        (10**400, float, "expected a number, found 1000"),
        (1, bool, "expected true or false, found 1"),
        (None, dict, "expected a mapping of names to values, found nothing (null)"),
        ({"a": 1}, (str, list), "expected text or a list, found a mapping"),
        ("x" * 1000, list, "found 'xxx"),
    ],
)
def test_wrong_kinds_are_told(value, kind, words):
    with pytest.raises(FileContentError) as caught:
        expect(value, kind, "a.json: b", "Fix it.")
    told = str(caught.value)
    assert told.startswith("a.json: b: expected")
    assert words in told
    assert told.endswith("Fix it.")
    assert len(told) < 250


def test_a_field_is_there_and_of_its_kind():
    assert field({"a": 1}, "a", int, "f") == 1
    assert optional_field({"a": 1}, "b", int, "f", 7) == 7
    with pytest.raises(FileContentError, match="f: 'b' is missing"):
        field({"a": 1}, "b", int, "f")
    with pytest.raises(FileContentError, match="f: a: expected text"):
        field({"a": 1}, "a", str, "f")
    with pytest.raises(FileContentError, match="f: expected a mapping"):
        field([1], "a", str, "f")
    with pytest.raises(FileContentError, match="f: a: expected text"):
        optional_field({"a": None}, "a", str, "f", "")
