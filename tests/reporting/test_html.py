"""Markup by construction. Oracle: what HTML's rules say."""

import pytest

from vireid_plugins.reporting.html import Markup, breakable, join, tag, text

HOSTILE = "</script><script>alert(1)</script>&\"'\x00\ud800"


def test_text_is_escaped_once_and_markup_never():
    assert text("a<b>&c") == "a&lt;b&gt;&amp;c"
    assert text(text("<")) == "&lt;"
    assert tag("p", Markup("<b>x</b>"), "<i>") == "<p><b>x</b>&lt;i&gt;</p>"


def test_hostile_text_is_escaped():
    """In an element and in an attribute, and what no page can hold is replaced."""
    made = tag("a", HOSTILE, href=HOSTILE, data_name=HOSTILE)
    assert made.count("<") == 2 and made.count('"') == 4
    assert "\x00" not in made and made.count("\ufffd") == 6
    made.encode("utf-8")


@pytest.mark.parametrize(
    "attributes,expected",
    [
        ({"class_": "a", "aria_label": "b"}, '<p class="a" aria-label="b"></p>'),
        ({"hidden": True, "id": None, "open": False}, "<p hidden></p>"),
    ],
)
def test_attributes(attributes, expected):
    assert tag("p", **attributes) == expected


def test_parts_are_joined_and_lines_may_break():
    assert join(["a", None, tag("br"), "<"], between="&") == "a&amp;<br>&amp;&lt;"
    assert breakable("a_b/c<", "_/") == "a_<wbr>b/<wbr>c&lt;"
