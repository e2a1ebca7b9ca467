"""Networks that make images of persons, and what they learn from, for methods that generate."""

from .decoder import Decoder
from .discriminator import Discriminator
from .encoder import PrototypeEncoder
from .erasing import RectangleDropout
from .feature_sets import FeatureSets, Vectors, feature_sets
from .hicmd_settings import Settings, build_id_pig
from .id_pig import ImageGeneration, Images
from .identity_path import Mix, deep_layers
from .pairs import Pairs, find_pairs
from .swaps import Codes, crossed, cycled, relit, restored

__all__ = [
    "Codes",
    "Decoder",
    "Discriminator",
    "FeatureSets",
    "ImageGeneration",
    "Images",
    "Mix",
    "Pairs",
    "PrototypeEncoder",
    "RectangleDropout",
    "Settings",
    "Vectors",
    "build_id_pig",
    "crossed",
    "cycled",
    "deep_layers",
    "feature_sets",
    "find_pairs",
    "relit",
    "restored",
]
