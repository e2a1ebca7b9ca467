"""Build a head, ours or FastReID's, and call both kinds in the same way."""

from typing import Any, Dict, Tuple

from torch import Tensor, nn

from fastreid.modeling.heads import REID_HEADS_REGISTRY

from ...keys import check_values
from ...registry import lookup

HOST_OUTPUTS = ("features", "logits")  # outputs of FastReID's heads, by the names used here


def build_head(cfg: Any) -> nn.Module:
    """Build the head that ``MODEL.HEADS.NAME`` names."""
    check_values("MODEL.HEADS", NECK_FEAT=cfg.MODEL.HEADS.NECK_FEAT)
    return lookup(REID_HEADS_REGISTRY, cfg.MODEL.HEADS.NAME, "MODEL.HEADS.NAME")(cfg)


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
