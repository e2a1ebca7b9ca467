"""Photographs, rankings and the style of figures, for the engine and for the plots."""

from .photos import Photo
from .retrieval import Match, Retrieval, select_retrievals
from .retrieval_page import draw_retrievals, save_retrieval_pictures

__all__ = [
    "Match",
    "Retrieval",
    "Photo",
    "draw_retrievals",
    "save_retrieval_pictures",
    "select_retrievals",
]
