"""Find the range of gray values of more than 8 bits from some images of a set."""

import logging
from collections import defaultdict
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from vireid_plugins.keys import value_of
from vireid_plugins.modality import Modality
from vireid_plugins.readers.gray_range import Limits, limits_in_words, limits_of
from vireid_plugins.readers.image import MAX_PIXELS, ImageError, sample_values

from fastreid.config import CfgNode
from fastreid.utils import comm

from .item import Item
from .reading import AUTO, RANGE_KEYS, ImageReader

logger = logging.getLogger(__name__)

_LOOKED_AT = 128  # files of each modality from which the range of a set is found
_VALUES = 4096  # gray values of each
_FEW_STEPS = 0.125  # warn if images use less than this share of the range
_DARK = 64  # upper bytes of 16-bit color stay below: 14 bits or fewer are used


class Survey(NamedTuple):
    """The gray values of some files of one modality."""

    looked_at: int
    num_wide: int  # gray of more than 8 bits
    limits: Limits  # of those; meaningless if there are none
    ends: Tuple[float, float]  # the lowest and the highest value of those
    num_color: int  # color of 16 bits per channel
    brightest: int  # of color of 16 bits: the highest upper byte

    def __str__(self) -> str:
        low, high = self.ends
        return (
            f"{self.num_wide} of {self.looked_at} images looked at are gray of more than 8 bits, "
            f"with values {low:g}..{high:g}"
        )


def survey(paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> Survey:
    """Return the gray values of some of ``paths``, evenly spread.

    Only gray images of more than 8 bits are decoded. Files that cannot be read are left out; the
    check of the images reports them.
    """
    step = max(1, -(-len(paths) // _LOOKED_AT))
    gray: List[np.ndarray] = []
    color: List[int] = []
    looked_at = 0
    for path in sorted(paths)[::step]:
        try:
            values, is_color = sample_values(path, _VALUES, max_pixels)
        except ImageError:
            continue
        looked_at += 1
        if is_color:
            color.append(int(values.max()))
        elif len(values):
            gray.append(values)
    joined = np.concatenate(gray) if gray else np.zeros(1, np.uint16)
    ends = (float(np.nanmin(joined)), float(np.nanmax(joined)))
    return Survey(looked_at, len(gray), limits_of(joined), ends, len(color), max(color, default=0))


def resolved_reader(cfg: CfgNode, items: Sequence[Item]) -> ImageReader:
    """Return the reader for training on ``items``: ``auto`` becomes the range of these images.

    The result is a function of the files alone, so all processes find the same. Where no image has
    more than 8 bits, ``auto`` stays open.

    Raises:
        UserError: a key has a value that is not allowed.
    """
    reader = ImageReader.from_config(cfg)
    limits = list(reader.limits)
    for modality, found in _surveys(reader, items).items():
        key = RANGE_KEYS[modality]
        if found.num_wide and value_of(cfg, key) == AUTO:
            limits[modality] = found.limits
            words = limits_in_words(found.limits)
            _say(f"{key} {AUTO}: {modality.label} training images: {found}. The key is now {words}")
    return reader._replace(limits=tuple(limits))


def check_set(
    train: Sequence[Item], test: Sequence[Item], base: Optional[ImageReader] = None
) -> Tuple[ImageReader, List[str]]:
    """Return the reader that ``auto`` becomes in a training, and what to say about it.

    Nothing is said about images of 8 bits.

    Args:
        train, test: items.
        base: the reader of a config; default: that of the default config.
    """
    base = base or ImageReader()
    found = _surveys(base, train)
    limits = list(base.limits)
    for modality, one in found.items():
        if one.num_wide and limits[modality] is None and modality not in base.by_file:
            limits[modality] = one.limits
    reader = base._replace(limits=tuple(limits))
    lines = []
    for what, surveys in (("training", found), ("test", _surveys(reader, test))):
        for modality, one in surveys.items():
            notes, warnings = opinion(reader, modality, one)
            lines += [f"In {what}, {line}." for line in notes + warnings]
    return reader, lines


def check_ranges_suit(reader: ImageReader, items: Sequence[Item], what: str) -> None:
    """Log the range of images of more than 8 bits, and warn if it does not suit them.

    Args:
        reader: reads the images.
        items: the images.
        what: a name for these images in the log, such as ``"Test"``.
    """
    for modality, found in _surveys(reader, items).items():
        notes, warnings = opinion(reader, modality, found)
        for line in notes:
            _say(f"{what}: {line}")
        for line in warnings:
            _say(f"{what}: {line}", logging.WARNING)


def opinion(reader: ImageReader, modality: Modality, found: Survey) -> Tuple[List[str], List[str]]:
    """Return notes and warnings about the range of images of one modality."""
    notes: List[str] = []
    warnings: List[str] = []
    label, key, limits = f"{modality.label} images", RANGE_KEYS[modality], reader.limits[modality]
    own = limits_in_words(found.limits)
    if found.num_wide and limits is None:
        line = f"{label}: {found}; each is scaled by its own range"
        if modality in reader.by_file:
            notes.append(line)
        else:
            warnings.append(f"{line}, because the model has none. {key} {own} would fit them all")
    elif found.num_wide and limits is not None:
        notes.append(f"{label}: {found}; {key} is {limits_in_words(limits)}")
        used = _overlap(limits, found.limits) / (limits[1] - limits[0])
        if used < _FEW_STEPS:
            warnings.append(
                f"{label}: they use {100 * used:.1f} % of {key} {limits_in_words(limits)}, so all "
                "of them look alike. Were they taken by a camera like that of the training images? "
                f"Their own range is {own}"
            )
    if found.num_color and found.brightest < _DARK:
        warnings.append(
            f"{label}: {found.num_color} of {found.looked_at} images looked at are color of 16 "
            "bits that use 14 bits or fewer, and are read as nearly black. Convert them to 8 bits "
            "per channel"
        )
    return notes, warnings


def _surveys(reader: ImageReader, items: Sequence[Item]) -> Dict[Modality, Survey]:
    paths: Dict[int, List[str]] = defaultdict(list)
    for item in items:
        paths[item.modality].append(item.path)
    return {m: survey(paths[m], reader.max_pixels) for m in Modality if paths[m]}


def _overlap(one: Limits, other: Limits) -> float:
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def _say(message: str, level: int = logging.INFO) -> None:
    if comm.is_main_process():
        logger.log(level, "%s.", message)
