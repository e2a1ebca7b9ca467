"""Recording intermediate maps. Oracle: the same modules called by hand."""

import pytest
import torch
from torch import nn

from vireid_plugins.modeling import map_names, recorded_maps
from vireid_plugins.modeling.maps import Tap


class Doubling(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Tap("first", "input"), Tap("second", "twice the input")
        self.computed = 0

    def forward(self, x):
        x = 2 * self.first(x)
        if self.second.wanted:
            self.computed += 1
            self.second(x)
        return x


def test_names_come_with_their_meaning_and_cost_no_weights():
    model = Doubling()
    assert map_names(model) == {"first": "input", "second": "twice the input"}
    assert not model.state_dict()


def test_maps_are_recorded_only_inside_and_only_when_wanted():
    model, x = Doubling(), torch.arange(3.0)
    with recorded_maps(model, "second") as maps:
        model(x)
    assert list(maps) == ["second"] and torch.equal(maps["second"], 2 * x)
    model(x + 1)
    assert torch.equal(maps["second"], 2 * x) and model.computed == 1
    with recorded_maps(model) as maps:
        model(x)
        model(x + 1)  # the last pass stays
    assert torch.equal(maps["first"], x + 1) and set(maps) == {"first", "second"}


def test_maps_keep_their_graph():
    x = torch.ones(2, requires_grad=True)
    model = Doubling()
    with recorded_maps(model) as maps:
        model(x)
    (gradient,) = torch.autograd.grad(maps["second"].sum(), x)
    assert gradient.tolist() == [2.0, 2.0]


def test_hooks_are_removed_after_an_error():
    model = Doubling()
    with pytest.raises(RuntimeError), recorded_maps(model):
        raise RuntimeError
    assert not model.first.wanted


def test_an_unknown_map_gets_the_nearest_name():
    with pytest.raises(KeyError, match="no intermediate map 'secnd'.*'second'"):
        with recorded_maps(Doubling(), ["secnd"]):
            pass


def test_two_maps_of_one_name_are_a_mistake_of_the_model():
    model = nn.Sequential(Doubling(), Doubling())
    with pytest.raises(ValueError, match="two maps named 'first'"):
        map_names(model)
