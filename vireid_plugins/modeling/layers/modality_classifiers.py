"""Identity classifiers, one for each modality, as mutual prediction and MAUM have them.

D feature size, N identities.
"""

from typing import Tuple

from torch import nn

from fastreid.layers.weight_init import weights_init_kaiming

from ...modality import Modality


def modality_classifiers(
    feat_dim: int, num_classes: int, bias: bool = True
) -> Tuple[nn.Linear, nn.Linear]:
    """Return two layers (B, D) -> (B, N): for visible and for infrared images, in this order.

    Their initial weights are those of FastReID's heads: normal, deviation 0.01; biases 0.
    ``modality.apply_per_modality`` runs each on the rows of its modality.

    Args:
        feat_dim: D.
        num_classes: N.
        bias: whether they have biases.
    """
    visible, infrared = (nn.Linear(feat_dim, num_classes, bias=bias) for _ in Modality)
    weights_init_kaiming(visible)
    weights_init_kaiming(infrared)
    return visible, infrared
