"""Stand-ins for the parts of a model whose values a test works out by hand, and key points."""

import torch
from torch import nn

from vireid_plugins import Modality
from vireid_plugins.keypoints import standing_person

CHANNELS = 6


class Backbone(nn.Module):
    """One convolution per modality, so that the two streams differ; maps (B, 6, H, W)."""

    takes_modalities = True
    feat_dim = CHANNELS

    def __init__(self):
        super().__init__()
        self.streams = nn.ModuleList(nn.Conv2d(3, CHANNELS, 3, padding=1) for _ in Modality)

    def forward(self, images, modalities):
        maps = [self.streams[int(m)](x[None]) for x, m in zip(images, modalities)]
        return torch.cat(maps).relu()


def stand_still(model):
    """In training, but for batch norm, whose statistics stand still: rows do not mix."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def some_points(count, size):
    """Key points (count, 17, 3) of persons who stand apart in images of ``size``."""
    generator = torch.Generator().manual_seed(2)
    shares = torch.rand(count, 1, 3, generator=generator) * torch.tensor([0.4, 0.4, 0.8])
    points = standing_person(count, tuple(size))
    middle = torch.tensor([size[1] / 2, size[0] / 2, 0.0])
    return points * (1 - shares) + middle * shares
