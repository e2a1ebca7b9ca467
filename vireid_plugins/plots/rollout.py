"""Show where a vision transformer looks, by attention roll-out.

*Paper*: S. Abnar, W. Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

To add a transformer, register a reader that finds its attention:

    @register_transformer(MyTransformer)
    class MyReader(TransformerReader): ...

FastReID's ``build_vit_backbone`` has one. B images, L layers, H heads, T tokens, h x w patches.
"""

from functools import partial
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Type

import numpy as np
import torch
from torch import Tensor, nn

from fastreid.modeling.backbones.vision_transformer import VisionTransformer

from ..errors import PlotError
from ..evaluation import evaluation_mode
from .grad_cam import Activation

READERS: Dict[Type[nn.Module], "TransformerReader"] = {}


class TransformerReader:
    """Read the attention of one class of transformers."""

    extra_tokens = 1  # number of tokens before the patches; the first of them becomes the feature

    def attention_modules(self, transformer: Any) -> List[nn.Module]:
        """Return the modules whose output is attention (B, H, T, T), in the order of the layers.

        Rows of attention add up to 1.
        """
        raise NotImplementedError

    def grid(self, transformer: Any) -> Tuple[int, int]:
        """Return the numbers of patches down and across, (h, w)."""
        raise NotImplementedError


def register_transformer(
    kind: Type[nn.Module],
) -> Callable[[Type[TransformerReader]], Type[TransformerReader]]:
    """Register the decorated class as the reader of transformers of the class ``kind``."""

    def register(reader: Type[TransformerReader]) -> Type[TransformerReader]:
        READERS[kind] = reader()
        return reader

    return register


@register_transformer(VisionTransformer)
class FastReIDReader(TransformerReader):
    """FastReID's ViT: attention is read behind its dropout, which does nothing at test."""

    def attention_modules(self, transformer: Any) -> List[nn.Module]:
        """Return the dropout behind the softmax of each block."""
        return [block.attn.attn_drop for block in transformer.blocks]

    def grid(self, transformer: Any) -> Tuple[int, int]:
        """Return the grid of the patch embedding."""
        return transformer.patch_embed.num_y, transformer.patch_embed.num_x


class FoundTransformer(NamedTuple):
    """A transformer inside a model."""

    module: nn.Module
    reader: TransformerReader


def find_transformer(model: nn.Module) -> Optional[FoundTransformer]:
    """Return the first known transformer inside ``model``, or None."""
    for module in model.modules():
        for kind, reader in READERS.items():
            if isinstance(module, kind):
                return FoundTransformer(module, reader)
    return None


def require_transformer(model: nn.Module) -> FoundTransformer:
    """Return the first known transformer inside ``model``.

    Raises:
        PlotError: there is none; the message names the known transformers.
    """
    found = find_transformer(model)
    if found is None:
        known = ", ".join(sorted(kind.__name__ for kind in READERS))
        raise PlotError(
            f"{type(model).__name__} has no transformer whose attention can be read (known: "
            f"{known}); use --method grad-cam, or register a reader of it in "
            "vireid_plugins.plots.rollout."
        )
    return found


def attention_rollout(attentions: Sequence[Tensor]) -> Tensor:
    """Return how much of each input token arrives in each output token, (B, T, T).

    Rows add up to 1. Heads are averaged; half of each layer is its residual connection.

    Args:
        attentions: one for each layer, at least one, (B, H, T, T).
    """
    first, *others = (_with_residual(attention) for attention in attentions)
    flow = first
    for layer in others:
        flow = layer @ flow
    return flow


def _with_residual(attention: Tensor) -> Tensor:
    mean = attention.float().mean(dim=1)
    return (mean + torch.eye(mean.shape[-1], device=mean.device)) / 2


def rollout_map(model: nn.Module, batch: Dict[str, Any]) -> Activation:
    """Return what the output token of a transformer takes from each patch, whatever the target.

    Args:
        model: holds a transformer that has a reader.
        batch: ``images`` (B, 3, H, W) and ``modalities`` (B,).

    Raises:
        PlotError: there is no such transformer.
    """
    found = require_transformer(model)
    attentions: List[Tensor] = []
    handles = [
        module.register_forward_hook(partial(_keep, attentions))
        for module in found.reader.attention_modules(found.module)
    ]
    try:
        with evaluation_mode(model), torch.no_grad():
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    flow = attention_rollout(attentions)[:, 0, found.reader.extra_tokens :]
    maps = flow.reshape(len(flow), *found.reader.grid(found.module)).cpu().numpy()
    return Activation(maps, np.full(len(maps), np.nan, np.float32), "attention roll-out")


def _keep(attentions: List[Tensor], module: nn.Module, inputs: Any, output: Tensor) -> None:
    attentions.append(output.detach())
