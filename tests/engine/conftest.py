"""A tiny rendered dataset, once per session."""

import pytest

from vireid_plugins.data.synthetic import render_dataset


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """Folder for ``FASTREID_DATASETS``: SYSU-MM01, RegDB and Market-1501, 8 + 4 identities."""
    root = tmp_path_factory.mktemp("datasets")
    for layout in ("sysu", "regdb", "market"):
        render_dataset(layout, root, "tiny", ids=(8, 4), size=(48, 32), jobs=1, progress=False)
    return root


@pytest.fixture
def datasets(tiny_root, monkeypatch):
    """The same folder, where the loaders look."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tiny_root))
    return tiny_root
