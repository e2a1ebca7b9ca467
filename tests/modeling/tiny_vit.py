"""Vision transformers of timm with two blocks of 32 channels, and configs of them."""

import pytest
import torch

from vireid_plugins.modeling.backbones import build_dual_stream_timm_backbone

from tests.modeling.test_backbone import make_cfg

timm = pytest.importorskip("timm", reason="timm is not installed: pip install timm")

NAME = "vit_tiny_patch16_224"
SIZES = {"depth": 2, "embed_dim": 32, "num_heads": 2, "patch_size": 8}
IMAGE = (32, 16)


def vit_cfg(network=NAME, image=IMAGE, **backbone):
    options = [f"{name}={value}" for name, value in SIZES.items()]
    usual = {
        "NAME": "build_dual_stream_timm_backbone",
        "TIMM_NAME": network,
        "TIMM_OPTIONS": options,
        "STRIDE_SIZE": (8, 8),
        "DROP_PATH_RATIO": 0.0,
        "PRETRAIN": False,
    }
    cfg = make_cfg("50x", **{**usual, **backbone})
    cfg.INPUT.SIZE_TRAIN = cfg.INPUT.SIZE_TEST = list(image)
    return cfg


def build(network=NAME, image=IMAGE, **backbone):
    torch.manual_seed(0)
    return build_dual_stream_timm_backbone(vit_cfg(network, image, **backbone))


def ordinary(network=NAME, image=IMAGE, **options):
    """timm's own network, all of whose parameters are drawn."""
    torch.manual_seed(1)
    plain = timm.create_model(network, num_classes=0, img_size=image, **{**SIZES, **options})
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return plain.double().eval()
