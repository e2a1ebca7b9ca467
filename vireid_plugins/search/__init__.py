"""Search in folders of your own images by the features of a trained model."""

from .build import IndexingSummary, index_folder
from .calibration import calibrate
from .index import Hits, SearchIndex
from .picture import GridRow, draw_grid
from .querying import Query, search_images
from .threshold import Calibration

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
