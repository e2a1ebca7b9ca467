"""Transforms of the color channels: erasing, exchange, adaptive gray.

M. Ye, W. Ruan, B. Du, M. Z. Shou, "Channel Augmented Joint Learning for Visible-Infrared
Recognition", ICCV 2021; public code: mangye16/Cross-Modal-Re-ID-baseline.

The public code normalizes an image, (x - mean) / std, and works on the result. FastReID's model
normalizes the batch, so each step here normalizes, works, and goes back to the scale of the batch:
after the model's normalization the image equals that of the public code. ``MODEL.PIXEL_MEAN`` and
``PIXEL_STD`` give both. A pixel may leave 0..255 on the way back (about -18 to 278 with ImageNet's
statistics) and is not clipped, as in the public code.

In that space the three channels of an infrared image differ, by the channels' means and
deviations: copying one over the others, or gray, changes its brightness and contrast a little.
In 0..255 the three are equal, so copying one does nothing, and gray only multiplies by 0.9999, the
sum of the weights of luminance.

Each step is a draw, which takes from Python's generator the numbers that the public code takes, in
its order, and an operation. Images have H x W pixels.
"""

import math
import random
from enum import IntEnum
from typing import Any, Optional, Sequence, Tuple

import torch
from torch import Tensor

from vireid_plugins.keys import SWITCH, Key, any_number, between, check_values, each
from vireid_plugins.modality import Modality
from vireid_plugins.registry import TRANSFORM_REGISTRY

from fastreid.config import CfgNode

from .base import (
    AREA,
    MIN_ASPECT,
    PROBABILITY,
    Picture,
    Transform,
    check_rectangle,
    declare_augmentation,
    probability,
)

Box = Tuple[int, int, int, int]  # first row, first column, height, width

_ATTEMPTS = 100
_LUMINANCE_WEIGHTS = (0.2989, 0.5870, 0.1140)
_FILL = each(any_number("it may lie outside the scale of an image"), count=3)

declare_augmentation(
    "CHANNEL_ERASING",
    Key("ENABLED", False, SWITCH, "channel random erasing of CAJ, in normalized space"),
    Key("PROB", 0.5, PROBABILITY, "probability of channel random erasing"),
    Key("INFRARED_PROB", -1.0, between(-1, 1), "probability for infrared images; negative: PROB"),
    Key("AREA", (0.02, 0.4), AREA, "smallest and largest share of the area that is erased"),
    Key("MIN_ASPECT", 0.3, MIN_ASPECT, "smallest ratio of height to width; largest: its inverse"),
    Key("VALUE", (0.4914, 0.4822, 0.4465), _FILL, "color of the rectangle, in normalized space"),
    Key("PER_CHANNEL", False, SWITCH, "a rectangle for each channel (paper); False: one (code)"),
)
declare_augmentation(
    "CHANNEL_EXCHANGE",
    Key("ENABLED", False, SWITCH, "channel exchange of CAJ: copy one random channel to all three"),
    Key("PROB", 1.0, PROBABILITY, "probability of an exchange"),
    Key("GREY", False, SWITCH, "luminance is a fourth choice beside the three channels"),
    modalities=("visible",),
)
declare_augmentation(
    "ADAPTIVE_GREY",
    Key("ENABLED", False, SWITCH, "CAJ, infrared: one random channel (3 of 4), or luminance"),
    Key("PROB", 0.5, PROBABILITY, "probability of luminance in the fourth of these cases"),
    modalities=("infrared",),
)


class Source(IntEnum):
    """What is put into all three channels."""

    RED = 0
    GREEN = 1
    BLUE = 2
    LUMINANCE = 3


