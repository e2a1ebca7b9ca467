"""Files of pretrained weights: which are known, where they come from, and where they are kept.

``fetch("mobilenetv2")`` returns the path of a file that is complete and right.
"""

from .cache import Held, examine, fetch, fetch_from, fetch_url, held_path, weights_folder
from .catalog import CATALOG, PREFIX, Entry, entries_for, is_listed_name, lookup

__all__ = [
    "CATALOG",
    "Entry",
    "Held",
    "PREFIX",
    "entries_for",
    "examine",
    "fetch",
    "fetch_from",
    "fetch_url",
    "held_path",
    "is_listed_name",
    "lookup",
    "weights_folder",
]
