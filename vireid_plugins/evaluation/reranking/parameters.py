"""What re-ranking and query expansion share: how they take features and parameters."""

from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor

from ..similarity import Array, features_pair


def set_fields(record: Any, values: Dict[str, Any]) -> None:
    """Set fields of a frozen dataclass, in its ``__post_init__``."""
    for name, value in values.items():
        object.__setattr__(record, name, value)


def too_large(
    number: int, values: Dict[str, int], words: str = "a gallery has {} images"
) -> List[str]:
    """Return a sentence for each parameter that exceeds the number of possible neighbors.

    Args:
        number: how many images can be neighbors, in the smallest trial.
        values: the parameters, by their config keys.
        words: says what the number counts; ``{}`` stands for it.
    """
    return [
        f"{key} is {value}, but {words.format(number)}: neighbors are then mostly other people, "
        "and the numbers mean little"
        for key, value in values.items()
        if value > number
    ]


def cpu_pair(query_features: Array, gallery_features: Array) -> Tuple[Tensor, Tensor]:
    """Return both as tensors on the CPU, in the same precision."""
    query, gallery = features_pair(query_features, gallery_features, torch.device("cpu"))
    wide = torch.promote_types(query.dtype, gallery.dtype)
    return query.to(wide), gallery.to(wide)
