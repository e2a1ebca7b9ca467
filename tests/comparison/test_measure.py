"""Costs. Oracle: hand arithmetic on layers of a line, and on what the system writes."""

import sys

import pytest
import torch
from torch import nn

from vireid_plugins.comparison import measure


class Small(nn.Module):
    """A convolution, mean over pixels, a linear layer; infrared rows pass the latter twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.linear = nn.Linear(4, 4)

    def forward(self, batch):
        assert not self.training and batch["images"].max() > 1
        features = self.linear(self.conv(batch["images"]).mean((2, 3)))
        infrared = batch["modalities"] == 1
        return torch.cat([features[~infrared], self.linear(features[infrared])])


@pytest.mark.skipif(measure.FlopCounterMode is None, reason="PyTorch before 2.1 cannot count")
def test_flops_are_two_per_multiply_add():
    """8 x 6 pixels, 3 x 3 without padding: 6 x 4 places, each 4 outputs of 27 products; the
    linear layer's 4 x 4, for one image once and for the other twice, on average 1.5 times."""
    model = Small().train()
    assert measure.flops_per_image(model, (8, 6)) == 2 * (6 * 4 * 4 * 27) + 1.5 * 2 * 16
    assert model.training and model.linear.training


def test_flops_are_unknown_where_pytorch_cannot_count(monkeypatch):
    monkeypatch.setattr(measure, "FlopCounterMode", None)
    assert measure.flops_per_image(Small(), (8, 6)) is None


def test_parameters_all_and_trainable():
    """4 * 3 * 9 = 108 of the convolution; 4 * 4 + 4 = 20 of the linear layer."""
    model = Small()
    model.linear.bias.requires_grad_(False)
    assert measure.count_parameters(model) == (128, 124)


def test_peak_memory_of_this_program_alone(tmp_path, monkeypatch):
    """3072 kB as Linux writes it, where kB means 1024 bytes: 3 MiB."""
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t   9216 kB\nVmHWM:\t    3072 kB\n")
    monkeypatch.setattr(measure, "_STATUS", status)
    assert measure.peak_memory(torch.device("cpu")) == 3.0


def test_both_measures_of_peak_memory_have_the_same_unit():
    """They may differ by what started this process, but not 1024 times."""
    own, reported = measure._own_peak(), measure._reported_peak()
    if own is None or reported is None:
        pytest.skip("this system tells only one")
    assert 0.5 < reported / own < 50 and own > 50  # PyTorch alone takes more than 50 MiB


def test_peak_memory_is_unknown_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(measure, "_own_peak", lambda: None)
    assert measure.peak_memory(torch.device("cpu")) is None
