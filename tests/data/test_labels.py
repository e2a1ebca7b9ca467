"""Oracle: orders written by hand."""

import pytest

from vireid_plugins.data.labels import first_few, label_of, number_labels, sorted_labels
from vireid_plugins.errors import UserError


def test_digits_are_ordered_by_value():
    assert sorted_labels(["c10", "c2", "c1", "c2"]) == ["c1", "c2", "c10"]
    assert sorted_labels([10, 9, 2, -1]) == [-1, 2, 9, 10]
    assert sorted_labels(["m_2", 11, "m_10", 3]) == [3, 11, "m_2", "m_10"]


def test_integers_keep_their_number():
    assert number_labels([6, 3, 6]) == {3: 3, 6: 6}
    assert number_labels(["c10", "c2"]) == {"c2": 0, "c10": 1}
    assert number_labels([4, "c10", "c2"]) == {4: 4, "c2": 5, "c10": 6}


def test_of_many_labels_a_message_shows_the_first():
    assert first_few([3, 1, "c2"]) == "3, 1, c2" and first_few([]) == ""
    assert first_few(range(7)) == "0, 1, 2, 3, 4, ... (7 in all)"
    assert first_few("abc", most=2) == "a, b, ... (3 in all)"


@pytest.mark.parametrize(
    "word, label",
    [("7", 7), ("007", 7), ("+7", 7), ("-1", -1), ("7.0", 7), ("7.", 7), ("７", 7), (" 7\u3000", 7)]
    + [("\u200b7", 7), ("20240115103000000001", 20240115103000000001), ("7.5", "7.5"), ("c7", "c7")]
    + [("Anna ", "Anna"), ("Ａnna", "Anna"), ("e\u0301", "\u00e9"), ("1 7", "1 7"), ("-", "-")],
)
def test_a_word_of_a_list_is_a_number_or_a_name(word, label):
    assert label_of(word) == label and type(label_of(word)) is type(label)


@pytest.mark.parametrize(
    "word",
    ["", " ", "\u200b", "nan", "NaN", "None", "null", "#N/A", "1e5", "2.02401E+19", "7" * 201],
)
def test_a_word_without_a_value_is_refused(word):
    with pytest.raises(UserError):
        label_of(word)


def test_integers_that_no_array_holds_are_numbered_like_words():
    long = 20240115103000000001
    assert number_labels([long, 4, "c2", long + 1]) == {4: 4, long: 5, long + 1: 6, "c2": 7}
    most = 2**63 - 1
    assert number_labels([most, "c2"]) == {most: 0, "c2": 1}
    assert number_labels([-5, "c2"]) == {-5: -5, "c2": 0}
