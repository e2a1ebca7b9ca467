"""What every transform is, and what transforms share: the keys of an augmentation, their checks."""

from typing import Any, Callable, ClassVar, Sequence, Tuple

from torch import Tensor

from vireid_plugins.errors import UserError
from vireid_plugins.keys import (
    Key,
    Rule,
    above,
    at_least,
    between,
    check_values,
    declare,
    each,
    whole,
)
from vireid_plugins.modality import MODALITY, Modality

from fastreid.config import CfgNode

Picture = Any  # a PIL image of mode RGB up to ToTensor, from then on a tensor (3, H, W)

BOTH = ("visible", "infrared")
PROBABILITY = between(0, 1)
AREA = each(above(0, at_most=1), count=2)
MIN_ASPECT = above(0, at_most=1)
EPOCHS = Rule(
    "empty, or 2 epochs from 0 in ascending order",
    lambda value: (
        isinstance(value, (list, tuple))
        and (len(value) == 0 or each(whole(at_least(0)), count=2, ascending=True).allows(value))
    ),
)


def declare_augmentation(name: str, *keys: Key, modalities: Sequence[str] = BOTH) -> None:
    """Declare the keys of ``INPUT.<name>``: the given keys, and the images that it applies to."""
    declare(
        f"INPUT.{name}",
        *keys,
        Key("MODALITIES", tuple(modalities), each(MODALITY), "images that it applies to"),
        Key(
            "VIEWS",
            (),
            each(whole(at_least(0))),
            "views of these images, from 0, that it applies to; empty: all",
        ),
        Key(
            "EPOCHS",
            (),
            EPOCHS,
            "first epoch of it, and first epoch without it again, from 0; empty: all",
        ),
        features=False,
    )


class Transform:
    """One step of a chain, which takes a picture and returns a picture.

    ``node`` names the augmentation's node in ``INPUT``; a step without one is always on, for both
    modalities.
    """

    node: ClassVar[str] = ""
    #: the first epoch in which the step is taken, and the first one after those; empty: always
    epochs: Tuple[int, ...] = ()

    def __init__(self, apply: Callable[[Picture], Picture], **described: Any) -> None:
        self._apply = apply
        self._described = described

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> "Transform":
        """Build the step from ``cfg.INPUT``."""
        raise NotImplementedError

    def for_modality(self, modality: Modality) -> "Transform":
        """Return the step for images of ``modality``; most steps are the same for both."""
        return self

    def is_taken(self, epoch: int) -> bool:
        """Return whether the step is taken in ``epoch``, from 0."""
        return not self.epochs or self.epochs[0] <= epoch < self.epochs[1]

    def __call__(self, picture: Picture) -> Picture:
        return self._apply(picture)

    def with_points(self, picture: Picture, points: Tensor) -> Tuple[Picture, Tensor]:
        """Return what a call returns, and the key points (17, 3) of the result.

        Here they stay where they are; a step that moves pixels overrides it.
        """
        return self(picture), points

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value}" for name, value in self._described.items())
        when = f" in epochs {self.epochs[0]} to {self.epochs[1] - 1}" if self.epochs else ""
        return f"{type(self).__name__}({inside}){when}"


def check_rectangle(node: str, area: Sequence[float], min_aspect: float) -> None:
    """Check ``AREA`` and ``MIN_ASPECT`` of ``INPUT.<node>``.

    Raises:
        UserError: a value is not allowed, or the smallest share is above the largest.
    """
    check_values(f"INPUT.{node}", AREA=tuple(area), MIN_ASPECT=min_aspect)
    if area[0] > area[1]:
        raise UserError(f"INPUT.{node}.AREA is {tuple(area)}; expected the smaller share first.")


def probability(cfg: CfgNode, node: str) -> float:
    """Return ``INPUT.<node>.PROB``, which must be in 0..1."""
    prob = float(cfg.INPUT[node].PROB)
    check_values(f"INPUT.{node}", PROB=prob)
    return prob


def image_size(cfg: CfgNode, is_train: bool) -> Tuple[int, int]:
    """Return ``INPUT.SIZE_TRAIN`` or ``INPUT.SIZE_TEST``, (H, W) in pixels, checked."""
    key = "SIZE_TRAIN" if is_train else "SIZE_TEST"
    size: Any = tuple(cfg.INPUT[key])
    check_values("INPUT", **{key: size})
    return int(size[0]), int(size[1])
