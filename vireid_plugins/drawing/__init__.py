"""Pictures of what a model does."""

from .retrieval import Match, Retrieval, select_retrievals
from .retrieval_page import draw_retrievals, save_retrieval_pictures
from .shots import Shot

__all__ = [
    "Match",
    "Retrieval",
    "Shot",
    "draw_retrievals",
    "save_retrieval_pictures",
    "select_retrievals",
]
