"""What holds for every test: one thread, a fixed seed, own logs; and a tiny rendered dataset."""

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
    """Start with the files of the most slow tests, so that several workers end at one time.

    ``make test`` gives a worker one file after another, in this order.
    """
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: within a file nothing moves


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Seed Python's, NumPy's and torch's global generators before each test."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_logs():
    """FastReID opens its log once per process; a test must not write to an earlier one's."""
    yield
    setup_logger.cache_clear()
    for name in ("fastreid", "vireid_plugins"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """Folder for ``FASTREID_DATASETS``: SYSU-MM01, RegDB and Market-1501, 8 + 4 identities."""
    root = tmp_path_factory.mktemp("datasets")
    options = dict(ids=(8, 4), size=(48, 32), jobs=1, progress=False)
    render_dataset("sysu", root, "tiny", images_per_camera=1, **options)
    render_dataset("market", root, "tiny", images_per_camera=2, **options)
    render_dataset("regdb", root, "tiny", **options)
    return root


@pytest.fixture
def datasets(tiny_root, monkeypatch):
    """The same folder, where the loaders look."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tiny_root))
    return tiny_root
