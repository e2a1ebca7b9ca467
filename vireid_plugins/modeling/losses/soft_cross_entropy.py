"""Cross-entropy with soft labels of another network (Ge et al., ICLR 2020, arXiv 2001.01526).

Public code: yxgeee/MMT, commit 057e1ea, ``mmt/loss/crossentropy.py``, ``SoftEntropy``. Shapes: B
rows, C classes.
"""

import torch.nn.functional as F
from torch import Tensor

from ..precision import at_least_float32, without_autocast


def soft_cross_entropy(logits: Tensor, reference: Tensor) -> Tensor:
    """Compute -mean sum_c softmax(reference)_c log softmax(logits)_c (``SoftEntropy``), a scalar.

    Args:
        logits: (B, C), of the network that learns.
        reference: (B, C), of the other network; no gradient.
    """
    logits, reference = at_least_float32(logits), at_least_float32(reference.detach())
    with without_autocast(logits):
        wanted = F.softmax(reference, dim=1)
        return -(wanted * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
