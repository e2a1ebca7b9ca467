"""Set up every test: one thread, a fixed seed, own logs. Provide a tiny rendered dataset."""

import collections
import logging
import os
import random

import numpy as np
import pytest
import torch

from vireid_plugins.synthvi import render_dataset

from fastreid.utils.logger import setup_logger

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # in the processes that tests start


def pytest_collection_modifyitems(items):
    """Start with the files that have the most slow tests, so that all workers end together.

    ``make test`` gives a worker one file after another, in this order.
    """
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: the order within a file does not change


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Seed Python's, NumPy's and torch's global generators before each test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_logs():
    """Close logs after each test: FastReID opens a log only once per process."""
    yield
    setup_logger.cache_clear()
    for name in ("fastreid", "vireid_plugins"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """Return a folder of datasets: SYSU-MM01, RegDB and Market-1501, 8 + 4 identities each."""
    root = tmp_path_factory.mktemp("datasets")
    options = dict(ids=(8, 4), size=(48, 32), jobs=1, progress=False)
    render_dataset("sysu", root, "tiny", images_per_camera=1, **options)
    render_dataset("market", root, "tiny", images_per_camera=2, **options)
    render_dataset("regdb", root, "tiny", **options)
    return root


@pytest.fixture
def datasets(tiny_root, monkeypatch):
    """Let ``FASTREID_DATASETS`` name the folder of ``tiny_root``, and return it."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tiny_root))
    return tiny_root
