"""One process under torchrun: NCCL on a GPU, gloo on the CPU. Oracle: the step without a group."""

import os
import subprocess
import sys

import pytest

from tests.engine.small import ROOT

pytestmark = pytest.mark.gpu


def test_a_group_of_one_process_takes_the_plain_step(device):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [*words, str(ROOT / "tests/gpu/one_process.py"), device],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    backend, total, difference = done.stdout.splitlines()[-1].split()
    assert backend == ("gloo" if device == "cpu" else "nccl")
    assert float(total) == 6.0 and float(difference) < 1e-9
