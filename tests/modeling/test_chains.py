"""Chains of modules. Oracle: a loop over the children, run on other images."""

import pytest
import torch
from torch import nn

from vireid_plugins.modeling.backbones.chains import Watched


def convolution():
    return nn.Conv2d(3, 3, 3, padding=1)


class Scale(nn.Module):
    def forward(self, x, by=1):
        return by * x


class Block(nn.Module):
    """Two layers, whose forward pass is the function that a test gives."""

    def __init__(self, run):
        super().__init__()
        self.second, self.first = convolution(), convolution()  # not the order of running
        self.act = nn.ReLU(inplace=True)
        self.idle = nn.Linear(2, 2)
        self.scale = Scale()
        self.run = run

    def forward(self, x):
        return self.run(self, x)


def in_place(self, x):
    y = self.first(x)
    y += x
    return self.second(y)


def last_in_place(self, x):
    y = self.second(self.first(x))
    return y.mul_(2)


CHAINS = {
    "plain": (lambda self, x: self.second(self.first(x)), ["first", "second"]),
    "ReLU in place": (lambda self, x: self.act(self.second(self.first(x))), None),
    "without a layer": (lambda self, x: self.second(x), ["second"]),
}
OTHERS = {
    "sum": lambda self, x: self.second(self.first(x)) + x,
    "sum before": lambda self, x: self.second(self.first(x) + x),
    "sum in place": in_place,
    "change of the result in place": last_in_place,
    "twice": lambda self, x: self.first(self.first(x)),
    "a keyword beside the map": lambda self, x: self.scale(self.first(x), by=2),
    "a keyword": lambda self, x: self.first(input=x),
    "two ways": lambda self, x: self.second(x) + 0 * self.first(x),
    "changed input": lambda self, x: self.second(self.first(2 * x)),
    "several results": lambda self, x: (self.second(self.first(x)),),
    "nothing": lambda self, x: x * 1,
}


def watch(block):
    network = nn.Sequential(convolution(), block)
    return Watched(network.eval(), network.forward, torch.rand(1, 3, 4, 5))


@pytest.mark.parametrize("run,names", CHAINS.values(), ids=CHAINS)
def test_the_children_of_a_chain_can_run_in_its_place(run, names):
    block = Block(run)
    parts = watch(block).parts(block)
    assert [name for name, _ in parts] == [
        f"1.{name}" for name in names or ["first", "second", "act"]
    ]
    images = torch.rand(2, 3, 8, 7)
    result = images
    for _, part in parts:
        result = part(result)
    assert torch.equal(result, block(images))


@pytest.mark.parametrize("run", OTHERS.values(), ids=OTHERS)
def test_a_module_that_does_more_is_no_chain(run):
    block = Block(run)
    assert watch(nn.Sequential(block)).parts(block) == []


def test_a_module_that_ran_twice_has_no_output_of_its_own():
    block = Block(OTHERS["twice"])
    assert watch(block).output(block.first) is None


def test_modules_are_left_as_they_were():
    block = Block(CHAINS["plain"][0])
    block.act.forward = own = lambda x: x  # some networks set it so
    watched = watch(block)
    assert block.act.__dict__["forward"] is own and "forward" not in block.first.__dict__
    assert torch.equal(watched.output(block), watched.output(block.second))
    assert watched.output(block.idle) is None and watched.parts(block.idle) == []


def test_modules_are_left_as_they_were_after_an_error():
    block = Block(lambda self, x: self.second(self.first(x)) @ x)
    with pytest.raises(RuntimeError):
        watch(block)
    assert not any("forward" in module.__dict__ for module in block.modules())
