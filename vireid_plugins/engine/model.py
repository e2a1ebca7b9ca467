"""Build the model that a config names."""

from typing import Any

from torch import nn

from fastreid.modeling.meta_arch import build_model as build_named_model

from . import runtime
from .checks import check_model_names


def build_model(cfg: Any) -> nn.Module:
    """Return the model of ``MODEL.*`` on ``MODEL.DEVICE``, in the memory format of ``RUNTIME``.

    Raises:
        UserError: a name of ``MODEL.*`` is unknown; the message gives the nearest valid names.
    """
    check_model_names(cfg)
    return runtime.apply_memory_format(cfg, build_named_model(cfg))
