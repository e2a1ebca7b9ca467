"""Pictures of what a model does."""

from .retrieval import (
    Match,
    Retrieval,
    Shot,
    draw_retrievals,
    save_retrieval_pictures,
    select_retrievals,
)

__all__ = [
    "Match",
    "Retrieval",
    "Shot",
    "draw_retrievals",
    "save_retrieval_pictures",
    "select_retrievals",
]
