"""Gathered rows: the key, and what cannot be gathered; their gradient: ``test_two_processes``."""

import pytest
import torch

from vireid_plugins.engine import VIReIDTrainer
from vireid_plugins.modeling.gather import gather_outputs

from tests.engine.small import small_cfg


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
