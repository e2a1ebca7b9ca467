"""What holds for every test: one thread and a fixed seed, so that results repeat."""

import os
import random

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # in the processes that tests start


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Seed Python's, NumPy's and torch's global generators before each test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
