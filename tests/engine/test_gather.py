"""The gradient of gathered rows. Oracle: a single process that has the whole batch.

One SGD step of each phase, in float64, with batch norm standing still.
"""

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.modeling.gather import gather_outputs

from tests.engine import two_processes
from tests.engine.small import small_cfg


def difference(found, expected, case):
    """Distance of the weights over the length of the update."""
    start = dict(two_processes.build(case)[0].named_parameters())
    apart = sum((found[n] - w).square().sum() for n, w in expected.items()).sqrt()
    moved = sum((start[n].detach() - w).square().sum() for n, w in expected.items()).sqrt()
    assert moved > 1e-6
    return float(apart / moved)


@pytest.mark.slow
@pytest.mark.parametrize("case", two_processes.CASES)
def test_two_processes_step_as_one_with_the_whole_batch(of_two_processes, case):
    expected = two_processes.stepped(case, gather=False)
    assert difference(of_two_processes[f"{case} True"], expected, case) < 1e-6
    if case in two_processes.COMPARED:  # else the test would not tell
        assert difference(of_two_processes[f"{case} False"], expected, case) > 1e-2


def test_the_key_reaches_the_model(datasets, tmp_path):
    for value in (True, False):
        cfg = small_cfg(tmp_path, MODEL__LOSSES__GATHER_FEATURES=value)
        assert VIReIDTrainer(cfg).model.gather_features is value


def test_a_model_that_cannot_gather_is_named(datasets, tmp_path):
    cfg = small_cfg(
        tmp_path,
        MODEL__LOSSES__GATHER_FEATURES=True,
        MODEL__META_ARCHITECTURE="Baseline",
        MODEL__BACKBONE__NAME="build_resnet_backbone",
        MODEL__HEADS__NAME="EmbeddingHead",
        MODEL__LOSSES__NAME="('CrossEntropyLoss',)",
    )
    with pytest.raises(ValueError, match="GATHER_FEATURES.*Baseline"):
        VIReIDTrainer(cfg)


@pytest.mark.parametrize("shape", [(), (0, 3), (5, 2)])
def test_an_output_that_has_no_row_for_each_image_is_named(shape):
    with pytest.raises(ValueError, match="'odd' of MyMethod.*expected 4 rows"):
        gather_outputs({"odd": torch.zeros(shape)}, 4, "MyMethod")


def test_one_process_has_all_rows_already():
    rows = torch.rand(4, 3)
    assert gather_outputs({"features": rows, "words": "x"}, 2, "M") == {
        "features": rows,
        "words": "x",
    }
