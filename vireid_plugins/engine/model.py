"""Build the model that a config names."""

from typing import Any

from torch import nn

from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.meta_arch import build_model as build_named_model

from ..errors import UserError
from ..modeling.heads import check_choice
from ..registry import NETWORK_REGISTRY
from . import runtime
from .checks import check_model_names


def build_model(cfg: Any) -> nn.Module:
    """Return the model of ``MODEL.*`` on ``MODEL.DEVICE``, in the memory format of ``RUNTIME``.

    Raises:
        UserError: a name of ``MODEL.*`` is unknown (the message gives the nearest valid names), or
            the model does not have the feature that ``TEST.FEATURE`` names.
    """
    check_model_names(cfg)
    model = _build(cfg)
    check_choice(getattr(model, "heads", model), cfg.TEST.FEATURE)
    return runtime.apply_memory_format(cfg, model)


def _build(cfg: Any) -> nn.Module:
    try:
        return build_named_model(cfg)
    except (KeyError, ValueError, NotImplementedError) as error:
        if isinstance(error, UserError) or not _lacks_depth(cfg, error):
            raise
        raise UserError(
            f"MODEL.BACKBONE.DEPTH is {cfg.MODEL.BACKBONE.DEPTH!r}, which "
            f"{cfg.MODEL.BACKBONE.NAME} does not have.{_depths_of(cfg.MODEL.BACKBONE.NAME)}"
        ) from error


def _depths_of(name: str) -> str:
    """Return a sentence with the depths of a network of FastReID that we can cut into stages."""
    network = name[len("build_") : -len("_backbone")]
    depths = getattr(NETWORK_REGISTRY._obj_map.get(network), "depths", ())
    return f" It has {', '.join(depths)}." if depths else ""


def _lacks_depth(cfg: Any, error: Exception) -> bool:
    """Return whether a backbone of FastReID says by ``error`` that it lacks the depth."""
    build, depth = BACKBONE_REGISTRY.get(cfg.MODEL.BACKBONE.NAME), cfg.MODEL.BACKBONE.DEPTH
    if build.__module__.partition(".")[0] != "fastreid":
        return False
    if isinstance(error, NotImplementedError):
        return not str(error)
    return error.args == (depth,) or str(error) == f"Unsupported model type {depth}"
