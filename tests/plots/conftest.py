"""Figures as they are drawn, and a test set of photographs."""

import pytest
from matplotlib.figure import Figure

from tests.plots.photographs import photographed


@pytest.fixture(scope="session")
def sysu(tmp_path_factory):
    """Six identities in cameras 3 and 6 (query) and 1, 2, 4, 5 (gallery), one image each."""
    return photographed(tmp_path_factory.mktemp("images"))


@pytest.fixture
def figures(monkeypatch):
    """Figures as they are saved, each once; a PDF is not rendered, which takes long."""
    found, savefig = [], Figure.savefig

    def keep(figure, file, format=None, **kwargs):
        if figure not in found:
            found.append(figure)
        if format == "pdf":
            file.write(b"%PDF")
        else:
            savefig(figure, file, format=format, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found
