"""Oracle: the generators' own states and repeated draws."""

import random

import numpy as np
import pytest
import torch

from vireid_plugins.data.seeding import generator, seeded, stream_seeds


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**63 + 5, 2**64 - 1])
def test_same_seed_same_draws_and_states_restored(seed):
    before = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected_next = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with seeded(seed):
        first = draw()
    with seeded(seed):
        assert draw() == first
    assert draw() == expected_next and before != first


def test_high_and_low_halves_of_the_seed_matter():
    draws = []
    for seed in (7, 7 + 2**32, 8):
        with seeded(seed):
            draws.append(draw())
    for drawn in zip(*draws):  # Python's, NumPy's, PyTorch's
        assert len(set(drawn)) == 3


def test_restored_after_an_error():
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with pytest.raises(KeyError), seeded(3):
        raise KeyError
    assert random.random() == expected


def test_keys_give_different_streams():
    seeds = [tuple(stream_seeds(4, *key)) for key in ((0, 0), (0, 1), (1, 0), (0, 0, 0, 1))]
    assert len(set(seeds)) == 4 and len(set(sum(seeds, ()))) == 16
    assert stream_seeds(4, 0, 1) == list(seeds[1])
    assert generator(2, 3).random() == generator(2, 3).random() != generator(3, 2).random()