def draw_box(
    height: int, width: int, area: Tuple[float, float], min_aspect: float
) -> Optional[Box]:
    """Draw a rectangle inside ``height`` x ``width`` pixels; return None if no attempt fits.

    Args:
        area: smallest and largest share of the image, 0..1.
        min_aspect: smallest ratio of height to width; the largest is its inverse.
    """
    for _ in range(_ATTEMPTS):
        pixels = random.uniform(*area) * (height * width)
        aspect = random.uniform(min_aspect, 1 / min_aspect)
        rows = int(round(math.sqrt(pixels * aspect)))
        columns = int(round(math.sqrt(pixels / aspect)))
        if rows < height and columns < width:
            top = random.randint(0, height - rows)
            return top, random.randint(0, width - columns), rows, columns
    return None


def erase(image: Tensor, boxes: Sequence[Optional[Box]], value: Sequence[float]) -> Tensor:
    """Return a copy of ``image`` (3, H, W) with a rectangle of each channel filled.

    Args:
        boxes: one rectangle for each channel; None: that channel stays as it is.
        value: one value for each channel.
    """
    image = image.clone()
    for channel, box, fill in zip(image, boxes, value):
        if box is not None:
            top, left, height, width = box
            channel[top : top + height, left : left + width] = fill
    return image


def one_channel(image: Tensor, source: Source) -> Tensor:
    """Return a copy of ``image`` (3, H, W) with ``source`` in all three channels."""
    if source == Source.LUMINANCE:
        red, green, blue = _LUMINANCE_WEIGHTS
        chosen = red * image[0] + green * image[1] + blue * image[2]
    else:
        chosen = image[source]
    return chosen.expand_as(image).clone()


