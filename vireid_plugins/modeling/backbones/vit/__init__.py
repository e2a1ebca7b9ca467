"""Vision transformers: tokens, positions, the names of published weights, networks of timm."""

from .positions import infer_grid, resize_positions
from .sequence import MODALITY_EMBEDDINGS, TokenSequence
from .stage import PatchEmbedding, TransformerStage
from .tokens import Tokens

__all__ = [
    "MODALITY_EMBEDDINGS",
    "PatchEmbedding",
    "TokenSequence",
    "Tokens",
    "TransformerStage",
    "infer_grid",
    "resize_positions",
]
