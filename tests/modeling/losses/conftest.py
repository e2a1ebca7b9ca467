"""Batches for the loss tests: random ones with ragged counts, in no order."""

from typing import Callable, Dict

import pytest
import torch
from torch import Tensor

from vireid_plugins import Modality

NUM_CLASSES = 6


@pytest.fixture
def make_batch() -> Callable[..., Dict[str, Tensor]]:
    """``make_batch(seed, **options)``: tensors by name, float64, rows in random order.

    Options: ``identities`` (at most 6), ``most`` rows per identity and modality (1..most are
    drawn), ``dim`` features, ``scale`` of the features, ``spread`` of the identities around
    which they lie (in noise of 1), ``ragged`` False for equal counts.
    """

    def make(
        seed: int,
        identities: int = 4,
        most: int = 4,
        dim: int = 5,
        scale: float = 1.0,
        spread: float = 1.0,
        ragged: bool = True,
    ) -> Dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        rows = []
        for target in torch.randperm(NUM_CLASSES, generator=generator)[:identities].tolist():
            for modality in Modality:
                drawn = int(torch.randint(1, most + 1, (1,), generator=generator))
                rows += [(target, int(modality))] * (drawn if ragged else most)
        order = torch.randperm(len(rows), generator=generator)
        targets, modalities = torch.tensor(rows)[order].unbind(dim=1)
        normal = {"generator": generator, "dtype": torch.float64}
        places = spread * torch.randn(NUM_CLASSES, dim, **normal)
        return {
            "features": scale * (places[targets] + torch.randn(len(rows), dim, **normal)),
            "logits": scale * torch.randn(len(rows), NUM_CLASSES, **normal),
            "original_map": scale * torch.randn(len(rows), 2, 3, 2, **normal),
            "masked_map": scale * torch.randn(len(rows), 2, 3, 2, **normal),
            "targets": targets,
            "modalities": modalities,
            "index": torch.randperm(len(rows), generator=generator),
            "stripe_features": scale * torch.randn(len(rows), 2, 3, **normal),
            "camids": torch.randint(1, 4, (len(rows),), generator=generator),
        }

    return make
