"""CrossViTs of timm with two blocks of few channels, and configs of them."""

import torch

from vireid_plugins.modeling.backbones import DualStreamCrossViT, build_crossvit_backbone

from tests.modeling.tiny_vit import timm, vit_cfg

CrossVit = timm.models.crossvit.CrossVit
DEPTH, DIMS, HEADS = ((1, 2, 0), (1, 1, 0)), (8, 12), (2, 3)
OPTIONS = [f"depth={DEPTH}", f"embed_dim={DIMS}", f"num_heads={HEADS}"]
IMAGE = (48, 48)
SCALES = (1.0, 2 / 3)  # 4 x 4 patches of 12 pixels, 2 x 2 of 16


def crossvit_cfg(image=IMAGE, **backbone):
    usual = {
        "NAME": "build_crossvit_backbone",
        "TIMM_NAME": "crossvit_tiny_240",
        "TIMM_OPTIONS": OPTIONS,
        "STRIDE_SIZE": [16, 16],
        "UNSHARED_STAGES": 0,
    }
    return vit_cfg(image=image, **{**usual, **backbone})


def build(image=IMAGE, **backbone):
    torch.manual_seed(0)
    return build_crossvit_backbone(crossvit_cfg(image, **backbone))


def ordinary(depth=DEPTH, spread=0.2):
    """timm's own network for images of 48 x 48, all of whose parameters are drawn."""
    torch.manual_seed(1)
    plain = CrossVit(
        img_size=IMAGE,
        img_scale=SCALES,
        patch_size=(12, 16),
        embed_dim=DIMS,
        num_heads=HEADS,
        mlp_ratio=(4, 4, 1),
        depth=depth,
        num_classes=0,
    )
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return plain.double().eval()


def wrapped(plain, image=IMAGE, scales=SCALES, **options):
    """The backbone of ``plain``, whose modules it takes over."""
    return DualStreamCrossViT(
        network=plain, image_size=image, branch_scales=scales, **options
    ).eval()
