"""The networks of timm in two streams: vision transformers, and networks with stages.

``MODEL.BACKBONE.TIMM_NAME`` is timm's own name, such as ``vit_small_patch16_224``, or with the tag
of its weights ``vit_small_patch16_224.augreg_in21k_ft_in1k``.
"""

from typing import Any

from fastreid.modeling.backbones import BACKBONE_REGISTRY

from ...errors import UserError
from ...keys import check_unread
from .dual_stream import DualStreamBackbone, load_pretrained
from .dual_stream_vit import DualStreamViT
from .stages.base import OPTIONS
from .stages.timm_library import SUPPORTED, asked_for, network_name
from .start import read_start
from .streams import TwoStreams
from .vit.timm_vit import fetch_vit, is_vit, ordinary

#: keys that only a vision transformer reads
VIT_KEYS = ("MODALITY_EMBEDDING", "MODALITY_SCALE", "VIT_OUTPUT")
_CLIPPING = ("GeneralizedMeanPooling", "GeneralizedMeanPoolingP", "ClipGlobalAvgPool")


@BACKBONE_REGISTRY.register()
def build_dual_stream_timm_backbone(cfg: Any) -> TwoStreams:
    """Build a ``DualStreamViT`` or, of a network with stages, a ``DualStreamBackbone``.

    Raises:
        UserError: timm is missing, or has no such network; or it is of a kind that has no two
            streams; or a key is wrong.
        CheckpointError: the trained weights are not at hand, or do not fit.
    """
    check_timm_name(cfg)
    if is_vit(ordinary(cfg)):
        return _build_vit(cfg)
    plain = cfg.clone()
    plain.defrost()
    plain.MODEL.BACKBONE.NETWORK = network_of(cfg.MODEL.BACKBONE)
    backbone = DualStreamBackbone(plain)  # which refuses networks that have no stages
    unread = [f"MODEL.BACKBONE.{key}" for key in VIT_KEYS]
    check_unread(cfg, unread, asked_for(cfg), "a ViT or DeiT")
    return load_pretrained(backbone, plain)


def network_of(node: Any) -> str:
    """Return the network of ``MODEL.BACKBONE`` as ``NETWORK`` would name it."""
    return f"timm/{node.TIMM_NAME}"


def check_timm_name(cfg: Any) -> None:
    """Raise ``UserError`` if timm is missing, or has no network of this name."""
    if not cfg.MODEL.BACKBONE.TIMM_NAME:
        raise UserError(
            "MODEL.BACKBONE.TIMM_NAME is empty; build_dual_stream_timm_backbone needs the name of "
            f"a network of timm. Supported are {SUPPORTED}."
        )
    network_name(cfg)


def check_transformer_keys(node: Any) -> None:
    """Raise ``UserError`` if a key of convolutional networks is set, which a transformer ignores.

    Args:
        node: ``MODEL.BACKBONE``.
    """
    for key, usual in {**OPTIONS, "WITH_NL": False}.items():
        if key != "LAST_STRIDE" and node[key] != usual:  # recipes of ResNets set that one
            raise UserError(
                f"MODEL.BACKBONE.{key} is {node[key]!r}, which a vision transformer does not read. "
                f"Set it to {usual!r}."
            )


def check_pooling(cfg: Any) -> None:
    """Raise ``UserError`` if the head would cut the negative values of a class token."""
    if cfg.MODEL.HEADS.POOL_LAYER in _CLIPPING:
        raise UserError(
            f"MODEL.HEADS.POOL_LAYER is {cfg.MODEL.HEADS.POOL_LAYER}, which cuts values below 0, "
            "and half of a class token's values are negative. Set it to GlobalAvgPool, which "
            "leaves a class token as it is."
        )


def _build_vit(cfg: Any) -> DualStreamViT:
    node = cfg.MODEL.BACKBONE
    check_transformer_keys(node)
    if node.MODALITY_EMBEDDING == "none":
        key = "MODEL.BACKBONE.MODALITY_EMBEDDING"
        check_unread(cfg, ["MODEL.BACKBONE.MODALITY_SCALE"], f"{key} none", f"{key} patches or all")
    if node.VIT_OUTPUT == "class":
        check_pooling(cfg)
    backbone = DualStreamViT(cfg)
    if node.PRETRAIN and node.PRETRAIN_PATH:
        backbone.load_ordinary(read_start(cfg), node.PRETRAIN_PATH)
    elif node.PRETRAIN:
        backbone.load_ordinary(fetch_vit(cfg), f"timm's weights of {node.TIMM_NAME}")
    return backbone


build_dual_stream_timm_backbone.takes_modalities = True  # the methods of FastReID name none
build_dual_stream_timm_backbone.network_of = network_of
build_dual_stream_timm_backbone.check_names = check_timm_name
build_dual_stream_timm_backbone.own_keys = ("TIMM_NAME", *VIT_KEYS)
