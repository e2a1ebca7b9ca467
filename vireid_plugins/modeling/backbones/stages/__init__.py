"""The networks of ``MODEL.BACKBONE.NETWORK``: one adapter in one file for each."""

from . import (
    mobilenetv2,
    mobilenetv3,
    osnet,
    regnet,
    repvgg,
    resnest,
    resnet,
    resnext,
    shufflenetv2,
    timm_networks,
)
from .base import STAGES, Stage, Stages, find_network, register_network

__all__ = [
    "STAGES",
    "Stage",
    "Stages",
    "find_network",
    "mobilenetv2",
    "mobilenetv3",
    "osnet",
    "register_network",
    "regnet",
    "repvgg",
    "resnest",
    "resnet",
    "resnext",
    "shufflenetv2",
    "timm_networks",
]
