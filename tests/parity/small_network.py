"""Losses alone: a small network on given features, trained with a public script's losses."""

import numpy as np
import torch
from torch import nn

from .case import Case
from .numbers import uniform
from .side import STEPS, Side

CLASSES, IDENTITIES, IMAGES, SIZE, WIDTH = 7, 3, 4, 12, 16
ROWS = IDENTITIES * IMAGES  # of each modality


class SmallNetwork(nn.Module):
    """A layer, a batch norm whose bias is frozen, and a classifier."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(SIZE, WIDTH)
        self.bottleneck = nn.BatchNorm1d(WIDTH)
        self.bottleneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(WIDTH, CLASSES, bias=False)
        with torch.no_grad():
            for name, value in self.named_parameters():
                value.copy_(uniform(name, value.shape) * (0.3 if value.dim() == 2 else 0.1))
            self.bottleneck.weight.add_(1)
            self.bottleneck.bias.zero_()

    def forward(self, inputs):
        """Return features, features after batch norm, and logits of ``inputs`` (B, SIZE)."""
        features = torch.relu(self.layer(inputs))
        bn_features = self.bottleneck(features)
        return features, bn_features, self.classifier(bn_features)

    def tensors(self):
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: v for name, v in state.items() if not name.endswith("num_batches_tracked")}

    def optimizer(self):
        """Return the optimizer of the public scripts: a tenth of the rate below the neck."""
        parts = ((self.layer, 0.001), (self.bottleneck, 0.01), (self.classifier, 0.01))
        groups = [{"params": part.parameters(), "lr": rate} for part, rate in parts]
        return torch.optim.SGD(groups, weight_decay=5e-4, momentum=0.9, nesterov=True)


def batch_of(step):
    """Return the features of a step's visible rows, those of its infrared rows, and identities.

    Rows of an identity follow each other, as the public code needs it.
    """
    targets = torch.arange(IDENTITIES).repeat_interleave(IMAGES)
    centers = uniform(f"centers {step}", (IDENTITIES, SIZE)).repeat_interleave(IMAGES, dim=0)
    visible, infrared = (
        centers + 0.7 * uniform(f"{word} {step}", (ROWS, SIZE)) for word in ("visible", "infrared")
    )
    return visible, infrared, (targets + step) % CLASSES


class Losses(Case):
    """Losses of this package beside those of a public training script.

    A subclass names them in ``terms`` and calls the script in ``theirs``.
    """

    variants = ("losses",)

    def __init__(self, name, *, repository, commit, script):
        self.name, self.repository, self.commit, self.script = name, repository, commit, script

    def terms(self, features, bn_features, logits, labels):
        """Return the weighted loss terms.

        Args:
            features, bn_features, logits: what ``SmallNetwork`` returns.
            labels: ``targets``, ``modalities`` and ``index``, (B,) each.
        """
        raise NotImplementedError

    def ours(self, variant):
        network = SmallNetwork().train()
        optimizer = network.optimizer()

        def step(number):
            visible, infrared, targets = batch_of(number)
            # our losses do not depend on the order of rows: here another one in each step
            order = torch.from_numpy(np.random.RandomState(number).permutation(2 * ROWS))
            labels = {
                "targets": targets.repeat(2)[order],
                "modalities": torch.arange(2).repeat_interleave(ROWS)[order],
                "index": torch.arange(2 * ROWS)[order],
            }
            terms = self.terms(*network(torch.cat((visible, infrared))[order]), labels)
            total = sum(terms.values())
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            return {**{name: term.item() for name, term in terms.items()}, "total": total.item()}

        return Side(network.tensors, step)


def epoch_of(step):
    """Return epoch 0, whose rates ``SmallNetwork.optimizer`` has."""
    assert step < STEPS
    return 0
