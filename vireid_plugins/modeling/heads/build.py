"""Build a head, ours or FastReID's, and call either the same way."""

from typing import Any, Dict, Optional, Tuple, Union

from torch import Tensor, nn

from fastreid.modeling.heads import REID_HEADS_REGISTRY

from ...keys import check_values
from ...registry import lookup

HOST_OUTPUTS = ("features", "logits")  # what FastReID's heads offer, once renamed


def build_head(cfg: Any) -> nn.Module:
    """The head that ``MODEL.HEADS.NAME`` names."""
    check_values("MODEL.HEADS", NECK_FEAT=cfg.MODEL.HEADS.NECK_FEAT)
    return lookup(REID_HEADS_REGISTRY, cfg.MODEL.HEADS.NAME, "MODEL.HEADS.NAME")(cfg)


def output_names(head: nn.Module) -> Tuple[str, ...]:
    """Names of the tensors that ``head`` returns in training."""
    return getattr(head, "outputs", HOST_OUTPUTS)


def head_outputs(
    head: nn.Module,
    feature_map: Tensor,
    targets: Optional[Tensor] = None,
    modalities: Optional[Tensor] = None,
) -> Union[Tensor, Dict[str, Tensor]]:
    """Call ``head``. FastReID's take no modalities and call their logits ``cls_outputs``."""
    if getattr(head, "takes_modalities", False):
        return head(feature_map, targets, modalities)
    outputs = head(feature_map, targets)
    if isinstance(outputs, dict):
        outputs = {"features": outputs["features"], "logits": outputs["cls_outputs"]}
    return outputs
