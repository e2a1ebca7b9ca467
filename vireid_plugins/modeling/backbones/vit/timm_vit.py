"""Build the vision transformers of timm that consist of a sequence of tokens and of blocks.

These are all networks of timm's ``VisionTransformer`` and its subclass for DeiT's distillation,
with one convolution as patch embedding: ViT, DeiT, DeiT III, AugReg, CLIP, SigLIP, DINO, DINOv2,
MAE, FlexiViT. Other transformers add something to their blocks (rotary or relative positions) or
between them.
"""

from typing import Any, Mapping

import torch
from torch import Tensor, nn

from ....errors import UserError
from ..stages.timm_library import create, import_timm, network_name
from ..stages.timm_weights import compare_pixels, fetch


def is_vit(network: nn.Module) -> bool:
    """Return whether a network of timm is a sequence of tokens and of blocks, and nothing else."""
    from timm.layers import PatchEmbed
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    if not isinstance(network, VisionTransformer):
        return False
    kind: Any = type(network)
    return (
        kind.forward_features is VisionTransformer.forward_features
        and kind._pos_embed in (VisionTransformer._pos_embed, VisionTransformerDistilled._pos_embed)
        and type(network.patch_embed) is PatchEmbed
    )


def ordinary(cfg: Any) -> nn.Module:
    """Return the network that ``MODEL.BACKBONE.TIMM_NAME`` names as timm builds it, untrained.

    The rest of the model draws the same numbers as without this call.

    Raises:
        UserError: timm is missing, or has no such network.
    """
    with torch.random.fork_rng(devices=[]):
        return create(cfg)


def build_vit(cfg: Any) -> nn.Module:
    """Return the vision transformer that ``MODEL.BACKBONE.TIMM_NAME`` names, untrained.

    Its last norm comes before any pooling, also in networks in which it follows.

    Raises:
        UserError: timm cannot build it, or ``MODEL.BACKBONE.TIMM_OPTIONS`` asks for something that
            ``DualStreamViT`` does not do.
    """
    node = cfg.MODEL.BACKBONE
    network = create(
        cfg,
        img_size=tuple(cfg.INPUT.SIZE_TRAIN),
        drop_path_rate=node.DROP_PATH_RATIO,
        proj_drop_rate=node.DROP_RATIO,
        pos_drop_rate=node.DROP_RATIO,
        attn_drop_rate=node.ATT_DROP_RATE,
        fc_norm=False,
    )
    _check_parts(network)
    return network


def _check_parts(network: Any) -> None:
    """Raise ``UserError`` if options changed a part that would be left out without a word."""
    wrong = {
        "depth=0": len(network.blocks) == 0,
        "patch_drop_rate": not isinstance(network.patch_drop, nn.Identity),
        "dynamic_img_pad": getattr(network.patch_embed, "dynamic_img_pad", False),
    }
    for option, is_wrong in wrong.items():
        if is_wrong:
            raise UserError(
                f"MODEL.BACKBONE.TIMM_OPTIONS asks for {option}, which a vision transformer in two "
                "streams does not have. Leave it out."
            )


def fetch_vit(cfg: Any) -> Mapping[str, Tensor]:
    """Return the weights that timm downloads for the network, or has in its cache.

    Raises:
        CheckpointError: there are none, or the download failed.
    """
    name = network_name(cfg)
    about = import_timm(cfg).models.get_pretrained_cfg(name)

    def build(**options: Any) -> nn.Module:
        return create(cfg, **options)

    state = fetch(name, about, build)
    compare_pixels(cfg, about)
    return state
