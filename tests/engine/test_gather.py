"""The gradient of gathered rows. Oracle: a single process that has the whole batch.

One SGD step of each phase, in float64, with batch norm standing still.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.modeling.gather import gather_outputs

from tests.engine import gather_helper
from tests.engine.small import ROOT, small_cfg


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Weights of every case after the steps of two processes."""
    folder = tmp_path_factory.mktemp("gather")
    done = subprocess.run(
        [sys.executable, str(Path(gather_helper.__file__)), str(folder)],
        capture_output=True, text=True, timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "found.pt", weights_only=True)


def difference(found, expected, case):
    """Distance of the weights over the length of the update."""
    start = dict(gather_helper.build(case)[0].named_parameters())
    apart = sum((found[n] - w).square().sum() for n, w in expected.items()).sqrt()
    moved = sum((start[n].detach() - w).square().sum() for n, w in expected.items()).sqrt()
    assert moved > 1e-6
    return float(apart / moved)


@pytest.mark.parametrize("case", gather_helper.CASES)
def test_two_processes_step_as_one_with_the_whole_batch(found, case):
    expected = gather_helper.stepped(case, gather=False)
    assert difference(found[f"{case} True"], expected, case) < 1e-6
    if case in gather_helper.COMPARED:  # else the test would not tell
        assert difference(found[f"{case} False"], expected, case) > 1e-2


def test_the_key_reaches_the_model(datasets, tmp_path):
    for value in (True, False):
        cfg = small_cfg(tmp_path, MODEL__LOSSES__GATHER_FEATURES=value)
        assert VIReIDTrainer(cfg).model.gather_features is value


def test_a_model_that_cannot_gather_is_named(datasets, tmp_path):
    cfg = small_cfg(
        tmp_path, MODEL__LOSSES__GATHER_FEATURES=True, MODEL__META_ARCHITECTURE="Baseline",
        MODEL__BACKBONE__NAME="build_resnet_backbone", MODEL__HEADS__NAME="EmbeddingHead",
        MODEL__LOSSES__NAME="('CrossEntropyLoss',)",
    )  # fmt: skip
    with pytest.raises(ValueError, match="GATHER_FEATURES.*Baseline"):
        VIReIDTrainer(cfg)


@pytest.mark.parametrize("shape", [(), (0, 3), (5, 2)])
def test_an_output_that_has_no_row_for_each_image_is_named(shape):
    with pytest.raises(ValueError, match="'odd' of MyMethod.*expected 4 rows"):
        gather_outputs({"odd": torch.zeros(shape)}, 4, "MyMethod")


def test_one_process_has_all_rows_already():
    rows = torch.rand(4, 3)
    assert gather_outputs({"features": rows, "words": "x"}, 2, "M") == {
        "features": rows, "words": "x"
    }  # fmt: skip
