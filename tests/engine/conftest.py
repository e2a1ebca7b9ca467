"""What several tests of the engine share."""

import os
import subprocess
import sys

import pytest
import torch

from tests.engine.small import ROOT


@pytest.fixture(scope="session")
def of_two_processes(tmp_path_factory):
    """What ``two_processes.py`` computes, started once."""
    folder = tmp_path_factory.mktemp("two_processes")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/engine/two_processes.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "found.pt", weights_only=True)
