"""A tiny rendered dataset for runs of seconds; logs that do not outlive a test."""

import logging

import pytest

from vireid_plugins.data.synthetic import render_dataset

from fastreid.utils.logger import setup_logger


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """Folder for ``FASTREID_DATASETS``: SYSU-MM01, 8 + 4 identities."""
    root = tmp_path_factory.mktemp("datasets")
    options = dict(ids=(8, 4), size=(48, 32), jobs=1, progress=False)
    render_dataset("sysu", root, "tiny", images_per_camera=1, **options)
    return root


@pytest.fixture
def datasets(tiny_root, monkeypatch):
    """The same folder, where the loaders look."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tiny_root))
    return tiny_root


@pytest.fixture(autouse=True)
def fresh_logs():
    """FastReID opens its log once per process; a test must not write to an earlier one's."""
    yield
    setup_logger.cache_clear()
    for name in ("fastreid", "vireid_plugins"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
