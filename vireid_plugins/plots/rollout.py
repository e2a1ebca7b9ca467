"""Show where a vision transformer looks, by attention roll-out.

*Paper*: S. Abnar, W. Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020.

``transformer_readers.py`` finds the attention of FastReID's ``build_vit_backbone``,
``DualStreamViT`` and ``DualStreamCrossViT``, and says how to add another transformer. B images, L
layers, H heads, T tokens, h x w patches.
"""

import contextlib
from functools import partial
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import PlotError
from ..evaluation import evaluation_mode
from ..modality import modality_rows
from .grad_cam import Activation
from .transformer_readers import READERS, Layer, TransformerReader, register_transformer

__all__ = [
    "READERS",
    "TransformerReader",
    "attention_rollout",
    "find_transformer",
    "register_transformer",
    "require_transformer",
    "rollout_map",
]


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
            "vireid_plugins.plots.transformer_readers."
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
    flow = attention_rollout(reader.joined(module, attentions))
    maps = reader.maps(module, flow, batch["images"].shape[-2:]).cpu().numpy()
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
