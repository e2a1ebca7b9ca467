"""Make random draws that depend on (seed, epoch, rank, position) and on nothing else."""

import contextlib
import random
from typing import Iterator, List

import numpy as np
import torch


def generator(*key: int) -> np.random.Generator:
    """Return a NumPy generator that is a function of the non-negative integers in ``key``."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def stream_seeds(count: int, *key: int) -> List[int]:
    """Return ``count`` seeds of 64 bits, a function of the non-negative integers in ``key``."""
    return np.random.SeedSequence(key).generate_state(count, np.uint64).tolist()


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's CPU generators, and restore their states afterwards.

    Generators of accelerators are neither seeded nor read: ``torch.manual_seed`` would change
    those of the training process.

    Args:
        seed: 0 .. 2**64 - 1.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    # PyTorch's CPU generator uses 32 bits only
    torch.default_generator.manual_seed((seed ^ (seed >> 32)) & 0xFFFFFFFF)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
