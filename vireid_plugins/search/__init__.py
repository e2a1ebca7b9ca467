"""Search in folders of one's own images by the features of a trained model."""

from .build import IndexingSummary, index_folder
from .calibration import Calibration, calibrate
from .index import Hits, SearchIndex
from .picture import GridRow, draw_grid
from .querying import Query, search_images

__all__ = [
    "Calibration",
    "GridRow",
    "Hits",
    "IndexingSummary",
    "Query",
    "SearchIndex",
    "calibrate",
    "draw_grid",
    "index_folder",
    "search_images",
]
