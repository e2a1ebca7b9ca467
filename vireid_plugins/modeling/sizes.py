"""Adapt tensors of a checkpoint that depend on the size of images to a model for another size.

A module that has such tensors has a method ``adapt_sizes(tensors)``, which replaces them in a dict
of its own tensors by their names.
"""

from typing import Any, Dict

from torch import Tensor, nn


def adapt_sizes(model: nn.Module, held: Dict[str, Tensor]) -> None:
    """Replace tensors of ``held``, a whole checkpoint by names, where modules ask for it."""
    for name, module in model.named_modules():
        adapt: Any = getattr(module, "adapt_sizes", None)
        if adapt is None:
            continue
        prefix = f"{name}." if name else ""
        own = {n[len(prefix) :]: one for n, one in held.items() if n.startswith(prefix)}
        adapt(own)
        held.update({f"{prefix}{rest}": one for rest, one in own.items()})
