"""The steps that ``vireid bench training`` compares. Oracle: each other, on the same batches."""

import numpy as np
import pytest
import torch

from vireid_plugins.benchmarks import training
from vireid_plugins.benchmarks.rates import HALF_PRODUCT, JPEG, PRODUCT
from vireid_plugins.synthvi import render_dataset

_SMALL = ["MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.NL_BLOCKS", "[0, 0, 0, 0]"]


@pytest.mark.slow
def test_the_usual_loop_takes_the_same_steps_with_the_same_work(monkeypatch, tmp_path):
    """Equal losses, and equal multiply-adds, which the dropped step counts."""
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    words = dict.fromkeys(("usual", "float32"), training.GIVE + _SMALL)
    for name, given in words.items():
        monkeypatch.setitem(training.VARIANTS, name, training.Variant(name == "usual", given))
    render_dataset(
        "sysu", tmp_path, "tiny", ids=(8, 4), size=(48, 32), images_per_camera=2, progress=False
    )
    load = training.Workload(16, 1, 1, torch.get_num_threads(), 0, "cpu", str(tmp_path))
    found = [training.run_variant(name, "128x64", **load._asdict()) for name in words]
    np.testing.assert_allclose(found[0]["losses"][0], found[1]["losses"][0], rtol=1e-5)
    assert found[0]["multiply-adds"] == found[1]["multiply-adds"]
    assert [len(one["seconds"]) for one in found] == [1, 1]


def test_the_usual_loop_also_decodes_and_other_threads_state_nothing():
    row = {"seconds": [2.0], "multiply-adds": 5.0}
    names = ("usual", "usual, one thread", "float32", "bfloat16, NHWC")
    measures = training.measures_of(dict.fromkeys(names, row), 16, "seconds")
    assert {one.name: one.work for one in measures} == {
        "usual": {PRODUCT: 5.0, JPEG: 16 * 256 * 128},
        "float32": {PRODUCT: 5.0},
        "bfloat16, NHWC": {HALF_PRODUCT: 5.0},
    }
    assert [one.replaced for one in measures] == [[], [2.0], [2.0]]
