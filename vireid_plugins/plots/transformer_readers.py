"""Readers of the attention of vision transformers, one for each class; see ``rollout.py``.

To add a transformer, register a reader that finds its attention:

    @register_transformer(MyTransformer)
    class MyReader(TransformerReader): ...

B images, L layers, H heads, T tokens, h x w patches.
"""

import contextlib
from typing import (
    Any,
    Callable,
    ContextManager,
    Dict,
    Iterator,
    List,
    Sequence,
    Tuple,
    Type,
    Union,
)

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastreid.modeling.backbones.vision_transformer import VisionTransformer

from ..modeling.backbones import DualStreamCrossViT, DualStreamViT

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

    def joined(self, transformer: Any, attentions: List[Tensor]) -> List[Tensor]:
        """Return the attention (B, H, T, T) of each layer among all tokens of the transformer.

        Args:
            transformer: the module.
            attentions: what the ``attention_modules`` returned, rows in the order of the batch.
        """
        return attentions

    def maps(self, transformer: Any, flow: Tensor, image_size: Sequence[int]) -> Tensor:
        """Return what the feature takes from each patch, (B, h, w).

        Args:
            transformer: the module.
            flow: how much of each input token arrives in each output token, (B, T, T).
            image_size: (H, W).
        """
        patches = flow[:, 0, self.extra_tokens(transformer) :]
        return patches.unflatten(1, self.grid(transformer, image_size))


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

    def readable(self, transformer: Any) -> ContextManager[Any]:
        """Compute attention step by step instead of by PyTorch's fused function."""
        return _not_fused(transformer)


@register_transformer(DualStreamCrossViT)
class CrossViTReader(TransformerReader):
    """CrossViT: all tokens of the fine branch, then all of the coarse one, are one sequence.

    A layer within a branch leaves the tokens of the other as they are, and an exchange all but
    the class token that attends. Both class tokens count alike, and patches of both grids are added
    on the fine one.
    """

    def attention_modules(self, transformer: Any) -> List[Layer]:
        """Return the dropout behind the softmax of each encoder and of each exchange."""
        return [
            _alone_or_both(transformer, stage, path)
            for stage, _, path in _crossvit_layers(transformer)
        ]

    def grid(self, transformer: Any, image_size: Sequence[int]) -> Tuple[int, int]:
        """Return the grid of the fine branch."""
        return transformer.grids(image_size)[0]

    def readable(self, transformer: Any) -> ContextManager[Any]:
        """Compute attention step by step instead of by PyTorch's fused function."""
        return _not_fused(transformer)

    def joined(self, transformer: Any, attentions: List[Tensor]) -> List[Tensor]:
        """Return each layer among the tokens of both branches."""
        places = [place for _, place, _ in _crossvit_layers(transformer)]
        lengths = {p[1]: a.shape[-1] for p, a in zip(places, attentions) if p[0] == "encoder"}
        start = {0: 0, 1: lengths[0]}
        layers = []
        for (kind, branch), attention in zip(places, attentions):
            layer = torch.eye(lengths[0] + lengths[1], device=attention.device)
            layer = layer.repeat(len(attention), 1, 1, 1)
            own, mean = start[branch], attention.float().mean(dim=1)
            if kind == "encoder":
                own_tokens = slice(own, own + lengths[branch])
                layer[:, 0, own_tokens, own_tokens] = mean
            else:  # one row: the class token, over itself and the patches of the other branch
                other = start[1 - branch]
                layer[:, 0, own, own] = mean[:, 0, 0]
                layer[:, 0, own, other + 1 : other + lengths[1 - branch]] = mean[:, 0, 1:]
            layers.append(layer)
        return layers

    def maps(self, transformer: Any, flow: Tensor, image_size: Sequence[int]) -> Tensor:
        """Return the mean of what both class tokens take from the patches, on the fine grid."""
        fine, coarse = transformer.grids(image_size)
        split = 1 + fine[0] * fine[1]
        taken = (flow[:, 0] + flow[:, split]) / 2
        small = taken[:, 1:split].unflatten(1, fine)
        large = taken[:, split + 1 :].unflatten(1, coarse).unsqueeze(1)
        spread = F.interpolate(large, size=fine, mode="bilinear", align_corners=False)
        share = coarse[0] * coarse[1] / (fine[0] * fine[1])  # of a coarse patch, to a fine one
        return small + share * spread[:, 0]


def _crossvit_layers(transformer: Any) -> List[Tuple[str, Tuple[str, int], str]]:
    """Return stage, (kind, branch) and the module's path of each layer, in an order of running."""
    found = []
    for stage in transformer.stages[1:]:
        stream = getattr(transformer, transformer.streams_of(stage)[0])
        block = stream[stage].block
        for branch, encoders in enumerate(block.blocks):
            for number in range(len(encoders)):
                path = f"block.blocks.{branch}.{number}.attn.attn_drop"
                found.append((stage, ("encoder", branch), path))
        for branch, fusion in enumerate(block.fusion):
            # of several in a row, those behind the first see nothing but the class token
            first = ".0" if isinstance(fusion, nn.Sequential) else ""
            path = f"block.fusion.{branch}{first}.attn.attn_drop"
            found.append((stage, ("exchange", branch), path))
    return found


@contextlib.contextmanager
def _not_fused(transformer: nn.Module) -> Iterator[None]:
    fused = [m for m in transformer.modules() if getattr(m, "fused_attn", False)]
    for module in fused:
        setattr(module, "fused_attn", False)  # noqa: B010  its type is not known here
    try:
        yield
    finally:
        for module in fused:
            setattr(module, "fused_attn", True)  # noqa: B010


def _alone_or_both(transformer: Any, stage: str, path: str) -> Layer:
    found = [
        getattr(transformer, stream)[stage].get_submodule(path)
        for stream in transformer.streams_of(stage)
    ]
    return found[0] if len(found) == 1 else (found[0], found[1])
