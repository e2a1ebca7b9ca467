"""Cut the persons out of a video of a fixed camera, and measure models on them."""

from .cut import Cut, cut_video, read_cut
from .figure import write_rank1
from .measure import Row, check_words, measure, read_persons
from .table import table

__all__ = [
    "Cut",
    "Row",
    "check_words",
    "cut_video",
    "measure",
    "read_cut",
    "read_persons",
    "table",
    "write_rank1",
]