class NormalizedTransform(Transform):
    """A random step on the normalized image; the input is not changed.

    Args:
        mean, std: mean and deviation of the three channels, in 0..255.
        described: the settings that the log shows.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **described: Any) -> None:
        super().__init__(self._run, **described)
        self.mean, self.std = (
            torch.tensor(list(v), dtype=torch.float32).view(3, 1, 1) for v in (mean, std)
        )

    def draw(self, height: int, width: int) -> Any:
        """Draw what to do to an image of this size; return None to leave it as it is."""
        raise NotImplementedError

    def operate(self, image: Tensor, drawn: Any) -> Tensor:
        """Do what was drawn to a normalized image (3, H, W)."""
        raise NotImplementedError

    def _run(self, picture: Picture) -> Tensor:
        drawn = self.draw(*picture.shape[1:])
        if drawn is None:
            return picture
        return self.operate((picture - self.mean) / self.std, drawn) * self.std + self.mean


@TRANSFORM_REGISTRY.register()
class ChannelErasing(NormalizedTransform):
    """Fill a random rectangle with ``value``, given in normalized space.

    Visible and infrared: the same; afterwards the channels of both differ in the rectangle.

    Args:
        prob: the probability of erasing in an image.
        infrared_prob: the same for infrared images.
        area: smallest and largest share of the image, 0..1.
        min_aspect: smallest ratio of height to width; the largest is its inverse.
        value: the value of each channel. The default, as in the public code, is about
            (152, 144, 129) in 0..255; the mean pixel, which the paper's text names, is (0, 0, 0).
        per_channel: each channel has a rectangle of its own (the paper); False: one rectangle for
            all channels (the public code).
    """

    node = "CHANNEL_ERASING"

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        prob: float = 0.5,
        infrared_prob: Optional[float] = None,
        area: Tuple[float, float] = (0.02, 0.4),
        min_aspect: float = 0.3,
        value: Sequence[float] = (0.4914, 0.4822, 0.4465),
        per_channel: bool = False,
    ) -> None:
        check_rectangle("CHANNEL_ERASING", area, min_aspect)
        check_values("INPUT.CHANNEL_ERASING", VALUE=tuple(value))
        shown = dict(prob=prob, area=tuple(area), min_aspect=min_aspect, value=tuple(value))
        super().__init__(mean, std, **shown, per_channel=per_channel)
        self.prob = prob
        self.area, self.min_aspect = (area[0], area[1]), min_aspect
        self.value, self.per_channel = tuple(value), per_channel
        self._infrared: ChannelErasing = self
        if infrared_prob is not None and infrared_prob != prob:
            self._infrared = ChannelErasing(
                mean, std, infrared_prob, None, area, min_aspect, value, per_channel
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "ChannelErasing":
        node, prob = cfg.INPUT[cls.node], probability(cfg, cls.node)
        check_values("INPUT.CHANNEL_ERASING", INFRARED_PROB=node.INFRARED_PROB)
        infrared_prob = prob if node.INFRARED_PROB < 0 else node.INFRARED_PROB
        return cls(
            cfg.MODEL.PIXEL_MEAN,
            cfg.MODEL.PIXEL_STD,
            prob,
            infrared_prob,
            tuple(node.AREA),
            node.MIN_ASPECT,
            node.VALUE,
            node.PER_CHANNEL,
        )

    def for_modality(self, modality: Modality) -> "ChannelErasing":
        return self._infrared if modality == Modality.INFRARED else self

    def draw(self, height: int, width: int) -> Optional[Tuple[Optional[Box], ...]]:
        """Draw the rectangle of each channel."""
        if random.uniform(0, 1) > self.prob:
            return None
        if self.per_channel:
            return tuple(draw_box(height, width, self.area, self.min_aspect) for _ in range(3))
        return (draw_box(height, width, self.area, self.min_aspect),) * 3

    def operate(self, image: Tensor, drawn: Tuple[Optional[Box], ...]) -> Tensor:
        return erase(image, drawn, self.value)


@TRANSFORM_REGISTRY.register()
class ChannelExchange(NormalizedTransform):
    """Copy one channel over the two others; each channel is equally likely.

    Visible: the color is lost, and only red, green or blue light is left. Infrared: brightness
    and contrast change a little, and the normalized channels become equal.

    Args:
        prob: the probability of an exchange.
        gray: luminance is a fourth choice, as likely as each channel (gray=3 in the public code).
    """

    node = "CHANNEL_EXCHANGE"

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], prob: float = 1.0, gray: bool = False
    ) -> None:
        super().__init__(mean, std, prob=prob, gray=gray)
        self.prob, self.gray = prob, gray

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "ChannelExchange":
        prob, gray = probability(cfg, cls.node), cfg.INPUT[cls.node].GREY
        return cls(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, prob, gray)

    def draw(self, height: int, width: int) -> Optional[Source]:
        """Draw what takes the place of all channels."""
        # Nothing is drawn where nothing is left to chance, as in the public code.
        if self.prob < 1 and random.uniform(0, 1) > self.prob:
            return None
        return Source(random.randint(0, Source.LUMINANCE if self.gray else Source.BLUE))

    def operate(self, image: Tensor, drawn: Source) -> Tensor:
        return one_channel(image, drawn)


@TRANSFORM_REGISTRY.register()
class ChannelAdaptiveGray(NormalizedTransform):
    """Put red, green, blue, or (with ``prob``) luminance into all channels, a quarter each.

    This is the public code's step for infrared images. Infrared: brightness and contrast change a
    little, and the normalized channels become equal. Visible: the color is lost.

    Args:
        prob: the probability of luminance in the fourth case; otherwise the image stays as it is.
    """

    node = "ADAPTIVE_GREY"

    def __init__(self, mean: Sequence[float], std: Sequence[float], prob: float = 0.5) -> None:
        super().__init__(mean, std, prob=prob)
        self.prob = prob

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "ChannelAdaptiveGray":
        return cls(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, probability(cfg, cls.node))

    def draw(self, height: int, width: int) -> Optional[Source]:
        """Draw what takes the place of all channels."""
        source = Source(random.randint(0, Source.LUMINANCE))
        if source == Source.LUMINANCE and random.uniform(0, 1) > self.prob:
            return None
        return source

    def operate(self, image: Tensor, drawn: Source) -> Tensor:
        return one_channel(image, drawn)
