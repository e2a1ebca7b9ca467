"""Transforms that move the pixels of an image, and the key points with them.

Infrared images are stored with three equal channels, and the pixels of both modalities are moved in
the same way. A step looks ahead at what it will draw, so an image with key points becomes, bit for
bit, what it becomes without them.
"""

import math
from contextlib import contextmanager
from typing import Iterator, Optional, Sequence, Tuple

import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode

from vireid_plugins.keypoints import Motion, Size, moved
from vireid_plugins.keys import SWITCH, Key, check_values, declare, one_of
from vireid_plugins.registry import TRANSFORM_REGISTRY

from fastreid.config import CfgNode

from .base import PROBABILITY, Picture, Transform, declare_augmentation, image_size, probability

#: Pillow's ways to resize an image, by their names in torchvision
INTERPOLATIONS = ("bicubic", "lanczos", "bilinear", "hamming", "box", "nearest")

declare(
    "INPUT",
    Key(
        "INTERPOLATION",
        "bicubic",
        one_of(*INTERPOLATIONS),
        "how Pillow resizes images, in training and in tests (AGW's code: lanczos)",
    ),
)
declare_augmentation("FLIP")
declare_augmentation("PADDING")
declare_augmentation(
    "TRIVIAL_AUGMENT",
    Key("ENABLED", False, SWITCH, "TrivialAugmentWide: a random operation at a random strength"),
    Key("PROB", 1.0, PROBABILITY, "probability of TrivialAugmentWide"),
)


class Geometric(Transform):
    """A step that moves pixels of a PIL image."""

    def motion(self, size: Size) -> Optional[Motion]:
        """Return where the next call will put the pixels of an image of ``size``; None: nowhere.

        Nothing is drawn: the random numbers of the call are read and put back.
        """
        with _looking_ahead():
            return self.draw_motion(size)

    def draw_motion(self, size: Size) -> Optional[Motion]:
        """Return what ``motion`` returns, after drawing the numbers that a call draws."""
        raise NotImplementedError

    def with_points(self, picture: Picture, points: Tensor) -> Tuple[Picture, Tensor]:
        motion = self.motion((picture.height, picture.width))
        return self(picture), points if motion is None else moved(points, motion)


@contextmanager
def _looking_ahead() -> Iterator[None]:
    """Put the random numbers that are drawn inside the block back."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


@TRANSFORM_REGISTRY.register()
class TrivialAugment(Geometric):
    """torchvision's ``TrivialAugmentWide``: one of 14 operations at a random strength.

    Visible: shape, brightness, contrast, sharpness, color and tone change. Infrared: the same
    except that *Color* does nothing; the channels stay equal.
    """

    node = "TRIVIAL_AUGMENT"

    def __init__(self, prob: float) -> None:
        self._augment = T.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR)
        self._prob = prob
        super().__init__(T.RandomApply([self._augment], p=prob), prob=prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "TrivialAugment":
        return cls(probability(cfg, cls.node))

    def draw_motion(self, size: Size) -> Optional[Motion]:
        if self._prob < torch.rand(1):
            return None
        operations = self._augment._augmentation_space(self._augment.num_magnitude_bins)
        name = list(operations)[int(torch.randint(len(operations), (1,)))]
        magnitudes, signed = operations[name]
        strength = 0.0
        if magnitudes.ndim:
            strength = float(magnitudes[int(torch.randint(len(magnitudes), (1,)))])
        sign = -1.0 if signed and bool(torch.randint(2, (1,))) else 1.0
        return _trivial_motion(name, sign * strength, size)


def _trivial_motion(name: str, strength: float, size: Size) -> Optional[Motion]:
    """Return the motion of an operation of TrivialAugment; None: it moves no pixel.

    Args:
        name: its name in torchvision.
        strength: its magnitude there, with its sign.
        size: of the image; it does not change.
    """
    height, width = size
    turned = math.radians(strength)
    cos, sin = math.cos(turned), math.sin(turned)
    x, y = width / 2, height / 2
    matrices = {
        "ShearX": ((1.0, -strength, 0.0), (0.0, 1.0, 0.0)),
        "ShearY": ((1.0, 0.0, 0.0), (-strength, 1.0, 0.0)),
        "TranslateX": ((1.0, 0.0, float(int(strength))), (0.0, 1.0, 0.0)),
        "TranslateY": ((1.0, 0.0, 0.0), (0.0, 1.0, float(int(strength)))),
        "Rotate": (  # against the clock, around the middle
            (cos, sin, x - cos * x - sin * y),
            (-sin, cos, y + sin * x - cos * y),
        ),
    }
    return Motion(matrices[name], size) if name in matrices else None


@TRANSFORM_REGISTRY.register()
class Resize(Geometric):
    """Resize to (height, width) pixels, whatever the aspect ratio, for both modalities.

    The result has 8 bits, and equals that of Pillow's ``Image.resize`` bit for bit. An image that
    has this size already is not changed.

    Raises:
        UserError: ``by`` is not one of ``INTERPOLATIONS``.
    """

    def __init__(self, size: Sequence[int], by: str = "bicubic") -> None:
        check_values("INPUT", INTERPOLATION=by)
        self.size: Size = (int(size[0]), int(size[1]))
        super().__init__(T.Resize(list(size), InterpolationMode(by)), size=tuple(size), by=by)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "Resize":
        return cls(image_size(cfg, is_train), cfg.INPUT.INTERPOLATION)

    def draw_motion(self, size: Size) -> Optional[Motion]:
        return Motion.scale(size, self.size)


@TRANSFORM_REGISTRY.register()
class PadCrop(Geometric):
    """Pad every side and cut the former size out at a random place, for both modalities.

    ``mode`` "constant" pads with black, as AGW does; torchvision's other modes are "edge",
    "reflect" and "symmetric".
    """

    node = "PADDING"

    def __init__(self, size: Sequence[int], padding: int, mode: str = "constant") -> None:
        self._size: Size = (int(size[0]), int(size[1]))
        self._padding = int(padding)
        steps = [T.Pad(padding, fill=0, padding_mode=mode), T.RandomCrop(list(size))]
        super().__init__(T.Compose(steps), padding=padding, mode=mode)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "PadCrop":
        return cls(image_size(cfg, is_train), cfg.INPUT.PADDING.SIZE, cfg.INPUT.PADDING.MODE)

    def draw_motion(self, size: Size) -> Optional[Motion]:
        wide = [side + 2 * self._padding for side in size]
        padded = Image.new("L", (wide[1], wide[0]))  # torchvision looks at nothing but its size
        top, left, _, _ = T.RandomCrop.get_params(padded, self._size)
        return Motion.shift(self._padding - left, self._padding - top, self._size)


@TRANSFORM_REGISTRY.register()
class RandomFlip(Geometric):
    """Mirror left and right, for both modalities."""

    node = "FLIP"

    def __init__(self, prob: float) -> None:
        self._prob = prob
        super().__init__(T.RandomHorizontalFlip(prob), prob=prob)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "RandomFlip":
        return cls(probability(cfg, cls.node))

    def draw_motion(self, size: Size) -> Optional[Motion]:
        return Motion.mirror(size) if torch.rand(1) < self._prob else None
