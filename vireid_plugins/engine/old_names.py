"""Names of tensors in checkpoints of FastReID before 1.0, as in a part of its model zoo."""

import logging
import re
from typing import Container, Dict, Mapping

from torch import Tensor

logger = logging.getLogger(__name__)

_HEAD = r"(heads|b\d+_head)\."
_RENAMED = (
    (re.compile(_HEAD + r"bnneck\."), r"\1.bottleneck.0."),
    (re.compile(_HEAD + r"classifier\."), r"\1."),
)


def with_new_names(held: Mapping[str, Tensor], own: Container[str]) -> Dict[str, Tensor]:
    """Return the tensors of a checkpoint under the names that FastReID has used since 1.0.

    Args:
        held: the tensors by the names in the file.
        own: the names in the model; only a name that the model does not know is translated, into
            one that it knows and that the file does not hold.
    """
    renamed: Dict[str, Tensor] = {}
    for name, value in held.items():
        new = name
        for old, replacement in _RENAMED:
            new = old.sub(replacement, new)
        is_better = name not in own and new in own and new not in held
        renamed[new if is_better else name] = value
    count = sum(name not in held for name in renamed)
    if count:
        logger.info("%d tensors have names of FastReID before 1.0, which were translated.", count)
    return renamed
