"""Build a head, ours or FastReID's, and call both kinds in the same way."""

from typing import Any, Dict, Tuple

from torch import Tensor, nn

from fastreid.modeling.heads import REID_HEADS_REGISTRY

from ...keys import check_unread, check_values
from ...registry import lookup, registered_names
from .evaluated import check_choice

HOST_OUTPUTS = ("features", "logits")  # outputs of FastReID's heads, by the names used here


def build_head(cfg: Any) -> nn.Module:
    """Build the head that ``MODEL.HEADS.NAME`` names.

    Raises:
        UserError: there is no such head, a key is set that it does not read, or it does not have
            the feature that ``TEST.FEATURE`` names.
    """
    check_values("MODEL.HEADS", NECK_FEAT=cfg.MODEL.HEADS.NECK_FEAT)
    kind = lookup(REID_HEADS_REGISTRY, cfg.MODEL.HEADS.NAME, "MODEL.HEADS.NAME")
    _check_keys_of_other_heads(cfg, kind)
    head = kind(cfg)
    check_choice(head, cfg.TEST.FEATURE)
    return head


def _check_keys_of_other_heads(cfg: Any, kind: Any) -> None:
    """Raise ``UserError`` if a key is set that another head names among its ``own_keys``."""
    read = {key for one in getattr(kind, "__mro__", ()) for key in vars(one).get("own_keys", ())}
    for name in registered_names(REID_HEADS_REGISTRY):
        reader = REID_HEADS_REGISTRY.get(name)
        own = set(vars(reader).get("own_keys", ())) - read  # not those that it inherits
        if own and not (isinstance(kind, type) and issubclass(kind, reader)):
            keys = [f"MODEL.HEADS.{key}" for key in sorted(own)]
            chosen = f"MODEL.HEADS.NAME {cfg.MODEL.HEADS.NAME}"
            check_unread(cfg, keys, chosen, f"{name}, or a head derived from it,")


def output_names(head: nn.Module) -> Tuple[str, ...]:
    """Return the names of the tensors that ``head`` returns in training."""
    return getattr(head, "outputs", HOST_OUTPUTS)


def training_outputs(
    head: nn.Module, feature_map: Tensor, targets: Tensor, modalities: Tensor
) -> Dict[str, Tensor]:
    """Call ``head``, which is in training mode, and return its named tensors.

    FastReID's heads take no modalities and call their logits ``cls_outputs``.
    """
    if getattr(head, "takes_modalities", False):
        return head(feature_map, targets, modalities)
    outputs = head(feature_map, targets)
    return {"features": outputs["features"], "logits": outputs["cls_outputs"]}


def retrieval_features(head: nn.Module, feature_map: Tensor, modalities: Tensor) -> Tensor:
    """Call ``head``, which is in evaluation mode, and return the features (B, D)."""
    if getattr(head, "takes_modalities", False):
        return head(feature_map, None, modalities)
    return head(feature_map)
