"""Show where a vision transformer looks, by attention roll-out.

*Paper*: S. Abnar, W. Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

To add a transformer, register a reader that finds its attention:

    @register_transformer(MyTransformer)
    class MyReader(TransformerReader): ...

FastReID's ``build_vit_backbone`` and ``DualStreamViT`` have one. B images, L layers, H heads, T
tokens, h x w patches.
"""

import contextlib
from functools import partial
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

import numpy as np
import torch
from torch import Tensor, nn

from fastreid.modeling.backbones.vision_transformer import VisionTransformer

from ..errors import PlotError
from ..evaluation import evaluation_mode
from ..modality import modality_rows
from ..modeling.backbones import DualStreamViT
from .grad_cam import Activation

READERS: Dict[Type[nn.Module], "TransformerReader"] = {}
#: the module that has the attention of a layer or, where each modality has its own, both of them
Layer = Union[nn.Module, Tuple[nn.Module, nn.Module]]


class TransformerReader:
    """Read the attention of one class of transformers."""

    def extra_tokens(self, transformer: Any) -> int:
        """Return the number of tokens before the patches; the first one becomes the feature."""
        return 1

    def attention_modules(self, transformer: Any) -> List[Layer]:
        """Return the modules whose output is attention (B, H, T, T), in the order of the layers.

        Rows of attention add up to 1. A layer that is separate for each modality is a pair of
        modules, for visible and for infrared rows.
        """
        raise NotImplementedError

    def grid(self, transformer: Any, image_size: Sequence[int]) -> Tuple[int, int]:
        """Return the numbers of patches down and across, (h, w), of images (H, W)."""
        raise NotImplementedError

    def readable(self, transformer: Any) -> ContextManager[Any]:
        """Return a context inside which the modules compute their attention."""
        return contextlib.nullcontext()


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

    def attention_modules(self, transformer: Any) -> List[Layer]:
        """Return the dropout behind the softmax of each block."""
        return [block.attn.attn_drop for block in transformer.blocks]

    def grid(self, transformer: Any, image_size: Sequence[int]) -> Tuple[int, int]:
        """Return the grid of the patch embedding."""
        return transformer.patch_embed.num_y, transformer.patch_embed.num_x


@register_transformer(DualStreamViT)
class DualStreamReader(TransformerReader):
    """A vision transformer of timm in two streams."""

    def extra_tokens(self, transformer: Any) -> int:
        """Return the number of class, distillation and register tokens."""
        return transformer.num_prefix

    def attention_modules(self, transformer: Any) -> List[Layer]:
        """Return the dropout behind the softmax of each block."""
        return [
            _alone_or_both(transformer, stage, "block.attn.attn_drop")
            for stage in transformer.stages[1:]
        ]

    def grid(self, transformer: Any, image_size: Sequence[int]) -> Tuple[int, int]:
        """Return the grid of the patch embedding."""
        return transformer.grid_of(image_size)

    @contextlib.contextmanager
    def readable(self, transformer: Any) -> Iterator[None]:
        """Compute attention step by step instead of by PyTorch's fused function."""
        fused = [m for m in transformer.modules() if getattr(m, "fused_attn", False)]
        for module in fused:
            module.fused_attn = False
        try:
            yield
        finally:
            for module in fused:
                module.fused_attn = True


def _alone_or_both(transformer: Any, stage: str, path: str) -> Layer:
    found = [
        getattr(transformer, stream)[stage].get_submodule(path)
        for stream in transformer.streams_of(stage)
    ]
    return found[0] if len(found) == 1 else (found[0], found[1])


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
    module, reader = require_transformer(model)
    layers = reader.attention_modules(module)
    kept: Dict[nn.Module, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for one in _modules_of(layers):
            stack.callback(one.register_forward_hook(partial(_keep, kept)).remove)
        stack.enter_context(reader.readable(module))
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(torch.no_grad())
        model(batch)
    attentions = [_in_order(layer, kept, batch) for layer in layers]
    flow = attention_rollout(attentions)[:, 0, reader.extra_tokens(module) :]
    grid = reader.grid(module, batch["images"].shape[-2:])
    maps = flow.reshape(len(flow), *grid).cpu().numpy()
    return Activation(maps, np.full(len(maps), np.nan, np.float32), "attention roll-out")


def _modules_of(layers: Sequence[Layer]) -> List[nn.Module]:
    return [one for layer in layers for one in (layer if isinstance(layer, tuple) else (layer,))]


def _keep(kept: Dict[nn.Module, Tensor], module: nn.Module, inputs: Any, output: Tensor) -> None:
    kept[module] = output.detach()


def _in_order(layer: Layer, kept: Dict[nn.Module, Tensor], batch: Dict[str, Any]) -> Tensor:
    """Return the attention of a layer with its rows in the order of the batch."""
    if not isinstance(layer, tuple):
        return kept[layer]
    rows = [list(where) for where in modality_rows(torch.as_tensor(batch["modalities"]))]
    found = [kept[one] for one, where in zip(layer, rows) if where]
    order = torch.argsort(torch.tensor([row for where in rows for row in where]))
    return torch.cat(found)[order.to(found[0].device)]
