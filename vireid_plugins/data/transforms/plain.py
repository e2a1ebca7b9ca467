"""Transforms of pixels that stay where they are; ``geometric.py`` has those that move them.

Infrared images are stored with three equal channels. Each docstring says what its transform does to
visible and to infrared images; tests check what is said about equal channels.
"""

from typing import Sequence, Tuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as T

from vireid_plugins.keys import SWITCH, Key
from vireid_plugins.registry import TRANSFORM_REGISTRY

from fastreid.config import CfgNode

from .base import (
    AREA,
    MIN_ASPECT,
    PROBABILITY,
    Transform,
    check_rectangle,
    declare_augmentation,
    probability,
)

declare_augmentation("CJ")
declare_augmentation(
    "REA",
    Key("AREA", (0.02, 0.4), AREA, "smallest and largest share of the area that is erased"),
    Key("MIN_ASPECT", 0.3, MIN_ASPECT, "smallest ratio of height to width; largest: its inverse"),
)
declare_augmentation(
    "GREY",
    Key("ENABLED", False, SWITCH, "random grayscale: luminance in three equal channels"),
    Key("PROB", 0.1, PROBABILITY, "probability of random grayscale"),
    modalities=("visible",),
)


@TRANSFORM_REGISTRY.register()
class ColorJitter(Transform):
    """Random brightness, contrast, saturation and hue.

    Visible: all four. Infrared: brightness and contrast only; with three equal channels
    saturation and hue change nothing.
    """

    node = "CJ"

    def __init__(
        self, prob: float, brightness: float, contrast: float, saturation: float, hue: float
    ) -> None:
        jitter = T.ColorJitter(brightness, contrast, saturation, hue)
        super().__init__(
            T.RandomApply([jitter], p=prob),
            prob=prob,
            brightness=brightness,
            contrast=contrast,
            saturation=saturation,
            hue=hue,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "ColorJitter":
        node = cfg.INPUT.CJ
        prob = probability(cfg, cls.node)
        return cls(prob, node.BRIGHTNESS, node.CONTRAST, node.SATURATION, node.HUE)


@TRANSFORM_REGISTRY.register()
class RandomGray(Transform):
    """Put the luminance into all three channels.

    Visible: the color is lost. Infrared: nothing happens, so it is off there by default.
    """

    node = "GREY"

    def __init__(self, prob: float) -> None:
        super().__init__(T.RandomGrayscale(prob), prob=prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "RandomGray":
        return cls(probability(cfg, cls.node))


@TRANSFORM_REGISTRY.register()
class ToTensor(Transform):
    """Turn a PIL image into a tensor (3, H, W) float32 in 0..255, for both modalities."""

    def __init__(self) -> None:
        super().__init__(_to_tensor)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "ToTensor":
        return cls()


@TRANSFORM_REGISTRY.register()
class RandomErasing(Transform):
    """Fill a random rectangle with one color (Zhong et al., AAAI 2020).

    Visible: the color, by default the mean pixel, which the model normalizes to 0. Infrared: the
    same color; its channels differ, so equal channels are lost inside the rectangle until the
    model has normalized them.
    """

    node = "REA"

    def __init__(
        self,
        prob: float,
        area: Tuple[float, float] = (0.02, 0.4),
        min_aspect: float = 0.3,
        value: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        """Check and keep the settings.

        Args:
            prob: the probability of erasing.
            area: smallest and largest share of the image, 0..1.
            min_aspect: smallest ratio of height to width; the largest is its inverse.
            value: the value of each channel, 0..255.
        """
        check_rectangle("REA", area, min_aspect)
        fill = [float(v) for v in value]
        erase = T.RandomErasing(prob, tuple(area), (min_aspect, 1 / min_aspect), fill)
        shown = tuple(round(v, 1) for v in fill)
        super().__init__(erase, prob=prob, area=tuple(area), min_aspect=min_aspect, value=shown)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "RandomErasing":
        node = cfg.INPUT.REA
        return cls(probability(cfg, cls.node), tuple(node.AREA), node.MIN_ASPECT, node.VALUE)


def _to_tensor(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.permute(2, 0, 1).to(torch.float32).contiguous()
