"""Build a head, ours or FastReID's, and call both kinds in the same way."""

from typing import Any, Dict, Tuple

from torch import Tensor, nn

from fastreid.modeling.heads import REID_HEADS_REGISTRY

from ...keys import check_unread, check_values
from ...registry import lookup
from .bnneck_head import BNNeckHead
from .evaluated import check_choice
from .hct_head import HCTHead

HOST_OUTPUTS = ("features", "logits")  # outputs of FastReID's heads, by the names used here
#: keys of how a network begins and pools, by the head that reads them, as its subclasses do
_READERS = {
    BNNeckHead: tuple(f"MODEL.HEADS.{name}" for name in ("CLASSIFIER_STD", "NECK_STD", "GEM_EPS")),
    HCTHead: ("MODEL.HEADS.GEM_EXPONENT",),
}


def build_head(cfg: Any) -> nn.Module:
    """Build the head that ``MODEL.HEADS.NAME`` names.

    Raises:
        UserError: there is no such head, a key is set that it does not read, or it does not have
            the feature that ``TEST.FEATURE`` names.
    """
    check_values("MODEL.HEADS", NECK_FEAT=cfg.MODEL.HEADS.NECK_FEAT)
    name = cfg.MODEL.HEADS.NAME
    kind = lookup(REID_HEADS_REGISTRY, name, "MODEL.HEADS.NAME")
    for reader, keys in _READERS.items():
        if not (isinstance(kind, type) and issubclass(kind, reader)):
            readers = f"{reader.__name__}, or a head derived from it,"
            check_unread(cfg, keys, f"MODEL.HEADS.NAME {name}", readers)
    head = kind(cfg)
    check_choice(head, cfg.TEST.FEATURE)
    return head


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
