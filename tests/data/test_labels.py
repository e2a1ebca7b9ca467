"""Oracle: orders written by hand."""

from vireid_plugins.data.labels import first_few, number_labels, sorted_labels


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
