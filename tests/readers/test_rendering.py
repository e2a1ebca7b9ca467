"""What a marker says about rendered images. Oracle: markers written by hand."""

import json

import pytest

from vireid_plugins.readers.rendering import MARKER, rendering, setting_words

NEW = {"train": 2, "infrared": {"dense": 0.25, "clear": 0.75, "free": 0.0}}


def test_a_marker_is_read(tmp_path):
    (tmp_path / MARKER).write_text(json.dumps({"parameters": NEW, "finished": True}))
    assert rendering(tmp_path) == NEW


def test_a_marker_from_before_the_dyes_is_read_as_free(tmp_path):
    (tmp_path / MARKER).write_text(json.dumps({"parameters": {"train": 2, "version": 2}}))
    assert rendering(tmp_path) == {
        "train": 2,
        "version": 3,
        "infrared": {"dense": 0, "clear": 0, "free": 1},
    }


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"parameters": 3}', "{"])
def test_what_is_no_marker_says_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / MARKER).write_text(content)
    assert rendering(tmp_path) == {}


@pytest.mark.parametrize(
    "value, words",
    [
        (NEW["infrared"], "0.25 dense + 0.75 clear"),
        ({"dense": 0.0, "clear": 0.0, "free": 1.0}, "1 free"),
        ({"dense": "much"}, "dense much"),
        (0.1, "0.1"),
        ([96, 48], "[96, 48]"),
    ],
)
def test_settings_in_words(value, words):
    assert setting_words(value) == words
