"""What the keys for larger batches and smaller memories do to a model that was built."""

from typing import Any

from torch import nn


def apply_scaling_keys(cfg: Any, model: nn.Module) -> None:
    """Read ``MODEL.LOSSES.GATHER_FEATURES``.

    Raises:
        ValueError: the model cannot do what a key asks for.
    """
    gather = cfg.MODEL.LOSSES.GATHER_FEATURES
    if hasattr(model, "gather_features"):
        model.gather_features = gather
    elif gather:
        raise ValueError(
            "MODEL.LOSSES.GATHER_FEATURES True needs a meta-architecture of vireid_plugins, which "
            f"hands its outputs over to its losses by name; {type(model).__name__} does not. Set "
            "it False."
        )
