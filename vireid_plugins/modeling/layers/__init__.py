"""Layers that more than one paper uses."""

from .bam import BAM
from .cbam import CBAM, ChannelAttention, SpatialAttention
from .iwpam import IWPAM
from .non_local import NonLocal
from .stripes import split_stripes, stripe_heights, stripe_means, stripe_rows

__all__ = [
    "BAM",
    "CBAM",
    "IWPAM",
    "ChannelAttention",
    "NonLocal",
    "SpatialAttention",
    "split_stripes",
    "stripe_heights",
    "stripe_means",
    "stripe_rows",
]
