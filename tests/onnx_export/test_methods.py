"""Every method as a graph, by its config. Oracle: the model, on batches of other sizes."""

import numpy as np
import pytest
import torch

from vireid_plugins.modality import Modality

from tests.engine.small import ROOT
from tests.modeling.small import some_points
from tests.onnx_export.small import small_model

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
from vireid_plugins.onnx_export.compare import (  # noqa: E402
    onnx_features,
    open_session,
    pytorch_features,
)
from vireid_plugins.onnx_export.graph import record  # noqa: E402

CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("configs/*/synthetic.yml"))
AGW, MRDA = "configs/agw/synthetic.yml", "configs/mrda/synthetic.yml"
VIT = "configs/vit/synthetic.yml"
HOST = {"MODEL__BACKBONE__NAME": "build_resnet_backbone", "MODEL__HEADS__NAME": "EmbeddingHead"}
# What a method can be told, beyond its synthetic.yml.
VARIANTS = [
    (AGW, {"MODEL__BACKBONE__WITH_NL": True, "MODEL__BACKBONE__UNSHARED_STAGES": 3}),
    (AGW, {"MODEL__BACKBONE__UNSHARED_STAGES": 0, "MODEL__HEADS__POOL_LAYER": "GlobalMaxPool"}),
    (AGW, HOST),
    (AGW, {"TEST__FEATURE": "both"}),
    # a teacher sees what its student masks
    ("configs/mmt/synthetic.yml", {"MODEL__MMT__STUDENT": "RBNet"}),
    ("configs/rbnet/synthetic.yml", {"MODEL__RBNET__MASK_FROM": "re_conv1"}),
    (  # positions are resized to images of another size
        VIT,
        {
            "INPUT__SIZE_TEST": [64, 40],
            "MODEL__BACKBONE__TIMM_OPTIONS": "['depth=2']",
            "MODEL__BACKBONE__UNSHARED_STAGES": 2,
            "MODEL__BACKBONE__MODALITY_EMBEDDING": "all",
        },
    ),
    (
        VIT,
        {"MODEL__BACKBONE__TIMM_OPTIONS": "['depth=1']", "MODEL__BACKBONE__VIT_OUTPUT": "patches"},
    ),
    (MRDA, {"MODEL__HEADS__ATTENTION__NAME": "bam"}),
    (MRDA, {"MODEL__HEADS__ATTENTION__NAME": "cbam"}),
    (MRDA, {"MODEL__HEADS__ATTENTION__NAME": "iwpam"}),
    (  # 7 rows in 6 stripes, which are of different heights
        MRDA,
        {
            "INPUT__SIZE_TEST": [112, 32],
            "MODEL__HEADS__ATTENTION__STRIPES": 6,
            "MODEL__HEADS__ATTENTION__KEPT": 3,
            "MODEL__MRDA__TEST_VIEW": "mean",
        },
    ),
]


def names_of(variant):
    return "-".join([variant[0].split("/")[1], *map(str, variant[1].values())])


def images_of(cfg, count):
    return torch.randint(0, 256, (count, 3, *cfg.INPUT.SIZE_TEST)).float()


@pytest.mark.slow
@pytest.mark.parametrize("variant", [(c, {}) for c in CONFIGS] + VARIANTS, ids=names_of)
def test_features_equal_pytorchs_at_any_batch_size(variant):
    cfg, model = small_model(variant[0], **variant[1])
    session = open_session(record(model, cfg.INPUT.SIZE_TEST), threads=1)
    points = ["keypoints"] * model.needs_keypoints
    assert [one.name for one in session.get_inputs()] == ["images", *points, "modalities"]
    for count in (1, 2, 7):
        images, modalities = images_of(cfg, count), torch.arange(count) % 3 % 2
        rows = images, modalities, some_points(count, cfg.INPUT.SIZE_TEST)
        expected, found = pytorch_features(model, *rows), onnx_features(session, *rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-6)
    apart = np.linalg.norm(expected[:, None] - expected, axis=2) + 9 * np.eye(count)
    assert apart.min() > 0.01  # so rows cannot have changed places


@pytest.mark.parametrize("modality", list(Modality), ids=lambda one: one.label)
def test_a_graph_of_one_modality_asks_for_no_other(modality):
    cfg, model = small_model(AGW, MODEL__BACKBONE__UNSHARED_STAGES=2)
    content = record(model, cfg.INPUT.SIZE_TEST, modality)
    session = open_session(content, threads=1)
    assert [one.name for one in session.get_inputs()] == ["images"]
    images = images_of(cfg, 3)
    found = onnx_features(session, images, torch.zeros(3))
    own, other = (
        pytorch_features(model, images, torch.full((3,), int(one)))
        for one in (modality, Modality(1 - modality))
    )
    np.testing.assert_allclose(found, own, atol=2e-6)
    assert np.abs(own - other).max() > 0.01
    # The other's convolutions are not in the file: two streams of a stem and two blocks differ.
    both = onnx.load_from_string(record(model, cfg.INPUT.SIZE_TEST))
    only = onnx.load_from_string(content)
    convolutions = [sum(n.op_type == "Conv" for n in one.graph.node) for one in (both, only)]
    assert convolutions == [20 + 5, 20]


def test_an_unknown_modality_has_no_feature():
    cfg, model = small_model(AGW)
    session = open_session(record(model, cfg.INPUT.SIZE_TEST), threads=1)
    found = onnx_features(session, images_of(cfg, 3), torch.tensor([1, 2, 0]))
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()
