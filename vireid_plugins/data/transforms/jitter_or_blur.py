"""Brightness and contrast, or blur: what PMT's public code does to infrared images.

H. Lu, X. Zou, P. Zhang, "Learning Progressive Modality-Shared Transformers for Effective
Visible-Infrared Person Re-identification", AAAI 2023; public code: hulu88/PMT.
"""

from typing import Any, Dict, Sequence, Tuple

from torchvision import transforms as T

from vireid_plugins.errors import UserError
from vireid_plugins.keys import SWITCH, Key, Rule, above, between, check_values, each, is_number
from vireid_plugins.registry import TRANSFORM_REGISTRY

from fastreid.config import CfgNode

from .base import PROBABILITY, Transform, declare_augmentation, image_size, probability

ODD = Rule("an odd number from 3 on", lambda v: is_number(v) and v >= 3 and v % 2 == 1)
SIGMA = each(above(0, at_most=1000), count=2)

declare_augmentation(
    "JITTER_OR_BLUR",
    Key("ENABLED", False, SWITCH, "brightness and contrast, or Gaussian blur (PMT, infrared)"),
    Key("PROB", 1.0, PROBABILITY, "probability of one of the two"),
    Key("BRIGHTNESS", 0.3, between(0, 1), "largest change of brightness, a share"),
    Key("CONTRAST", 0.3, between(0, 1), "largest change of contrast, a share"),
    Key("KERNEL", 21, ODD, "width of the blur's kernel, pixels"),
    Key("SIGMA", (0.1, 3.0), SIGMA, "smallest and largest deviation of the blur, pixels"),
    modalities=("infrared",),
)


@TRANSFORM_REGISTRY.register()
class JitterOrBlur(Transform):
    """Change brightness and contrast, or blur; both are equally likely (PMT's public code).

    Visible and infrared: the same; equal channels stay equal.

    Args:
        size: (H, W), pixels.
        prob: the probability that one of the two happens.
        brightness, contrast: largest changes, shares of 1.
        kernel: width of the Gaussian kernel, an odd number of pixels.
        sigma: smallest and largest deviation of the kernel, pixels.

    Raises:
        UserError: the kernel is too wide for the images, or a value is not allowed.
    """

    node = "JITTER_OR_BLUR"

    def __init__(
        self,
        size: Sequence[int],
        prob: float = 1.0,
        brightness: float = 0.3,
        contrast: float = 0.3,
        kernel: int = 21,
        sigma: Tuple[float, float] = (0.1, 3.0),
    ) -> None:
        shown: Dict[str, Any] = dict(brightness=brightness, contrast=contrast, kernel=kernel)
        shown["sigma"] = tuple(sigma)
        check_values("INPUT.JITTER_OR_BLUR", **{name.upper(): v for name, v in shown.items()})
        if sigma[0] > sigma[1]:
            raise UserError(
                f"INPUT.JITTER_OR_BLUR.SIGMA is {tuple(sigma)}; expected the smaller one first."
            )
        if kernel // 2 >= min(size):  # the border is mirrored
            raise UserError(
                f"INPUT.JITTER_OR_BLUR.KERNEL is {kernel}, too wide for images of {tuple(size)} "
                f"pixels (INPUT.SIZE_TRAIN): expected an odd number up to {2 * min(size) - 1}."
            )
        steps = [
            T.ColorJitter(brightness=brightness, contrast=contrast),
            T.GaussianBlur(kernel, sigma=(sigma[0], sigma[1])),
        ]
        apply = T.RandomChoice(steps)
        # Nothing is drawn where nothing is left to chance, as in the public code.
        super().__init__(apply if prob == 1 else T.RandomApply([apply], p=prob), prob=prob, **shown)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "JitterOrBlur":
        node = cfg.INPUT[cls.node]
        return cls(
            image_size(cfg, is_train),
            probability(cfg, cls.node),
            node.BRIGHTNESS,
            node.CONTRAST,
            node.KERNEL,
            tuple(node.SIGMA),
        )
