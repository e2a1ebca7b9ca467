"""Give the classes of a head another meaning during the training: those of clusters.

A head has a row of its classifier for each class that there could be. After a clustering, the first
C rows are the classes, and they begin as the centers of the clusters; logits of the other rows are
left out. C clusters, D features, N rows.
"""

from typing import Any, Dict, Optional

import torch
from torch import Tensor, nn

from fastreid.modeling.heads import EmbeddingHead

_LOGITS = ("logits", "cls_outputs", "pred_class_logits")  # ours, and those of FastReID's heads


class ClassLimit:
    """A hook of a head: in training, it leaves out the logits of all but the first classes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, head: nn.Module, inputs: Any, outputs: Any) -> Any:
        if not isinstance(outputs, dict):  # features
            return None
        narrowed: Dict[str, Any] = {
            name: value[:, : self.count] if name in _LOGITS else value
            for name, value in outputs.items()
        }
        return narrowed


def takes_clusters(head: Any) -> bool:
    """Return whether the one classifier of a head is its ``weight`` (N, D).

    A head with other classifiers says ``takes_clusters = False``.
    """
    return isinstance(head, EmbeddingHead) and getattr(head, "takes_clusters", True)


def set_classes(head: Any, count: int, centers: Optional[Tensor] = None) -> None:
    """Let the first ``count`` rows of a head's classifier be its classes, from now on.

    Args:
        head: for which ``takes_clusters`` is true.
        count: C, at most N.
        centers: (C, D), what the rows are from now on; None: they stay as they are.
    """
    limit = getattr(head, "class_limit", None)
    if limit is None:
        limit = head.class_limit = ClassLimit(count)
        head.register_forward_hook(limit)
    limit.count = count
    if centers is not None:
        with torch.no_grad():
            head.weight[:count] = centers.to(head.weight)
