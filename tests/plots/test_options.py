"""Options of a picture. Oracle: what a plain dataclass with the same fields holds."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Tuple

import numpy as np
import pytest

from vireid_plugins.errors import PlotError
from vireid_plugins.plots import all_kinds, draw_kind, kinds, option
from vireid_plugins.plots.options import make_options, options_of

from tests.plots.planted import planted_subject


@dataclass(frozen=True)
class Chosen:
    """One option of each type."""

    count: int = option(3, "how many", metavar="N")
    share: float = option(0.5, "how much")
    method: str = option("fast", "how", choices=("fast", "slow"))
    image_names: Tuple[str, ...] = option((), "which")
    weights: Tuple[float, ...] = option((1.0,), "by what", repeated=True)


def test_defaults_and_given_values_in_the_type_that_is_declared():
    assert make_options("x", Chosen, {}) == Chosen()
    given = {"count": np.int64(7), "share": 1, "method": "slow", "image_names": [Path("a"), "b"]}
    found = make_options("x", Chosen, {**given, "weights": (2, 3)})
    assert found == Chosen(7, 1.0, "slow", ("a", "b"), (2.0, 3.0))
    assert (type(found.count), type(found.share)) == (int, float)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cuont": 1}, "x has no option 'cuont'. Did you mean 'count'"),
        ({"count": "7"}, "--count is '7'; expected a whole number"),
        ({"count": 1.5}, "--count is 1.5; expected a whole number"),
        ({"count": True}, "--count is True; expected a whole number"),
        ({"share": "1"}, "--share is '1'; expected a number"),
        ({"method": "fsat"}, "--method is 'fsat'. Did you mean 'fast'"),
        ({"image_names": "a"}, r"--image-names is 'a'; expected a list: \['a'\]"),
        ({"image_names": [3]}, "--image-names is 3; expected a string"),
    ],
)
def test_wrong_values_are_named(given, message):
    with pytest.raises(PlotError, match=message):
        make_options("x", Chosen, given)


def test_a_declaration_says_all_that_a_command_line_needs():
    count, *_, names, weights = options_of(Chosen)
    assert (count.word, count.type, count.default, count.help) == ("--count", int, 3, "how many")
    assert names.word == "--image-names" and names.several and not names.repeated
    assert weights.several and weights.repeated and weights.type is float


def test_a_field_that_is_no_option_is_a_fault_of_the_program():
    @dataclass(frozen=True)
    class Plain:
        number: int = field(default=1)

    with pytest.raises(TypeError, match="Plain.number is not an option"):
        options_of(Plain)


def test_every_kind_declares_options_with_help():
    for name, kind in all_kinds().items():
        assert make_options(name, kind.Options, {}) == kind.Options()
        assert all(one.help for one in options_of(kind.Options))


def test_what_is_drawn_is_checked_before_it_is_drawn(tmp_path):
    with pytest.raises(PlotError, match="tsne has no option 'sed'. Did you mean 'seed'"):
        draw_kind("tsne", planted_subject(), str(tmp_path), sed=1)
    with pytest.raises(PlotError, match=r"tsne draws a model; got the path 'a.pth'.*load_subject"):
        draw_kind("tsne", "a.pth", str(tmp_path))
    for subjects in ([], planted_subject()):
        with pytest.raises(PlotError, match="curves draws runs: give folders"):
            draw_kind("curves", subjects, str(tmp_path))
    with pytest.raises(PlotError, match="no kind of picture called 'tsn'. Did you mean 'tsne'"):
        draw_kind("tsn", planted_subject(), str(tmp_path))


def test_a_kind_costs_one_file_and_no_list(tmp_path, monkeypatch):
    """A file in a folder of the package is found by being there."""
    (tmp_path / "kinds_of_mine.py").write_text(
        "from vireid_plugins.plots import Drawn, Kind, register_kind\n"
        "@register_kind('mine', help='mine')\n"
        "class Mine(Kind):\n"
        "    def draw(self, subjects, options, folder):\n"
        "        return Drawn([], [subjects[0].label])\n"
    )
    package = sys.modules["vireid_plugins.plots"]
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    try:
        assert draw_kind("mine", planted_subject("me"), str(tmp_path)).notes == ["me"]
    finally:
        kinds.KINDS.pop("mine", None)
        sys.modules.pop("vireid_plugins.plots.kinds_of_mine", None)
