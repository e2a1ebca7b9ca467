"""Every registered meta-architecture on a dual-stream MobileNetV2, and on a network of timm."""

import numpy as np
import pytest
import torch

from vireid_plugins.modality import Modality
from vireid_plugins.modeling.backbones import DualStreamBackbone

from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY

from tests.modeling.test_meta_arch import (
    CONFIGS,
    SIZE,
    gradients_by_phase,
    has_frozen_network,
    make_batch,
    make_model,
    make_views,
    settings,
    take,
)

TWO_STREAMS = [
    *("MODEL.BACKBONE.NAME", "build_dual_stream_backbone"),
    *("MODEL.BACKBONE.UNSHARED_STAGES", "2", "MODEL.BACKBONE.LAST_STRIDE", "1"),
    *("MODEL.NFORMER.DIM", "0"),  # the small network of timm has fewer features than its 256
]
METHODS = sorted(
    name
    for name, method in META_ARCH_REGISTRY._obj_map.items()
    if method.__module__.startswith("vireid_plugins")
    and name != "CMTR"  # needs embeddings of the modalities, which these networks do not have
)


def config_of(method):
    """The method's config for SynthVI; of a variant of a method, which has none, its first."""
    found = [c for c in CONFIGS if settings(c).MODEL.META_ARCHITECTURE == method]
    return min(found, key=lambda config: not config.endswith("/synthetic.yml"))


def network_words(network):
    if network == "mobilenetv2":
        return ["MODEL.BACKBONE.NETWORK", network, "MODEL.BACKBONE.DEPTH", "0.1x"]
    pytest.importorskip("timm", reason="timm is not installed: pip install timm")
    from tests.modeling.tiny_timm import CONVNEXT

    return ["MODEL.BACKBONE.NETWORK", f"timm/{CONVNEXT}"]


@pytest.fixture(scope="module", params=["mobilenetv2", "timm"])
def network(request):
    return network_words(request.param)


@pytest.fixture(scope="module", params=METHODS)
def built(request, network):
    config = config_of(request.param)
    model = make_model(config, *TWO_STREAMS, *network)
    assert type(model).__name__ == request.param and type(model.backbone) is DualStreamBackbone
    return config, model


def test_each_trainable_parameter_gets_a_finite_gradient(built):
    config, model = built
    trainable = {n for n, p in model.named_parameters() if p.requires_grad}
    by_phase = gradients_by_phase(model.train(), make_views(config, make_batch()))
    assert set.union(*by_phase.values()) == trainable
    found = {
        n.split("backbone.infrared.")[1].split(".")[0] for n in trainable if "e.infrared." in n
    }
    assert found == (set() if has_frozen_network(model) else {"stem", "layer1"})


def test_the_other_stream_takes_no_part_in_images_of_one_modality(built):
    """Features with the other stream's weights gone are those with them."""
    config, model = built
    model.eval()
    batch = make_batch()
    for modality, other in ((Modality.VISIBLE, "infrared"), (Modality.INFRARED, "visible")):
        rows = take(batch, torch.nonzero(batch["modalities"] == modality)[:, 0])
        stream = getattr(model.backbone, other)
        kept = {name: value.clone() for name, value in stream.state_dict().items()}
        with torch.no_grad():
            expected = model(rows)
            for tensor in stream.state_dict().values():
                tensor.zero_()
            torch.testing.assert_close(model(rows), expected)
        stream.load_state_dict(kept)
        assert expected.isfinite().all() and len(expected) == len(rows["modalities"])


@pytest.mark.slow
def test_the_graph_in_onnx_gives_the_features(built):
    pytest.importorskip("onnxruntime")
    from vireid_plugins.onnx_export.compare import onnx_features, open_session, pytorch_features
    from vireid_plugins.onnx_export.graph import record

    model = built[1].eval()
    session = open_session(record(model, SIZE), threads=1)
    batch, modalities = make_batch(), torch.tensor([1, 0, 1])
    rows = batch["images"][:3], modalities, batch["keypoints"][:3]
    expected = pytorch_features(model, *rows)
    np.testing.assert_allclose(onnx_features(session, *rows), expected, atol=2e-5)
