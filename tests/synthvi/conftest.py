"""One small dataset of each layout, rendered once for all tests."""

import pytest

from vireid_plugins.synthvi import render_dataset

from tests.synthvi.small import ALL_LAYOUTS, SMALL


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """Return the folder of each layout's dataset, with four identities; no test changes it."""
    out = tmp_path_factory.mktemp("synthvi")
    return {layout: render_dataset(layout, out, jobs=1, **SMALL) for layout in ALL_LAYOUTS}
