"""Networks of timm of a few thousand weights; importing this file needs timm."""

import sys

import timm
from timm.models import register_model
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer

import vireid_plugins  # noqa: F401  repairs torchvision, which timm imports

CONVNEXT, SWIN = "tiny_convnext_of_tests", "tiny_swin_of_tests"
default_cfgs = timm.models.generate_default_cfgs(
    {
        f"{CONVNEXT}.here": {"mean": (0.5, 0.5, 0.5), "hf_hub_id": "nobody/tiny"},
        f"{SWIN}.none": {"fixed_input_size": True},
    }
)
__all__ = [CONVNEXT, SWIN]


def _register(name, network, **sizes):
    def build(pretrained=False, **options):
        return timm.models.build_model_with_cfg(network, name, pretrained, **sizes, **options)

    build.__name__, build.__module__ = name, __name__
    setattr(sys.modules[__name__], name, register_model(build))


_register(CONVNEXT, ConvNeXt, depths=(1, 2, 2, 1), dims=(8, 12, 16, 72), ls_init_value=None)
_register(
    SWIN, SwinTransformer, depths=(1, 2, 1, 1), embed_dim=8, num_heads=(1, 1, 2, 2), window_size=4
)
