"""The networks of ``MODEL.BACKBONE.NETWORK``: one adapter in one file for each."""

from . import mobilenetv2, resnet, shufflenetv2
from .base import STAGES, Stage, Stages, find_network, register_network

__all__ = [
    "STAGES",
    "Stage",
    "Stages",
    "find_network",
    "mobilenetv2",
    "register_network",
    "resnet",
    "shufflenetv2",
]
