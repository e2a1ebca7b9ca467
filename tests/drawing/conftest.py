"""The same photographs as in tests/plots."""

from tests.plots.conftest import sysu  # noqa: F401  a fixture
