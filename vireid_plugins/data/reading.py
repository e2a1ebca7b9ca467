"""Read images as a config says: the range of gray values, and the largest size in pixels.

Ordinary images of 8 bits are read as they are. Gray of more bits, as thermal cameras write it, is
scaled by ``INPUT.INFRARED_RANGE`` or ``INPUT.VISIBLE_RANGE``. ``auto`` is resolved once, from the
training images; the numbers take its place in the config of the run and in its checkpoints, so
training, evaluation, export, search and ``FeatureExtractor`` see the same pixels.
"""

import logging
from typing import Any, Callable, Dict, Iterable, Mapping, NamedTuple, Optional, Tuple

from PIL import Image

from vireid_plugins.errors import UserError
from vireid_plugins.keys import Key, Rule, at_least, check_values, declare, value_of, with_values
from vireid_plugins.modality import Modality
from vireid_plugins.readers.gray_range import FULL, Limits, limits_in_words, parse_limits
from vireid_plugins.readers.image import MAX_PIXELS, read_image, upright_rgb

from fastreid.config import CfgNode

from .item import Item

logger = logging.getLogger(__name__)

AUTO, FILE = "auto", "file"
_RANGE = Rule(
    f"{AUTO!r}, {FILE!r} or two numbers as 'LOW..HIGH'",
    lambda value: (
        isinstance(value, str) and (value in (AUTO, FILE) or parse_limits(value) is not None)
    ),
)
_MEANING = (
    "gray values of {} images of more than 8 bits that become 0 and 255; auto: found in the "
    "training set; file: in each file"
)

declare(
    "INPUT",
    Key("MAX_PIXELS", MAX_PIXELS, at_least(1), "height x width of the largest image to decode"),
    Key("INFRARED_RANGE", AUTO, _RANGE, _MEANING.format("infrared")),
    Key("VISIBLE_RANGE", AUTO, _RANGE, _MEANING.format("visible")),
)
#: the key of each modality, and the fact of a checkpoint that holds its value
RANGE_KEYS = {m: f"INPUT.{m.name}_RANGE" for m in Modality}
#: the keys by which images are read; ``restore_ranges`` says what differs from the training
READER_KEYS = ("INPUT.MAX_PIXELS", *RANGE_KEYS.values())
_FACTS = {m: f"{m.label}_range" for m in Modality}
_BEFORE_RANGES = limits_in_words(FULL)  # how checkpoints without these facts were trained


class ImageReader(NamedTuple):
    """``reader(path, modality)`` returns an upright 8-bit RGB image; see ``read_image``.

    A ``modality`` of None, or one without limits, scales gray of more than 8 bits by the range of
    the file itself.
    """

    limits: Tuple[Optional[Limits], ...] = (None,) * len(Modality)  # of visible, infrared
    max_pixels: int = MAX_PIXELS
    by_file: Tuple[Modality, ...] = ()  # the modalities for which a user chose ``file``

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ImageReader":
        """Return the reader of a config; ``auto`` that is not resolved yet means ``file``.

        Raises:
            UserError: a key has a value that is not allowed.
        """
        words = {f"{m.name}_RANGE": value_of(cfg, RANGE_KEYS[m]) for m in Modality}
        check_values("INPUT", MAX_PIXELS=cfg.INPUT.MAX_PIXELS, **words)
        chosen = tuple(m for m in Modality if value_of(cfg, RANGE_KEYS[m]) == FILE)
        return cls(tuple(map(parse_limits, words.values())), int(cfg.INPUT.MAX_PIXELS), chosen)

    def __call__(self, path: str, modality: Optional[Modality] = None) -> Image.Image:
        """Read a file.

        Raises:
            ImageError: as ``read_image``.
        """
        return read_image(path, self.limits_of(modality), self.max_pixels)

    def for_items(self, items: Iterable[Item]) -> Callable[[str], Image.Image]:
        """Return a function that reads the image of an item, given its path."""
        modalities = {item.path: Modality(item.modality) for item in items}
        return lambda path: self(path, modalities[path])

    def convert(self, image: Image.Image, modality: Optional[Modality] = None) -> Image.Image:
        """Convert a PIL image as the image of a file is converted.

        Raises:
            UserError: as ``upright_rgb``.
        """
        return upright_rgb(image, self.limits_of(modality))

    def limits_of(self, modality: Optional[Modality]) -> Optional[Limits]:
        """Return the limits of a modality; None: those of each file."""
        return None if modality is None else self.limits[modality]

    @property
    def fingerprint(self) -> str:
        """Return text that differs for readers whose images differ; empty for 0..65535."""
        return "" if set(self.limits) == {FULL} else repr(self.limits)

    def describe(self, modality: Modality) -> str:
        """Return text that describes the range of a modality, for the key of a cache."""
        limits = self.limits_of(modality)
        return FILE if limits is None else limits_in_words(limits)

    def known_ranges(self) -> Dict[str, str]:
        """Return the ranges that are known or were asked for, in words, by modality in words."""
        known = [m for m in Modality if self.limits[m] is not None or m in self.by_file]
        return {m.label: self.describe(m) for m in known}


def is_open_range(key: str, value: Any) -> bool:
    """Return whether a key is a range that is not resolved yet; the training images decide it."""
    return key in RANGE_KEYS.values() and value == AUTO


def with_ranges(cfg: CfgNode, reader: Optional[ImageReader]) -> CfgNode:
    """Return ``cfg`` with the ranges of ``reader`` in the place of ``auto``; a frozen copy.

    Without a reader, and if nothing changes, ``cfg`` itself is returned.
    """
    found = {
        key: limits_in_words(limits)
        for (_, key), limits in zip(RANGE_KEYS.items(), reader.limits if reader else ())
        if limits is not None and value_of(cfg, key) == AUTO
    }
    return with_values(cfg, found)


def range_facts(cfg: CfgNode) -> Dict[str, str]:
    """Return the ranges that ``cfg`` reads images by, for its checkpoints."""
    return {_FACTS[modality]: value_of(cfg, key) for modality, key in RANGE_KEYS.items()}


def restore_ranges(
    cfg: CfgNode, facts: Mapping[str, Any], weights: str, given: Iterable[str] = ()
) -> None:
    """Set ``auto`` ranges to those that a checkpoint was trained with.

    Args:
        cfg: changed in place.
        facts: the facts in the checkpoint.
        weights: path of the checkpoint, for the message.
        given: config keys that the user set; they are not replaced.
    """
    for modality, key in RANGE_KEYS.items():
        trained, asked = facts.get(_FACTS[modality], _BEFORE_RANGES), value_of(cfg, key)
        if not (isinstance(trained, str) and _RANGE.allows(trained)):
            raise UserError(
                f"{weights}: its fact {_FACTS[modality]!r} is {trained!r}; expected "
                f"{_RANGE.words}. The file is damaged, or another program wrote it."
            )
        if asked == AUTO and key not in given:
            cfg.merge_from_list([key, trained])
        elif asked != trained and trained not in (AUTO, FILE):
            logger.warning("%s is %s, and %s was trained with %s.", key, asked, weights, trained)
