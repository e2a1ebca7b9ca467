"""Recognize checkpoints that others published, by the names and shapes of their tensors."""

from .advice import advice_about, describe
from .file_names import FileName, read_file_name
from .networks import HCT, TWO_STREAM, Network, recognize
from .sources import SOURCES, Source, usual_source
from .two_stream import NameMap, map_names

__all__ = [
    "HCT",
    "SOURCES",
    "TWO_STREAM",
    "FileName",
    "NameMap",
    "Network",
    "Source",
    "advice_about",
    "describe",
    "map_names",
    "read_file_name",
    "recognize",
    "usual_source",
]
