"""What two processes compute together, against one process; they are started once for all.

Gathered rows: one SGD step of each phase, in float64, with batch norm standing still; the oracle is
a single process that has the whole batch. Accumulation: one step on the joined batch.
"""

import os
import subprocess
import sys

import pytest
import torch

from tests.engine import two_processes
from tests.engine.small import ROOT
from tests.engine.test_accumulation import assert_equal
from tests.engine.two_processes import accumulated, images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
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


def difference(found, expected, case):
    """Distance of the weights over the length of the update."""
    start = dict(two_processes.build(case)[0].named_parameters())
    apart = sum((found[n] - w).square().sum() for n, w in expected.items()).sqrt()
    moved = sum((start[n].detach() - w).square().sum() for n, w in expected.items()).sqrt()
    assert moved > 1e-6
    return float(apart / moved)


@pytest.mark.parametrize("case", two_processes.CASES)
def test_two_processes_step_as_one_with_the_whole_batch(of_two_processes, case):
    expected, buffers = two_processes.stepped(case, gather=False)
    assert difference(of_two_processes[f"{case} True"], expected, case) < 1e-6
    if case in two_processes.WITH_STATE:
        assert of_two_processes[f"{case} True apart"] == []
        found = of_two_processes[f"{case} True buffers"]
        assert found.keys() == buffers.keys()
        for name, value in buffers.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)
    if case in ("agw", "losses"):  # else the test would not tell
        assert difference(of_two_processes[f"{case} False"], expected, case) > 1e-2


@pytest.mark.parametrize("case", ["rbnet", "mmt_rbnet"])
def test_running_means_are_the_same_in_all_processes_without_the_gathering(of_two_processes, case):
    """lambda_3 weighs a term, so a run could not be resumed exactly if processes had others."""
    assert of_two_processes[f"{case} False apart"] == []
    found = of_two_processes[f"{case} False buffers"]
    means = [value for name, value in found.items() if name.endswith("keypoint_loss.sizes")]
    assert means and all(bool((value > 0).all()) for value in means)


def test_processes_exchange_gradients_once_for_each_update(of_two_processes):
    """Two processes, four batches of 2 each, by twos: an update is of the eight images of both."""
    mine, other = images(16).chunk(2)
    wholes = [torch.cat(pair) for pair in zip(mine.chunk(2), other.chunk(2))]
    assert_equal(of_two_processes["accumulated"], accumulated(wholes, 1))
    assert of_two_processes["exchanges"] == 2


def test_two_processes_take_turns_as_one(of_two_processes):
    """Each turn exchanges the gradients of its own parameters; the others have none."""
    assert_equal(of_two_processes["turned"], two_processes.turned())


def test_features_of_an_uneven_share_come_in_the_order_of_the_test_list(of_two_processes):
    """Five images: process 0 has three of them, process 1 two."""
    found = of_two_processes["test features"]
    assert found["index"].tolist() == [0, 1, 2, 3, 4]
    assert found["features"].tolist() == [[0.0], [1.0], [2.0], [3.0], [4.0]]
    assert found["targets"].tolist() == [10, 11, 12, 13, 14]


def test_batch_norm_that_cannot_be_synchronized_is_named(of_two_processes):
    """PyTorch synchronizes on GPUs only; each release says so in its own words."""
    assert "MODEL.BACKBONE.NORM syncBN" in of_two_processes["synchronized"]
    assert "set it to BN" in of_two_processes["synchronized"]
