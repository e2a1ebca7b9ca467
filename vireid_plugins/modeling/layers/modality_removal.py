"""The mapping of CMTR by which a modality's embedding is subtracted from features.

E size of the embedding, D feature size.
"""

from typing import Tuple

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...modality import Modality, of_modality
from ..precision import without_autocast

#: forms of the mapping: W e, W e + b, e itself
MAPPINGS = ("linear", "affine", "identity")
_STD = 0.02  # of the initial weights: what is removed is small at the start


class ModalityRemoval(nn.Module):
    """Subtract phi_m(e^m) from the features of modality m.

    Args:
        mapping: phi_m: ``"linear"``: a matrix for each modality; ``"affine"``: with a bias, which
            starts at 0; ``"identity"``: e^m itself.
        embed_dim: E.
        feat_dim: D.

    Raises:
        UserError: ``mapping`` is unknown, or it is ``"identity"`` and E is not D.
    """

    def __init__(self, mapping: str, embed_dim: int, feat_dim: int) -> None:
        super().__init__()
        if mapping not in MAPPINGS:
            raise UserError(f"mapping must be one of {', '.join(MAPPINGS)}; got {mapping!r}.")
        if mapping == "identity" and embed_dim != feat_dim:
            raise UserError(
                f"MODEL.CMTR.PHI is 'identity', but the modality embedding has {embed_dim} numbers "
                f"and the feature {feat_dim}. Set it to 'linear', or MODEL.HEADS.EMBEDDING_DIM 0."
            )
        self.mappings = nn.ModuleDict(
            {modality.label: _mapping(mapping, embed_dim, feat_dim) for modality in Modality}
        )

    def removed(self, embeddings: Tensor) -> Tensor:
        """Return phi_m(e^m) of both modalities, (2, D), from ``embeddings`` (2, E)."""
        with without_autocast(embeddings):
            rows = [self.mappings[m.label](embeddings[m]) for m in Modality]
        return torch.stack(rows)

    def forward(self, features: Tensor, embeddings: Tensor, modalities: Tensor) -> Tensor:
        """Return features (B, D) without what belongs to their modalities (B,)."""
        return features - of_modality(self.removed(embeddings), modalities)  # g = f - phi_m(e^m)


def _mapping(name: str, embed_dim: int, feat_dim: int) -> nn.Module:
    """Return phi of one modality with its initial weights."""
    if name == "identity":
        return nn.Identity()
    layer = nn.Linear(embed_dim, feat_dim, bias=name == "affine")
    nn.init.normal_(layer.weight, std=_STD)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def sizes(removal: ModalityRemoval, embeddings: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
    """Return the lengths of phi_m(e^m), visible and infrared, and of their difference, ()."""
    visible, infrared = removal.removed(embeddings)
    return visible.norm(), infrared.norm(), (visible - infrared).norm()
